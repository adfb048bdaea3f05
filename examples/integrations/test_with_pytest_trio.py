"""Tests that pytest-trio runs; `conftest.py` asks for FlexiFlow's fixtures."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

from flexiflow import Component, Engine, EventBus, State, StateMachine, Transition, events
from flexiflow.testing import Recorded

LIFE = StateMachine(
    "placed",
    [Transition("placed", "ask", "waiting"), Transition("waiting", "expire", "expired")],
    states=[State("waiting", after=(900.0, "expire"))],
)


@pytest.fixture
async def engine(bus: EventBus) -> AsyncIterator[Engine]:
    """Give an engine whose timers run for as long as the test does.

    pytest-trio enters an async fixture in a task of its own, in which the block is left, too.
    """
    engine = Engine(bus=bus)
    await engine.register(Component("order-7", machine=LIFE))
    async with engine.running():
        yield engine


@pytest.mark.trio
async def test_an_order_expires(
    engine: Engine, recorded: Recorded, autojump_clock: trio.testing.MockClock
) -> None:
    """A quarter of an hour passes at once, by the clock of pytest-trio."""
    await engine.send("order-7", {"type": "ask"})
    await trio.sleep(1000)
    changes: list[Any] = [data for name, data in recorded.events if name == events.STATE_CHANGED]
    assert [change["to_state"] for change in changes] == ["waiting", "expired"]


@pytest.mark.trio
async def test_a_task_of_the_nursery_reads_a_stream(bus: EventBus, nursery: trio.Nursery) -> None:
    """The fixture `nursery` runs a reader, and is cancelled when the test ends."""
    charged: set[object] = set()

    async def read(task_status: trio.TaskStatus[None]) -> None:
        async with bus.stream("order.*", buffer=1, overflow="block") as orders:
            task_status.started()
            async for order in orders:
                charged.add(order.data)

    await nursery.start(read)
    for number in range(3):
        await bus.publish("order.placed", number)
    await trio.testing.wait_all_tasks_blocked()
    assert charged == {0, 1, 2}
