"""Bodies in the SQLite transport's file: a body's size is checked before it is read (X14)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import sqlite3

BodyTable: TypeAlias = Literal["records", "kept", "dead"]
"""A table that has bodies."""


def bounded(column: str) -> str:
    """Return an expression for a body: the body if it is bytes and at most `?` long, else NULL.

    For a body that is NULL by this, call `look_at`.
    """
    return f"CASE WHEN typeof({column}) = 'blob' AND length({column}) <= ? THEN {column} END"


def look_at(db: sqlite3.Connection, table: BodyTable, number: int, most: int) -> tuple[bytes, int]:
    """Return a body for which `bounded` gives NULL: too large, or not stored by this transport.

    Args:
        db: the database.
        table: the table.
        number: the row.
        most: how many bytes it may have.

    Returns:
        The body and 0; if it is too large, an empty one and its size.
    """
    size = size_of(db, table, number)
    if size > most:
        return b"", size
    query = f"SELECT CAST(body AS BLOB) FROM {table} WHERE rowid = ?"  # noqa: S608 - no input
    return db.execute(query, (number,)).fetchone()[0] or b"", 0


def size_of(db: sqlite3.Connection, table: BodyTable, number: int) -> int:
    """Return how many bytes a body has, without reading them."""
    query = "SELECT typeof(body), CASE typeof(body) WHEN 'text' THEN 0 ELSE length(body) END FROM "
    row = db.execute(f"{query}{table} WHERE rowid = ?", (number,)).fetchone()
    kind, length = row
    if kind != "text":
        # Other software may have put NULL there.
        return int(length or 0)
    # SQLite's `length` of a text counts characters.
    with db.blobopen(table, "body", number, readonly=True) as blob:
        return len(blob)
