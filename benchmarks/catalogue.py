"""All measures, in the order of the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import (
    asking,
    causality,
    components,
    concurrent_delivery,
    durable_handling,
    durable_memory,
    durable_schedules,
    durable_schemas,
    durable_storing,
    durable_waking,
    enrolling,
    exploring,
    growth,
    lasting,
    lasting_memory,
    looking,
    memory,
    parts,
    peers,
    processes,
    sequential_delivery,
    storing_states,
    streams,
    timers,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.measuring import Measure


def measures(backends: Sequence[str]) -> list[Measure]:
    """Return every measure on each of these backends, grouped by figure."""
    found = list(_found(backends))
    places = {measure.figure: place for place, measure in reversed(list(enumerate(found)))}
    return sorted(found, key=lambda measure: places[measure.figure])


def _found(backends: Sequence[str]) -> Iterator[Measure]:
    modules = (
        sequential_delivery,
        concurrent_delivery,
        peers,
        growth,
        components,
        streams,
        asking,
        causality,
        looking,
        durable_storing,
        durable_schemas,
        durable_handling,
        durable_waking,
        durable_schedules,
        storing_states,
        lasting,
        timers,
        exploring,
    )
    for module in modules:
        for backend in backends:
            yield from module.measures(backend)
    yield from growth.measures_of_any()
    yield from processes.measures(backends)
    yield from memory.measures()
    yield from timers.measures_of_any()
    yield from enrolling.measures_of_any()
    yield from durable_memory.measures()
    yield from lasting_memory.measures()
    for backend in backends:
        yield from parts.measures(backend)
