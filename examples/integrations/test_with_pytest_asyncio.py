"""Tests that pytest-asyncio runs; `conftest.py` asks for FlexiFlow's fixtures."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from held import held

from flexiflow import Background, EventBus
from flexiflow.testing import Recorded


@pytest_asyncio.fixture
async def background(bus: EventBus) -> AsyncIterator[Background]:
    """Give a background, which has tasks.

    pytest-asyncio runs what is before the `yield` in one task, and what is behind it in another.
    """
    async with held(bus.background(limit=2)) as background:
        yield background


@pytest.mark.asyncio
async def test_the_background_calls_the_handlers(bus: EventBus, background: Background) -> None:
    """A publish in the background goes on while the test does something else."""
    charged = asyncio.Event()
    with await bus.subscribe("order.placed", "billing", lambda order: charged.set()):
        await background.publish("order.placed", "A7")
        async with asyncio.timeout(5):
            await charged.wait()


@pytest.mark.asyncio
async def test_what_fails_is_recorded(bus: EventBus, recorded: Recorded) -> None:
    """The fixture `recorded` has each event and each failure of the test's bus."""

    async def charge(order: str) -> None:
        raise LookupError(order)

    with await bus.subscribe("order.placed", "billing", charge):
        await bus.publish("order.placed", "A7")
    (failure,) = recorded.failures
    assert isinstance(failure["exception"], LookupError)
