"""Streams and waiting, cancelled at every checkpoint."""

from typing import Any

import pytest
from anyio import create_task_group
from anyio.lowlevel import checkpoint

from flexiflow import EventBus
from flexiflow._receiver import blocking_streams
from flexiflow._stream import Overflow
from flexiflow.testing import cancel_everywhere
from tests.streams.streaming import EVENT, Traffic, books, has_receivers, waiting
from tests.testing.test_sweep import STYLES


def sweep(scenario: Any, check: Any, backend: str) -> None:
    """Cancel everywhere, in every way that the backend has."""
    for style in STYLES[backend]:
        assert cancel_everywhere(scenario, backend=backend, check=check, style=style) > 0


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("overflow", "buffer"),
    [("block", 0), ("block", 1), ("drop_oldest", 1), ("drop_newest", 1), ("error", 1)],
)
@pytest.mark.parametrize(("publishers", "readers"), [(1, 1), (1, 2), (3, 1)])
def test_no_event_is_lost_wherever_readers_and_publishers_are_cancelled(
    overflow: Overflow, buffer: int, publishers: int, readers: int, backend: str
) -> None:
    """S2: What was accepted was read or is still there, in its order, and the books balance."""
    traffic = Traffic(buffer, overflow, publishers=publishers, readers=readers, each=3)
    sweep(traffic.run, traffic.assert_none_is_lost, backend)


@pytest.mark.parametrize("buffer", [0, 1])
def test_a_block_cancelled_anywhere_leaves_nothing(buffer: int, backend: str) -> None:
    """S1: The subscription is gone, and neither a publisher nor a reader waits."""
    bus = EventBus()
    events = bus.stream(EVENT)

    async def publish(bus: EventBus) -> None:
        for number in range(4):
            await bus.publish(EVENT, number)

    async def scenario() -> None:
        nonlocal bus, events
        bus = EventBus()
        events = bus.stream(EVENT, buffer=buffer)
        async with create_task_group() as group:
            await checkpoint()
            async with events:
                group.start_soon(publish, bus)
                for _ in range(3):
                    await anext(events)

    def check() -> None:
        assert not has_receivers(bus)
        assert not blocking_streams
        assert books(events)[3] == 0
        assert waiting(events) == (0, 0)

    sweep(scenario, check, backend)


@pytest.mark.parametrize("in_one_call", [True, False])
def test_a_waiter_cancelled_anywhere_leaves_nothing(*, in_one_call: bool, backend: str) -> None:
    """S4: It has the event or not, and is subscribed no longer."""
    bus, given = EventBus(), list[Any]()

    async def wait() -> None:
        if in_one_call:
            given.append(await bus.wait_for(EVENT, filter=is_last))
            return
        async with bus.expect(EVENT, filter=is_last) as expected:
            given.append(await expected)

    def is_last(event_name: str, data: int) -> bool:
        return data == 2

    async def scenario() -> None:
        nonlocal bus
        bus = EventBus()
        given.clear()
        async with create_task_group() as group:
            group.start_soon(wait)
            group.start_soon(wait)
            await checkpoint()
            for number in range(3):
                await bus.publish(EVENT, number)

    def check() -> None:
        assert not has_receivers(bus)
        assert given in ([], [(EVENT, 2)], [(EVENT, 2)] * 2)

    sweep(scenario, check, backend)
