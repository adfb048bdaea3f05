"""The cost that a monitor adds to a publish."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from benchmarks.handlers import EVENT, OWNER, awaiting_one, bus_of, idle_handlers, publishing
from benchmarks.measuring import Measure, Round
from benchmarks.timing import Pair, calibrated, load, paired
from flexiflow.extras._monitor.looking import Passing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.measuring import Effort

_MOST_EVENTS = 200
_LONG = 3_600.0
"""More seconds than the measure takes."""


def measures(backend: str) -> Iterator[Measure]:
    """Yield the measures of this module."""
    yield Measure(
        figure="what a monitor adds to a publish, nobody looking",
        against="a bare awaited call",
        backend=backend,
        at_most=1,
        run=lambda effort: anyio.run(_added, effort, backend=backend),
    )
    yield Measure(
        figure="publish, 1 handler, somebody looking at a monitor",
        against="with an observer instead",
        backend=backend,
        at_most=1.5,
        run=paired(backend, _looked_at),
    )


async def _added(effort: Effort) -> list[Round]:
    (handler,) = idle_handlers(1)
    watched = await bus_of([handler])
    await load("flexiflow.extras.monitor").Monitor(watched).watch_failures()
    sides = publishing(watched), publishing(await bus_of([handler])), awaiting_one(handler)
    with_it, without, bare = [await calibrated(side, effort.seconds) for side in sides]
    return [Round(await with_it() - await without(), await bare()) for _ in range(effort.rounds)]


async def _looked_at() -> Pair:
    (handler,) = idle_handlers(1)
    looked_at, observed = await bus_of([handler]), await bus_of([handler])
    await Passing(1, _MOST_EVENTS).begin(looked_at, _LONG)
    await observed.subscribe(EVENT, OWNER, _observe, priority=1)
    return Pair(publishing(looked_at), publishing(observed))


def _observe(_payload: object) -> None:
    """Be an observer that does nothing."""
