"""The cost that causality adds to a publish."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from benchmarks.handlers import EVENT, OWNER, awaiting_one, bus_of, idle_handlers, publishing
from benchmarks.measuring import Measure, Round
from benchmarks.timing import calibrated
from flexiflow import EventBus
from flexiflow.extras.causality import Causality

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.measuring import Effort


def measures(backend: str) -> Iterator[Measure]:
    """Yield the measures of this module."""
    yield Measure(
        figure="what `Causality` adds to a publish, 1 handler",
        against="a bare awaited call",
        backend=backend,
        at_most=12,
        run=lambda effort: anyio.run(_added, effort, backend=backend),
    )


async def _added(effort: Effort) -> list[Round]:
    (handler,) = idle_handlers(1)
    watched = EventBus(instruments=[Causality()])
    await watched.subscribe(EVENT, OWNER, handler)
    sides = publishing(watched), publishing(await bus_of([handler])), awaiting_one(handler)
    with_it, without, bare = [await calibrated(side, effort.seconds) for side in sides]
    return [Round(await with_it() - await without(), await bare()) for _ in range(effort.rounds)]
