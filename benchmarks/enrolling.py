"""Enrolling events in the user's own transactions, against the INSERT alone."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import anyio

from benchmarks.durable_parts import BODY
from benchmarks.handlers import EVENT, ORDER
from benchmarks.measuring import Measure
from benchmarks.timing import alternate, calibrated
from flexiflow.extras.durable import Outbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.measuring import Effort, Round
    from benchmarks.timing import Side

_OUTBOX: Final = Outbox()
_ORDER: Final = "INSERT INTO orders VALUES ('A7', 12.5)"
_INSERT: Final = "INSERT INTO outbox_events (key, body) VALUES (?, ?)"
_MANY: Final = 100


def measures_of_any() -> Iterator[Measure]:
    """Yield the measures of this module, none of which depends on a backend."""
    yield Measure(
        figure="a transaction that stores an order and enrolls its event",
        against="one that stores the order and the bytes of the event",
        backend="",
        at_most=1.5,
        run=partial(_timed, 1),
    )
    # Most of it is the encoding, which the other side has done before.
    yield Measure(
        figure=f"an event enrolled, {_MANY} in a transaction",
        against="the INSERT of its bytes",
        backend="",
        run=partial(_timed, _MANY),
    )


def _timed(number: int, effort: Effort) -> list[Round]:
    with TemporaryDirectory() as folder:
        ours, theirs = (_opened(Path(folder, name)) for name in ("ours.db", "theirs.db"))
        try:
            sides = _side(ours, number, _enroll), _side(theirs, number, _insert)
            return anyio.run(_alternately, effort, *sides)
        finally:
            ours.close()
            theirs.close()


def _opened(path: Path) -> sqlite3.Connection:
    """Open a database in which a commit does not wait for the disk, so that all else shows."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE orders (number TEXT, total REAL)")
    _OUTBOX.prepare(connection)
    return connection


def _enroll(connection: sqlite3.Connection) -> None:
    _OUTBOX.enroll(connection, EVENT, ORDER)


def _insert(connection: sqlite3.Connection) -> None:
    connection.execute(_INSERT, (None, BODY))


def _side(
    connection: sqlite3.Connection, number: int, store: Callable[[sqlite3.Connection], None]
) -> Side:
    """Return what stores so many events in each transaction, and one order."""

    async def side(calls: int) -> None:
        for _ in range(calls):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_ORDER)
            for _ in range(number):
                store(connection)
            connection.execute("COMMIT")

    return side


async def _alternately(effort: Effort, ours: Side, theirs: Side) -> list[Round]:
    return await alternate(
        effort.rounds,
        await calibrated(ours, effort.seconds),
        await calibrated(theirs, effort.seconds),
    )
