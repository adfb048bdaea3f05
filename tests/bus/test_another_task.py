"""Blocks that another task leaves than the one that has entered them: B15, M4, X5.

Trio notices earlier: it stops the task that ends within such a block.
"""

import asyncio
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import SimpleNamespace
from typing import Any

import pytest
from anyio import get_current_task

from flexiflow import Engine, EventBus
from flexiflow._tasks import left_elsewhere
from flexiflow.extras.durable import MemoryTransport, open_bridge
from tests.attacks import on_asyncio
from tests.helpers import settle

pytestmark = on_asyncio

MESSAGE = (
    r"^one task must enter and leave this block, since it has tasks of its own: 'first' entered it "
    r"and 'second' left it; in a notebook or in a fixture of pytest-asyncio, use `held` from "
    r"docs/integrations\.md$"
)

Block = AbstractAsyncContextManager[Any]


def bridge(bus: EventBus) -> Block:
    """Make the block of a bridge both ways."""
    patterns: Any = {"outgoing": ["order.*"], "incoming": ["parcel.*"]}
    return open_bridge(bus, MemoryTransport(), group="shop", **patterns)


async def between_two_tasks(block: Block, exc: Exception | None = None) -> BaseException | None:
    """Let one task enter a block, and another one leave it; return what its exit raises."""
    await asyncio.create_task(block.__aenter__(), name="first")
    await settle()
    kind = None if exc is None else type(exc)
    leaving = asyncio.create_task(block.__aexit__(kind, exc, None), name="second")
    await asyncio.wait([leaving])
    return leaving.exception()


@pytest.mark.parametrize(
    "make",
    [EventBus.background, lambda bus: Engine(bus=bus).running(), bridge],
    ids=["background", "running", "bridge"],
)
async def test_the_error_names_both_tasks(make: Callable[[EventBus], Block]) -> None:
    """B15, M4, X5: RuntimeError says what to do, without a group; no task is left running."""
    before = asyncio.all_tasks()
    error = await between_two_tasks(make(EventBus()))
    assert isinstance(error, RuntimeError)
    assert re.match(MESSAGE, str(error))
    assert error.__context__ is None
    assert asyncio.all_tasks() == before


async def test_what_failed_in_a_bridge_leaves_it() -> None:
    """X5: The user's own exception is the one that is told, though it is a RuntimeError too."""
    assert await between_two_tasks(bridge(EventBus()), RuntimeError("its own")) is None


async def test_a_task_is_known_by_more_than_its_number() -> None:
    """B15: Another task may have the number of one that has ended."""
    here = get_current_task()
    another: Any = SimpleNamespace(id=here.id, name="first", coro=None)
    assert left_elsewhere(another) is not None
    assert left_elsewhere(here) is None


async def test_what_was_published_is_handled_first() -> None:
    """B15: The background ends as it would otherwise."""
    bus, heard = EventBus(), list[int]()
    background = bus.background(limit=1)
    await bus.subscribe("a", "c", heard.append)
    await asyncio.create_task(background.__aenter__(), name="first")
    await background.publish("a", 1)
    with pytest.raises(RuntimeError, match=MESSAGE):
        await asyncio.create_task(background.__aexit__(None, None, None), name="second")
    assert heard == [1]


async def test_the_engine_can_run_again() -> None:
    """M4: After the error another block can be entered."""
    engine = Engine()
    await between_two_tasks(engine.running())
    async with engine.running():
        pass
