"""Streams to read and to publish to, and whether their books are balanced."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from anyio import create_task_group, fail_after

from flexiflow import EventBus, EventStream
from flexiflow._bus import subscriptions
from flexiflow._receiver import RECEIVER
from tests.helpers import PATIENCE, settle

EVENT = "order.placed"

Books = tuple[int, int, int, int]
"""How many events were received, delivered and dropped, and how many are buffered."""

Step = Callable[[], Coroutine[Any, Any, object]]


def books(events: EventStream[Any]) -> Books:
    """Give a stream's counts, which must be balanced."""
    told = events.statistics()
    assert told.received == told.delivered + told.dropped + told.buffered
    return told.received, told.delivered, told.dropped, told.buffered


def waiting(events: EventStream[Any]) -> tuple[int, int]:
    """Give the number of publishers and of readers that wait."""
    told = events.statistics()
    return told.blocked_publishers, told.waiting_readers


def has_receivers(bus: EventBus) -> bool:
    """Tell whether a stream or an expectation is subscribed."""
    return any(each.component_name == RECEIVER for each in subscriptions(bus))


async def read(events: EventStream[Any], number: int = 1) -> list[Any]:
    """Read the payloads of so many events."""
    return [(await anext(events)).data for _ in range(number)]


def reader(events: EventStream[Any], seen: list[Any]) -> Step:
    """Give what reads one event, and notes its payload."""

    async def read_one() -> None:
        seen.extend(await read(events))

    return read_one


def publisher(bus: EventBus, data: object, ended: list[Any]) -> Step:
    """Give what publishes, and notes the payload once that is over."""

    async def publish() -> None:
        assert await bus.publish(EVENT, data) == ()
        ended.append(data)

    return publish


@asynccontextmanager
async def meanwhile(*steps: Step) -> AsyncIterator[None]:
    """Run each in a task of its own, begun in this order, and wait for all at the end."""
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            for step in steps:
                group.start_soon(step)
                await settle()
            yield
