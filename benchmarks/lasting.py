"""Components whose states are stored, with messages by many tasks, against the bare store."""

from __future__ import annotations

import sqlite3
from contextlib import asynccontextmanager, closing
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import anyio

from benchmarks import bare_sqlite
from benchmarks.durable_parts import TASKS, both, by_tasks
from benchmarks.handlers import ORDER
from benchmarks.measuring import Measure
from benchmarks.storing_states import measures_of_saving
from flexiflow import Component, Engine, StateMachine, Transition
from flexiflow.extras.stores import SqliteStateStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping

    from benchmarks.measuring import Effort, Round
    from benchmarks.timing import Side
    from flexiflow.extras.stores import StateStore

STORED: Final = 1_000_000
QUICK_STORED: Final = 30_000
"""How many components are stored, of which a message comes to one after the other."""

RESIDENTS: Final = 10_000
"""How many of them stay in memory."""

# Without a common factor with the numbers above: the names come in no order.
_STRIDE: Final = 617_933

_MACHINE: Final = StateMachine(
    "on", [Transition("on", "flip", "off"), Transition("off", "flip", "on")]
)


class Lamp(Component):
    """A component with an attribute that is stored."""

    order: Mapping[str, Any] = ORDER

    def snapshot(self) -> Mapping[str, Any]:
        """Return what is stored."""
        return self.order

    def restore(self, data: Mapping[str, Any]) -> None:
        """Take over what was stored."""
        self.order = data


def measures(backend: str) -> Iterator[Measure]:
    """Yield the measures of this module."""
    yield from measures_of_saving(
        backend, "engine.send, a transition saved", _saving, at_most_in_sqlite=1.67
    )
    yield Measure(
        figure=f"engine.send that loads one of {STORED:,}, {RESIDENTS:,} in memory",
        against=f"{TASKS} tasks on a bare thread that selects and decodes the same rows",
        backend=backend,
        at_most=2,
        run=partial(_loaded, backend),
    )


@asynccontextmanager
async def _saving(store: StateStore) -> AsyncGenerator[Side]:
    engine = Engine(store=store)
    free = [f"lamp-{number}" for number in range(TASKS)]
    async with engine.running():
        for name in free:
            await engine.register(Lamp(name, machine=_MACHINE))

        async def send() -> None:
            # A component belongs to one task at a time.
            name = free.pop()
            await engine.send(name, {"type": "flip"})
            free.append(name)

        yield by_tasks(send)


def _loaded(backend: str, effort: Effort) -> list[Round]:
    number = QUICK_STORED if effort.quick else STORED
    with TemporaryDirectory() as folder:
        path = Path(folder, "states.db")
        anyio.run(store, path, number)
        ours, theirs = _loading(path, number), bare_sqlite.loading(path, names(number))
        return anyio.run(both, effort, ours, theirs, backend=backend)


@asynccontextmanager
async def _loading(path: Path, number: int) -> AsyncGenerator[Side]:
    async with visiting(path, number) as side:
        # From then on, one is unloaded for each that is loaded.
        await side(RESIDENTS)
        yield side


async def store(path: Path, number: int) -> None:
    """Store so many components in a new file, as if each had been saved once."""
    async with SqliteStateStore(path):
        pass
    with closing(sqlite3.connect(path)) as bare, bare:
        rows = ((f"lamp-{place}",) for place in range(number))
        bare.executemany("""INSERT INTO states VALUES (?, 1, 'on', '{"order":"A7"}', NULL)""", rows)


def names(number: int) -> Iterable[str]:
    """Yield the names of the stored components without an end, in an order that looks random."""
    return (f"lamp-{turn * _STRIDE % number}" for turn in count())


@asynccontextmanager
async def visiting(path: Path, number: int) -> AsyncGenerator[Side]:
    """Open a side that sends messages to one stored component after another.

    Each of them ignores the message, so that nothing is saved.

    Args:
        path: the file in which they are stored.
        number: how many are stored.
    """
    engine = Engine(
        component_factory=partial(Lamp, machine=_MACHINE),
        store=SqliteStateStore(path),
        max_components=RESIDENTS,
    )
    one_after_another = iter(names(number))

    async def send() -> None:
        await engine.send(next(one_after_another), {"type": "look"})

    async with engine.running():
        yield by_tasks(send)
