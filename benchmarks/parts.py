"""The cost of each part that a publish can consist of, one by one."""

from __future__ import annotations

from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING

from anyio.lowlevel import checkpoint

from benchmarks.concurrent_delivery import grouping
from benchmarks.handlers import (
    EVENT,
    OWNER,
    accept,
    awaiting,
    awaiting_one,
    bus_of,
    idle_handlers,
    publishing,
)
from benchmarks.measuring import Measure
from benchmarks.timing import Pair, paired
from flexiflow import EventBus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.timing import Prepare


def measures(backend: str) -> Iterator[Measure]:
    """Yield the measures of this module."""
    scenarios: dict[tuple[str, str], Prepare] = {
        ("a checkpoint", "a bare awaited call"): _checkpoint,
        ("an AnyIO task group with one task", "a bare awaited call"): _task,
        ("a filter on each of 10 handlers", "none"): _filters,
        ("10 handlers subscribed by a pattern", "by the name"): _patterns,
        ("10 sync handlers", "10 async ones"): partial(_sync, 10),
        ("1 sync handler and 9 async ones", "10 async ones"): partial(_sync, 1),
        ("10 handlers, delivery='sequential' named", "not named"): _named,
        ("yield_every=1, 1 handler", "the default of 61"): _yields,
        ("concurrent, 1 handler that does not wait", "sequential"): partial(_concurrent, 1),
        ("concurrent, 10 handlers that do not wait", "sequential"): partial(_concurrent, 10),
    }
    for (figure, against), prepare in scenarios.items():
        yield Measure(figure=figure, against=against, backend=backend, run=paired(backend, prepare))


async def _checkpoint() -> Pair:
    async def pass_checkpoints(calls: int) -> None:
        for _ in repeat(None, calls):
            await checkpoint()

    return Pair(pass_checkpoints, awaiting_one(*idle_handlers(1)))


async def _task() -> Pair:
    handlers = idle_handlers(1)
    return Pair(grouping(handlers), awaiting(handlers))


async def _filters() -> Pair:
    handlers = idle_handlers(10)
    filtered, free = await bus_of(handlers, filter=accept), await bus_of(handlers)
    return Pair(publishing(filtered), publishing(free))


async def _patterns() -> Pair:
    handlers = idle_handlers(10)
    by_pattern, by_name = EventBus(), await bus_of(handlers)
    for handler in handlers:
        await by_pattern.subscribe("order.*", OWNER, handler)
    return Pair(publishing(by_pattern), publishing(by_name))


async def _sync(number: int) -> Pair:
    handlers = idle_handlers(10)
    mixed = [*([_note] * number), *handlers[number:]]
    return Pair(publishing(await bus_of(mixed)), publishing(await bus_of(handlers)))


def _note(_data: object) -> None:
    pass


async def _named() -> Pair:
    bus = await bus_of(idle_handlers(10))
    return Pair(publishing(bus, delivery="sequential"), publishing(bus))


async def _yields() -> Pair:
    (handler,) = idle_handlers(1)
    eager, usual = EventBus(yield_every=1), await bus_of([handler])
    await eager.subscribe(EVENT, OWNER, handler)
    return Pair(publishing(eager), publishing(usual))


async def _concurrent(number: int) -> Pair:
    bus = await bus_of(idle_handlers(number))
    return Pair(publishing(bus, delivery="concurrent"), publishing(bus))
