"""The layout of the SQLite transport's file: how it is recognised, and numbers of records."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from flexiflow.extras._sqlite.layout import Errors, Layout
from flexiflow.extras._sqlite.opening import other_kind, tables_of
from flexiflow.extras.durable._errors import TransportUnavailable, TransportUnusable
from flexiflow.extras.durable._sqlite.tables import MIGRATED, VERSION, make, migrate

if TYPE_CHECKING:
    import sqlite3

# A record's number is that of its partition, shifted by this many bits, plus its position. So one
# table serves all partitions, and storing appends to it; there is room for 8 million partitions of
# a trillion positions each.
_WIDTH: Final = 40

ERRORS: Final = Errors(TransportUnavailable, TransportUnusable)
"""The exceptions of the transport."""


def first_of(partition: int) -> int:
    """Return the number before that of the first record of a partition."""
    return partition << _WIDTH


def end_of(partition: int) -> int:
    """Return the number of the last record that a partition has room for."""
    return (partition + 1 << _WIDTH) - 1


def layout_of(path: str, partitions: int | None, busy_timeout: float, mode: int = 0o600) -> Layout:
    """Return the layout of a transport's file.

    Args:
        path: the file.
        partitions: how many logs it has, each leased to one worker; None for one that all share.
        busy_timeout: for how many seconds to wait for a lock.
        mode: the permissions of a file that is created.
    """
    return Layout(
        path,
        busy_timeout,
        mode,
        ERRORS,
        check=partial(_version_of, path=path, partitions=partitions),
        lay_out=partial(_lay_out, path=path, partitions=partitions),
    )


def check_kind(connection: sqlite3.Connection, path: str) -> None:
    """Check that a database is a transport's.

    Raises:
        TransportUnusable: it is not.
    """
    tables = tables_of(connection)
    if "flexiflow_durable" not in tables:
        raise TransportUnusable(path, other_kind(tables) if tables else "it is empty")


def _lay_out(connection: sqlite3.Connection, path: str, partitions: int | None) -> None:
    version = _version_of(connection, path, partitions)
    if version is None:
        make(connection, partitions)
    elif version in MIGRATED:
        migrate(connection, version)


def _version_of(connection: sqlite3.Connection, path: str, partitions: int | None) -> int | None:
    """Return the version of a file's layout, after checking it; None if the file is empty."""
    if not tables_of(connection):
        return None
    check_kind(connection, path)
    version, made_with = connection.execute("SELECT * FROM flexiflow_durable").fetchone()
    if version not in (VERSION, *MIGRATED):
        raise TransportUnusable(
            path,
            f"its layout is version {version}, and this release knows version {VERSION} and "
            "those before; a newer release would be right",
        )
    if made_with != partitions:
        raise TransportUnusable(
            path, f"it was made with partitions={made_with}, not partitions={partitions}"
        )
    return int(version)
