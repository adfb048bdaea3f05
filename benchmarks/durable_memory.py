"""The memory that a process uses for a million events that it publishes and handles."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from benchmarks.apart import growth, growth_in
from benchmarks.durable_parts import Arrivals, fill, in_sqlite, subscribed
from benchmarks.handlers import EVENT
from benchmarks.measuring import Measure
from flexiflow import EventBus
from flexiflow.extras.durable import open_bridge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.measuring import Effort, Round
    from flexiflow.extras.durable import Transport

_EVENTS: Final = 1_000_000
_QUICK_EVENTS: Final = 20_000

# By then a process has allocated all that it needs, and the log has its full length.
_FIRST_EVENTS: Final = 50_000
_QUICK_FIRST_EVENTS: Final = 10_000
_MAX_LENGTH: Final = 10_000


def measures() -> Iterator[Measure]:
    """Yield the measures of this module, which do not depend on a backend."""
    yield Measure(
        figure=f"what {_EVENTS:,} events through bridges on SQLite add to a process's peak",
        against="",
        backend="",
        # Three bytes for each event; an event that was kept would take some hundreds.
        at_most=3_000_000,
        unit="bytes",
        run=_grown,
    )


def _grown(effort: Effort) -> list[Round]:
    first, number = (
        (_QUICK_FIRST_EVENTS, _QUICK_EVENTS) if effort.quick else (_FIRST_EVENTS, _EVENTS)
    )
    return growth_in("benchmarks.durable_memory", first, number)


async def _main(first: int, number: int) -> int:
    with in_sqlite() as make:
        return await growth(partial(_through, make(max_length=_MAX_LENGTH)), first, number)


async def _through(transport: Transport, number: int) -> None:
    """Publish so many events on one bus, and handle them on another."""
    shop, worker, arrivals = EventBus(), EventBus(), Arrivals(number)
    async with (
        subscribed(worker, arrivals.handler),
        open_bridge(worker, transport, incoming=[EVENT], group="workers"),
        open_bridge(shop, transport, outgoing=[EVENT]),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(fill, shop, number)
        await arrivals.done.wait()


if __name__ == "__main__":
    sys.stdout.write(str(anyio.run(partial(_main, *map(int, sys.argv[1:])))))
