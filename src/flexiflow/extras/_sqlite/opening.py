"""Opening a file: it is made if there is none, checked, and laid out."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final

from flexiflow.extras._sqlite.file import has_log, make_file
from flexiflow.extras._sqlite.layout import why_forbidden

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow.extras._sqlite.layout import Layout

_RETRY: Final = 0.01


def open_database(layout: Layout) -> sqlite3.Connection:
    """Open a file, and create it if it does not exist.

    Raises:
        Exception: one of the layout's errors: it is locked, or there is no room for it; or it
            belongs to other software, or can't be opened.
    """
    make_file(layout.path, layout.mode, layout.errors.unusable)
    return open_file(layout)


def open_file(layout: Layout) -> sqlite3.Connection:
    """Open an existing file, and lay it out if it is empty; raises as `open_database` does."""
    refuse_unwritable(layout.path, layout.errors.unusable)
    connection: sqlite3.Connection | None = None
    try:
        connection = connect(layout.path, layout.busy_timeout)
        _prepare(connection, layout)
    except Exception as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise layout.errors.translated(error, layout.path) from error
        raise
    return connection


def refuse_unwritable(path: str, unusable: Callable[[str, str], Exception]) -> None:
    """Refuse a file to which this process may not write, even if it would only read.

    SQLite would open it, and leave files beside it to which nobody may write ever after.
    """
    reason = None if has_log(path) else why_forbidden(path)
    if reason is not None:
        raise unusable(path, reason)


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


def tables_of(connection: sqlite3.Connection) -> set[str]:
    """Return the names of all tables and indexes."""
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}


def other_kind(tables: set[str]) -> str:
    """Return the reason why a file with these tables can't be used: it is something else."""
    return (
        f"it is the database of something else, with {', '.join(sorted(tables)[:3])}; a file of "
        "its own would be right"
    )


def make_durable(connection: sqlite3.Connection, layout: Layout) -> None:
    """Make a commit durable when it returns, in a write-ahead log.

    With that log readers and a writer don't wait for each other. With `synchronous=FULL` a commit
    is on the disk when it returns, at the cost of one write.

    Raises:
        Exception: the layout's `unusable`: SQLite can't keep such a log there.
    """
    mode = _switched(connection, layout.busy_timeout)
    if mode != "wal":
        raise layout.errors.unusable(
            layout.path,
            f"SQLite can't keep a write-ahead log there, only journal_mode={mode}; a local disk "
            "would be right",
        )
    connection.execute("PRAGMA synchronous = FULL")


def _text(value: bytes) -> str:
    """Decode a text, even an invalid one of other software: one row must not hide all others."""
    return value.decode(errors="backslashreplace")


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
    layout.check(connection)
    make_durable(connection, layout)
    connection.execute("BEGIN IMMEDIATE")
    layout.lay_out(connection)
    connection.execute("COMMIT")
