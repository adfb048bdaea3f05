"""Opening the SQLite transport's file: its layout is checked, made or migrated."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final, NamedTuple

from flexiflow.extras.durable._errors import TransportUnavailable, TransportUnusable
from flexiflow.extras.durable._sqlite.file import make_file
from flexiflow.extras.durable._sqlite.tables import MIGRATED, VERSION, make, migrate

if TYPE_CHECKING:
    from flexiflow.extras.durable._errors import TransportError

# A record's number is that of its partition, shifted by this many bits, plus its position. So one
# table serves all partitions, and storing appends to it; there is room for 8 million partitions of
# a trillion positions each.
_WIDTH: Final = 40

_RETRY: Final = 0.01

_UNUSABLE: Final = (
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
)


class Layout(NamedTuple):
    """How a file is to be opened, and laid out if it is new.

    Attributes:
        path: the file.
        partitions: how many logs it has, each leased to one worker; None for one that all share.
        busy_timeout: for how many seconds to wait for a lock.
        mode: the permissions of a file that is created.
    """

    path: str
    partitions: int | None
    busy_timeout: float
    mode: int = 0o600


def first_of(partition: int) -> int:
    """Return the number before that of the first record of a partition."""
    return partition << _WIDTH


def end_of(partition: int) -> int:
    """Return the number of the last record that a partition has room for."""
    return (partition + 1 << _WIDTH) - 1


def open_database(layout: Layout) -> sqlite3.Connection:
    """Open a file, and create it if it does not exist.

    Raises:
        TransportUnavailable: it is locked, or there is no room for it.
        TransportUnusable: it belongs to other software, or can't be opened.
    """
    make_file(layout.path, layout.mode)
    return open_file(layout)


def open_file(layout: Layout) -> sqlite3.Connection:
    """Open an existing file, and lay it out if it is empty; raises as `open_database` does."""
    connection: sqlite3.Connection | None = None
    try:
        connection = connect(layout.path, layout.busy_timeout)
        _prepare(connection, layout)
    except Exception as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise translated(error, layout.path) from error
        raise
    return connection


def connect(path: str, busy_timeout: float) -> sqlite3.Connection:
    """Open an existing file, and do nothing else."""
    connection = sqlite3.connect(
        f"{Path(path).as_uri()}?mode=rw",
        uri=True,
        timeout=busy_timeout,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.text_factory = _text
    return connection


def _text(value: bytes) -> str:
    """Decode a text, even an invalid one of other software: one row must not hide all others."""
    return value.decode(errors="backslashreplace")


def check_kind(connection: sqlite3.Connection, path: str) -> None:
    """Check that a database is a transport's.

    Raises:
        TransportUnusable: it is not.
    """
    tables = _tables(connection)
    if "flexiflow_durable" not in tables:
        raise TransportUnusable(
            path,
            f"it is the database of something else, with {', '.join(sorted(tables)[:3])}; a file "
            "of its own would be right"
            if tables
            else "it is empty",
        )


def translated(error: sqlite3.Error, path: str) -> TransportError:
    """Return the transport's error for an error of SQLite."""
    # The lower byte is the primary code, the others are details.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    kind = TransportUnusable if code in _UNUSABLE else TransportUnavailable
    return kind(path, str(error))


def make_durable(connection: sqlite3.Connection, layout: Layout) -> None:
    """Make a commit durable when it returns, in a write-ahead log.

    With that log readers and a writer don't wait for each other. With `synchronous=FULL` a commit
    is on the disk when it returns, at the cost of one write.

    Raises:
        TransportUnusable: SQLite can't keep such a log there.
    """
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
            # If two connections switch at once, SQLite does not wait by itself.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or monotonic() > until:
                raise
            sleep(_RETRY)
        else:
            return str(mode)


def _prepare(connection: sqlite3.Connection, layout: Layout) -> None:
    # Check first, so that nothing is written to a file of other software.
    _version_of(connection, layout)
    make_durable(connection, layout)
    connection.execute("BEGIN IMMEDIATE")
    version = _version_of(connection, layout)
    if version is None:
        make(connection, layout.partitions)
    elif version in MIGRATED:
        migrate(connection)
    connection.execute("COMMIT")


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}


def _version_of(connection: sqlite3.Connection, layout: Layout) -> int | None:
    """Return the version of a file's layout, after checking it; None if the file is empty."""
    if not _tables(connection):
        return None
    check_kind(connection, layout.path)
    version, partitions = connection.execute("SELECT * FROM flexiflow_durable").fetchone()
    if version not in (VERSION, *MIGRATED):
        raise TransportUnusable(
            layout.path,
            f"its layout is version {version}, and this release knows version {VERSION} and the "
            "one before; a newer release would be right",
        )
    if partitions != layout.partitions:
        raise TransportUnusable(
            layout.path,
            f"it was made with partitions={partitions}, not partitions={layout.partitions}",
        )
    return int(version)
