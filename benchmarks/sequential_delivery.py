"""Sequential delivery against calling the handlers by hand."""

from __future__ import annotations

from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING

from benchmarks.handlers import (
    EVENT,
    ORDER,
    accept,
    awaiting,
    awaiting_one,
    bus_of,
    idle_handlers,
    publishing,
)
from benchmarks.measuring import Measure
from benchmarks.timing import Pair, paired

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.handlers import AsyncHandler
    from benchmarks.timing import Side

_AT_MOST = {1: 3.5, 10: 1.55, 100: 1.35, 1_000: None}


def measures(backend: str) -> Iterator[Measure]:
    """Yield the measures of this module."""
    for number, at_most in _AT_MOST.items():
        yield Measure(
            figure=f"sequential, {number:,} handler{'s' if number > 1 else ''}",
            against="a bare loop of awaits",
            backend=backend,
            at_most=at_most,
            run=paired(backend, partial(_idle, number)),
        )
    yield Measure(
        figure="sequential, 10 handlers, filters on all",
        against="a bare loop of filters and awaits",
        backend=backend,
        at_most=1.6,
        run=paired(backend, _filtered),
    )
    yield Measure(
        figure="publish that nobody hears",
        against="a bare awaited call",
        backend=backend,
        at_most=5,
        run=paired(backend, _unheard),
    )


async def _idle(number: int) -> Pair:
    handlers = idle_handlers(number)
    return Pair(publishing(await bus_of(handlers)), awaiting(handlers))


async def _filtered() -> Pair:
    handlers = idle_handlers(10)
    return Pair(publishing(await bus_of(handlers, filter=accept)), _asking_and_awaiting(handlers))


def _asking_and_awaiting(handlers: list[AsyncHandler]) -> Side:
    pairs = [(accept, handler) for handler in handlers]

    async def loop(calls: int) -> None:
        for _ in repeat(None, calls):
            for is_wanted, handler in pairs:
                if is_wanted(EVENT, ORDER):
                    await handler(ORDER)

    return loop


async def _unheard() -> Pair:
    (handler,) = idle_handlers(1)
    return Pair(publishing(await bus_of([])), awaiting_one(handler))
