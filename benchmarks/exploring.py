"""Exploring: a schedule of `explore` against a plain run of the same scenario."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from benchmarks.handlers import EVENT, ORDER, bus_of, wait_once
from benchmarks.measuring import Measure, Round
from benchmarks.timing import collector_off, now
from flexiflow.testing import explore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.measuring import Effort

_PUBLISHES: Final = 5
_HANDLERS: Final = 5

_RUNS: Final = 25
"""Schedules, and plain runs, in a round."""


def measures(backend: str) -> Iterator[Measure]:
    """Yield the measures of this module."""
    yield Measure(
        figure=f"a schedule of explore, {_PUBLISHES} publishes to {_HANDLERS} handlers each",
        against="anyio.run of the same scenario",
        backend=backend,
        at_most=2,
        run=partial(_exploring, backend),
    )


async def _scenario() -> None:
    bus = await bus_of([wait_once] * _HANDLERS)
    publish = partial(bus.publish, EVENT, ORDER, delivery="concurrent")
    async with anyio.create_task_group() as group:
        for _ in range(_PUBLISHES):
            group.start_soon(publish)


def _exploring(backend: str, effort: Effort) -> list[Round]:
    # The same seed in each round, since some schedules take more turns than others.
    ours = partial(explore, _scenario, backend=backend, schedules=_RUNS, seed=1)
    theirs = partial(_run_plainly, backend)
    # The first runs import what the others find imported.
    ours()
    theirs()
    return [Round(_each(ours), _each(theirs)) for _ in range(effort.rounds)]


def _run_plainly(backend: str) -> None:
    for _ in range(_RUNS):
        anyio.run(_scenario, backend=backend)


def _each(runs: Callable[[], object]) -> float:
    """Return the seconds of one of `_RUNS` runs."""
    with collector_off():
        begun = now()
        runs()
        return (now() - begun) / _RUNS
