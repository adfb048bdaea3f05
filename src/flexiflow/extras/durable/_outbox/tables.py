"""The tables of an outbox in the user's database, and checks of the user's connection."""

from __future__ import annotations

import re
import reprlib
import sqlite3
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# A number is never used again, also where rows are deleted by hand: otherwise a batch that is fixed
# up to a number could take in rows that came later.
_EVENTS: Final = """CREATE TABLE main.{} (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT CHECK (typeof(key) IN ('text', 'null')),
    body BLOB NOT NULL CHECK (typeof(body) = 'blob'))"""

# producer: the producer's name, for the transport; NULL until a relay has come.
# batch: the number of the producer's last batch; 0 if there is none.
# last: the number of the last row of that batch, unless its rows are deleted already.
# holder: the relay that has the lease, from `since` to `until`. A lease that begins later than now
#     has run out: otherwise, after the clock was set back, it would last longer by that much.
_RELAY: Final = """CREATE TABLE main.{} (
    only_one INTEGER PRIMARY KEY CHECK (only_one = 1),
    producer TEXT,
    batch INTEGER NOT NULL DEFAULT 0,
    last INTEGER,
    holder TEXT,
    since REAL NOT NULL DEFAULT 0,
    until REAL NOT NULL DEFAULT 0)"""

# SQLite takes names that differ only in case for the same. A trigger may be named as a table is.
# One statement for both tables: others may make them between two.
_NAMED: Final = "SELECT count(*) FROM main.sqlite_master WHERE type != 'trigger' AND name = ?"
_LOOK: Final = f"SELECT ({_NAMED} COLLATE NOCASE), ({_NAMED} AND sql = ?)"
_LOOK_AT_BOTH: Final = f"{_LOOK}, * FROM ({_LOOK})"

_PREFIX: Final = re.compile(r"(?!sqlite_)[A-Za-z_][A-Za-z0-9_]{0,99}", re.IGNORECASE)
_MAIN: Final = "main."


class Tables(NamedTuple):
    """The names of an outbox's tables.

    Attributes:
        events: the table of the events that wait.
        relay: the table with one row, of the relay that has the lease.
    """

    events: str
    relay: str


def tables_of(prefix: object) -> Tables:
    """Return the names of the tables with a prefix.

    Raises:
        ValueError: no table can be named so.
        TypeError: it is no str.
    """
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be a str, not {reprlib.repr(prefix)}")
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(
            "prefix must be 1 to 100 letters, digits and '_', without a digit or 'sqlite_' at its "
            f"beginning, not {reprlib.repr(prefix)}"
        )
    return Tables(f"{prefix}events", f"{prefix}relay")


def are_there(connection: sqlite3.Connection, tables: Tables) -> bool:
    """Return whether a database has the tables.

    Raises:
        ValueError: it has tables of these names that are not an outbox's, or only one of them.
    """
    # Numbers, and no row factory: what users have set for texts and rows does not matter.
    cursor = connection.cursor()
    cursor.row_factory = None
    wanted = [(name, name, sql.replace(_MAIN, "", 1)) for name, sql in _statements(tables)]
    found = cursor.execute(_LOOK_AT_BOTH, [*wanted[0], *wanted[1]]).fetchone()
    is_any = any(found)
    for name, is_named, is_same in zip(tables, found[::2], found[1::2], strict=True):
        if is_any and not is_same:
            reason = "is not one of an outbox of this release" if is_named else "is missing"
            raise ValueError(
                f"{' and '.join(tables)} are the tables of an outbox, and {name} {reason}: another "
                "prefix= would be right"
            )
    return is_any


def make(connection: sqlite3.Connection, tables: Tables) -> None:
    """Make the tables."""
    for _, sql in _statements(tables):
        connection.execute(sql)


def _statements(tables: Tables) -> Iterator[tuple[str, str]]:
    for name, sql in zip(tables, (_EVENTS, _RELAY), strict=True):
        yield name, sql.format(name)


def is_in_transaction(connection: Any, caller: str) -> bool:
    """Return whether a transaction is open.

    Args:
        connection: the user's connection.
        caller: what the user has called, for messages.

    Raises:
        TypeError: it is no connection.
        RuntimeError: it is closed.
    """
    if not isinstance(connection, sqlite3.Connection):
        raise TypeError(
            f"{caller} takes a sqlite3.Connection, as sqlite3.connect returns, not "
            f"{reprlib.repr(connection)}"
        )
    try:
        return connection.in_transaction
    except sqlite3.ProgrammingError as exc:
        raise RuntimeError(
            f"{caller} takes an open connection, and this one is closed: {exc}"
        ) from exc


def check_transaction(connection: sqlite3.Connection, caller: str) -> None:
    """Check that a transaction is open.

    Raises:
        TypeError: it is no connection.
        RuntimeError: no transaction is open, or the connection is closed.
    """
    if not is_in_transaction(connection, caller):
        raise RuntimeError(
            f"{caller} works within your own transaction, and none is open: "
            "connection.execute('BEGIN IMMEDIATE') before it, and connection.execute('COMMIT') "
            "after it, would be right"
        )


def is_missing(error: sqlite3.Error, table: str) -> bool:
    """Return whether an error says that a table is missing."""
    return str(error) == f"no such table: {_MAIN}{table}"
