"""Bodies in the SQLite transport's file: a body's size is checked before it is read (X14)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import sqlite3

Place: TypeAlias = Literal["records", "kept", "dead"]
"""A table that has bodies."""


class Body(NamedTuple):
    """A body as it is given to a worker.

    Attributes:
        body: the bytes; empty if there are too many.
        oversize: how many bytes there are if there are too many, else 0.
    """

    body: bytes
    oversize: int = 0


def bounded(column: str) -> str:
    """Return an expression for a body: the body if it is bytes and at most `?` long, else NULL.

    For a body that is NULL by this, call `look_at`.
    """
    return f"CASE WHEN typeof({column}) = 'blob' AND length({column}) <= ? THEN {column} END"


def look_at(db: sqlite3.Connection, place: Place, number: int, most: int) -> Body:
    """Return a body for which `bounded` gives NULL: too large, or not stored by this transport.

    Args:
        db: the database.
        place: the table.
        number: the row.
        most: how many bytes it may have.
    """
    size = size_of(db, place, number)
    if size > most:
        return Body(b"", size)
    query = f"SELECT CAST(body AS BLOB) FROM {place} WHERE rowid = ?"  # noqa: S608 - no input
    return Body(db.execute(query, (number,)).fetchone()[0] or b"")


def size_of(db: sqlite3.Connection, place: Place, number: int) -> int:
    """Return how many bytes a body has, without reading them."""
    query = "SELECT typeof(body), CASE typeof(body) WHEN 'text' THEN 0 ELSE length(body) END FROM "
    row = db.execute(f"{query}{place} WHERE rowid = ?", (number,)).fetchone()
    kind, length = row
    if kind != "text":
        # Other software may have put NULL there.
        return int(length or 0)
    # SQLite's `length` of a text counts characters.
    with db.blobopen(place, "body", number, readonly=True) as blob:
        return len(blob)
