"""Bodies in the SQLite transport's file: their sizes are looked at before they are read (X14)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import sqlite3

Place: TypeAlias = Literal["records", "kept", "dead"]
"""A table with bodies."""


class Body(NamedTuple):
    """A body as it is given on.

    Attributes:
        body: the bytes; none where there are too many.
        oversize: how many there are, where there are too many; else 0.
    """

    body: bytes
    oversize: int = 0


def bounded(column: str) -> str:
    """Return what selects a body if it is bytes, and not more than so many; else NULL.

    What it is else, `look_at` tells.
    """
    return f"CASE WHEN typeof({column}) = 'blob' AND length({column}) <= ? THEN {column} END"


def look_at(db: sqlite3.Connection, place: Place, number: int, most: int) -> Body:
    """Read a body that something else has put there, or one that is too large.

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
    """Return how many bytes a body has, without reading them: of a text SQLite can't tell."""
    query = "SELECT typeof(body), CASE typeof(body) WHEN 'text' THEN 0 ELSE length(body) END FROM "
    row = db.execute(f"{query}{place} WHERE rowid = ?", (number,)).fetchone()
    kind, length = row
    if kind != "text":
        # Something else may have put nothing there at all.
        return int(length or 0)
    with db.blobopen(place, "body", number, readonly=True) as blob:
        return len(blob)
