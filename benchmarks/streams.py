"""Streams: against AnyIO's streams, and with a full buffer against a buffer with room."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any, Final

from anyio import create_memory_object_stream, create_task_group

from benchmarks.handlers import EVENT, ORDER
from benchmarks.measuring import Measure
from benchmarks.timing import Pair, paired
from flexiflow import EventBus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_BUFFER: Final = 100

# More room than a round needs.
_ROOMY: Final = 10**9


def measures(backend: str) -> Iterator[Measure]:
    """Yield the measures of this module."""
    yield Measure(
        figure="an event through a stream that blocks, 1 reader",
        against="AnyIO's memory object stream",
        backend=backend,
        at_most=1.3,
        run=paired(backend, _through),
    )
    yield Measure(
        figure=f"publish to a full buffer of {_BUFFER}, drop_oldest, nobody reads",
        against="one that is not full",
        backend=backend,
        at_most=2,
        run=paired(backend, _stalled),
    )


async def _through() -> Pair:
    bus = EventBus()

    async def ours(calls: int) -> None:
        async with bus.stream(EVENT, buffer=_BUFFER) as events, create_task_group() as group:
            await group.start(_read, events, calls)
            for _ in repeat(None, calls):
                await bus.publish(EVENT, ORDER)

    async def theirs(calls: int) -> None:
        send, receive = create_memory_object_stream[object](_BUFFER)
        async with send, receive, create_task_group() as group:
            await group.start(_read, receive, calls)
            for _ in repeat(None, calls):
                await send.send(ORDER)

    return Pair(ours, theirs)


async def _read(events: AsyncIterator[object], number: int, *, task_status: Any) -> None:
    task_status.started()
    for _ in repeat(None, number):
        await anext(events)


async def _stalled() -> Pair:
    bus = EventBus()

    async def publish(calls: int) -> None:
        for _ in repeat(None, calls):
            await bus.publish(EVENT, ORDER)

    async def full(calls: int) -> None:
        async with bus.stream(EVENT, buffer=_BUFFER, overflow="drop_oldest"):
            await publish(_BUFFER + calls)

    async def roomy(calls: int) -> None:
        async with bus.stream(EVENT, buffer=_ROOMY, overflow="drop_oldest"):
            await publish(_BUFFER + calls)

    return Pair(full, roomy)
