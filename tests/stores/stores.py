"""What the tests of stores share: a store of each kind, and calls that are short to write."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from flexiflow.extras.stores import SqliteStateStore, StateStore

PATIENCE = 60
"""Seconds after which a test that waits has failed."""


async def saved(store: StateStore, *names: str, **given: Any) -> list[int]:
    """Save components that are not stored, and return their versions."""
    return [await store.save(name, "new", None, expected=0, **given) for name in names]


def run_sql(path: Path | str, *statements: str) -> list[Any]:
    """Do something to a file behind the store's back; return the rows of the last statement."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        rows: list[Any] = []
        for statement in statements:
            rows = connection.execute(statement).fetchall()
        return rows


def database_of(store: SqliteStateStore) -> sqlite3.Connection:
    """Return the connection of a store that is open."""
    return store._jobs._file.database()
