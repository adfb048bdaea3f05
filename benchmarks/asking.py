"""Asking, functions around handlers, publishing in the background, and reading in batches."""

from __future__ import annotations

from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio import create_memory_object_stream, create_task_group

from benchmarks.handlers import EVENT, ORDER, OWNER, awaiting_one, bus_of, idle_handlers, publishing
from benchmarks.measuring import Measure
from benchmarks.timing import Pair, alternate, collector_off, now, paired
from flexiflow import EventBus, Query

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from benchmarks.measuring import Effort, Round
    from flexiflow import Event, Subscription
    from flexiflow._subscription import Inner

_PRICE: Final = Query[object, None]("price.asked")
_HANDLERS: Final = 10
_ROOM: Final = 1_000
_BATCH: Final = 100
_BATCHES: Final = 100


def measures(backend: str) -> Iterator[Measure]:
    """Yield the measures of this module."""
    yield Measure(
        figure="ask",
        against="a bare awaited call",
        backend=backend,
        at_most=4,
        run=paired(backend, _asking),
    )
    yield Measure(
        figure=f"a handler with one function around it, {_HANDLERS} handlers",
        against="a bare awaited call",
        backend=backend,
        at_most=8,
        run=paired(backend, _around),
    )
    yield Measure(
        figure="publish in the background with room, 1 handler",
        against="AnyIO's memory object stream, and publish",
        backend=backend,
        at_most=1.2,
        run=paired(backend, _background),
    )
    yield Measure(
        figure=f"events read from a stream in lists of {_BATCH}",
        against="one by one",
        backend=backend,
        at_most=0.4,
        run=lambda effort: anyio.run(_batches, effort, backend=backend),
    )


async def _asking() -> Pair:
    bus, (handler,) = EventBus(), idle_handlers(1)
    await bus.answer(_PRICE, OWNER, handler)

    async def ask(calls: int) -> None:
        for _ in repeat(None, calls):
            await bus.ask(_PRICE, ORDER)

    return Pair(ask, awaiting_one(handler))


async def _only_call(_event: Event[Any], _subscription: Subscription, call: Inner) -> None:
    await call()


async def _around() -> Pair:
    handlers = idle_handlers(_HANDLERS)
    bus = EventBus(around=[_only_call])
    for handler in handlers:
        await bus.subscribe(EVENT, OWNER, handler)
    publish = publishing(bus)

    async def ours(calls: int) -> None:
        # As many handlers are called.
        await publish(max(calls // _HANDLERS, 1))

    return Pair(ours, awaiting_one(handlers[0]))


async def _background() -> Pair:
    bus = await bus_of(idle_handlers(1))

    async def ours(calls: int) -> None:
        async with bus.background(limit=1, buffer=_ROOM) as background:
            for _ in repeat(None, calls):
                await background.publish(EVENT, ORDER)

    async def theirs(calls: int) -> None:
        send, receive = create_memory_object_stream[object](_ROOM)
        async with receive, create_task_group() as group:
            group.start_soon(_publish_all, bus, receive)
            async with send:
                for _ in repeat(None, calls):
                    await send.send(ORDER)

    return Pair(ours, theirs)


async def _publish_all(bus: EventBus, receive: AsyncIterator[object]) -> None:
    async for data in receive:
        await bus.publish(EVENT, data)


async def _batches(effort: Effort) -> list[Round]:
    bus = EventBus()
    async with bus.stream(EVENT, buffer=_BATCHES * _BATCH) as events:
        batches = events.batches(max_size=_BATCH)

        async def in_lists() -> None:
            for _ in repeat(None, _BATCHES):
                await anext(batches)

        async def one_by_one() -> None:
            for _ in repeat(None, _BATCHES * _BATCH):
                await anext(events)

        return await alternate(
            effort.rounds, partial(_reading, bus, in_lists), partial(_reading, bus, one_by_one)
        )


async def _reading(bus: EventBus, read: Callable[[], Awaitable[None]]) -> float:
    """Return the seconds for each event of reading what fills the buffer, without filling it."""
    events = _BATCHES * _BATCH
    for _ in repeat(None, events):
        await bus.publish(EVENT, ORDER)
    with collector_off():
        begun = now()
        await read()
        return (now() - begun) / events
