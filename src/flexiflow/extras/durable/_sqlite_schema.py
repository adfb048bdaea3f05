"""The layout of the SQLite transport's file, and what can be wrong with a file."""

from __future__ import annotations

import sqlite3
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final, NamedTuple

from flexiflow.extras.durable._errors import TransportUnavailable, TransportUnusable

if TYPE_CHECKING:
    from flexiflow.extras.durable._errors import TransportError

_VERSION: Final = 1

# A record's number is its partition's first number and its position: one tree for all partitions,
# and storing appends to it. There is room for 8 million partitions of a trillion positions each.
_WIDTH: Final = 40

_RETRY: Final = 0.01

_UNUSABLE: Final = (
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
)

# An id of a group that was forgotten is not used again: its leases stay lost. A lease that begins
# later than now is over: else it would hold for as long as the clock was set back.
_TABLES: Final = """
CREATE TABLE flexiflow_durable (version INTEGER NOT NULL, partitions INTEGER);
CREATE TABLE logs (partition INTEGER PRIMARY KEY, last INTEGER NOT NULL);
CREATE TABLE records (id INTEGER PRIMARY KEY, body BLOB NOT NULL, only_group TEXT);
CREATE TABLE producers (name TEXT PRIMARY KEY, number INTEGER NOT NULL, at REAL NOT NULL)
    WITHOUT ROWID;
CREATE TABLE groups (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
CREATE TABLE readings (group_id INTEGER, partition INTEGER, given INTEGER NOT NULL,
    missed INTEGER NOT NULL, PRIMARY KEY (group_id, partition)) WITHOUT ROWID;
CREATE TABLE pending (group_id INTEGER, id INTEGER, attempts INTEGER NOT NULL,
    deliveries INTEGER NOT NULL, holder INTEGER, PRIMARY KEY (group_id, id)) WITHOUT ROWID;
CREATE INDEX pending_free ON pending (group_id, id) WHERE holder IS NULL;
CREATE TABLE leases (token INTEGER PRIMARY KEY AUTOINCREMENT, group_id INTEGER NOT NULL,
    partition INTEGER NOT NULL, since REAL NOT NULL, until REAL NOT NULL);
CREATE INDEX leases_of ON leases (group_id, partition);
CREATE TABLE members (group_id INTEGER, consumer TEXT, token TEXT NOT NULL, patterns TEXT NOT NULL,
    since REAL NOT NULL, until REAL NOT NULL, PRIMARY KEY (group_id, consumer)) WITHOUT ROWID;
CREATE TABLE dead (id INTEGER PRIMARY KEY AUTOINCREMENT, group_id INTEGER NOT NULL,
    partition INTEGER NOT NULL, body BLOB NOT NULL, type TEXT NOT NULL,
    message TEXT NOT NULL, traceback TEXT NOT NULL, attempts INTEGER NOT NULL,
    deliveries INTEGER NOT NULL, time REAL NOT NULL);
CREATE INDEX dead_of ON dead (group_id)"""


class Layout(NamedTuple):
    """What a file is to be.

    Attributes:
        path: where it is.
        partitions: how many logs, each leased to one worker; None for one that all share.
        busy_timeout: for how many seconds to wait for a lock.
    """

    path: str
    partitions: int | None
    busy_timeout: float


def first_of(partition: int) -> int:
    """Give the number before that of the first record of a partition."""
    return partition << _WIDTH


def end_of(partition: int) -> int:
    """Give the number of the last record that a partition has room for."""
    return (partition + 1 << _WIDTH) - 1


def open_database(layout: Layout) -> sqlite3.Connection:
    """Open a file, made if it is not there.

    Raises:
        TransportUnavailable: it is locked, or there is no room for it.
        TransportUnusable: what is there is something else, or can't be opened.
    """
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(
            layout.path,
            timeout=layout.busy_timeout,
            isolation_level=None,
            check_same_thread=False,
        )
        _prepare(connection, layout)
    except Exception as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise translated(error, layout.path) from error
        raise
    return connection


def translated(error: sqlite3.Error, path: str) -> TransportError:
    """Say what SQLite's error means for a transport."""
    # The lower byte is the kind, the others tell more.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    kind = TransportUnusable if code in _UNUSABLE else TransportUnavailable
    return kind(path, str(error))


def turn_wal_on(connection: sqlite3.Connection, layout: Layout) -> None:
    """Let readers and a writer not wait for each other, and each commit cost one write to disk."""
    mode = _switched(connection, layout.busy_timeout)
    if mode != "wal":
        raise TransportUnusable(
            layout.path,
            f"SQLite can't keep a write-ahead log there, only journal_mode={mode}; a local disk "
            "would be right",
        )
    connection.execute("PRAGMA synchronous = FULL")


def _switched(connection: sqlite3.Connection, seconds: float) -> str:
    until = monotonic() + seconds
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            # SQLite does not wait by itself here, where two switch at once.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or monotonic() > until:
                raise
            sleep(_RETRY)
        else:
            return str(mode)


def _prepare(connection: sqlite3.Connection, layout: Layout) -> None:
    # Before anything is written: a file of something else is left as it is.
    _is_made(connection, layout)
    turn_wal_on(connection, layout)
    connection.execute("BEGIN IMMEDIATE")
    if not _is_made(connection, layout):
        _make(connection, layout)
    connection.execute("COMMIT")


def _is_made(connection: sqlite3.Connection, layout: Layout) -> bool:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if not tables:
        return False
    if "flexiflow_durable" not in tables:
        raise TransportUnusable(
            layout.path,
            f"it is the database of something else, with {', '.join(sorted(tables)[:3])}; a file "
            "of its own would be right",
        )
    version, partitions = connection.execute("SELECT * FROM flexiflow_durable").fetchone()
    if version != _VERSION:
        raise TransportUnusable(
            layout.path,
            f"its layout is version {version}, and this release knows version {_VERSION}",
        )
    if partitions != layout.partitions:
        raise TransportUnusable(
            layout.path,
            f"it was made with partitions={partitions}, not partitions={layout.partitions}",
        )
    return True


def _make(connection: sqlite3.Connection, layout: Layout) -> None:
    for statement in _TABLES.split(";"):
        connection.execute(statement)
    connection.execute("INSERT INTO flexiflow_durable VALUES (?, ?)", (_VERSION, layout.partitions))
    connection.executemany(
        "INSERT INTO logs VALUES (?, 0)", ((each,) for each in range(layout.partitions or 1))
    )
