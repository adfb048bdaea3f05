"""The logs in the SQLite transport's file: plain statements, in the caller's transaction.

A body's size is checked before it is read (X14).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from flexiflow.extras.durable._logs import PAGE_BYTES
from flexiflow.extras.durable._records import Stored
from flexiflow.extras.durable._sqlite.schema import end_of, first_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from flexiflow.extras.durable._records import Record

BodyTable: TypeAlias = Literal["records", "kept", "dead", "scheduled"]
"""A table that has bodies."""

# Two statements, since to bind a value that is not needed costs a third of the time.
_INSERT: Final = "INSERT INTO records (id, stored, body) VALUES (?, ?, ?)"
_INSERT_FOR_GROUP: Final = "INSERT INTO records (id, stored, body, only_group) VALUES (?, ?, ?, ?)"


TIME: Final = "CASE typeof(stored) WHEN 'real' THEN stored END"
"""An expression for when a record was stored; NULL if that is not known."""


def bounded(column: str) -> str:
    """Return an expression for a body: the body if it is bytes and at most `?` long, else NULL.

    For a body that is NULL by this, call `irregular_body`.
    """
    return f"CASE WHEN typeof({column}) = 'blob' AND length({column}) <= ? THEN {column} END"


_SINCE: Final = (
    f"SELECT id, only_group, {bounded('body')} FROM records"  # noqa: S608 - no input
    " WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
)

_SINCE_BUT: Final = _SINCE.replace(
    " ORDER",
    " AND NOT EXISTS (SELECT 1 FROM passed WHERE group_id = ? AND passed.id = records.id) ORDER",
)

_TAIL: Final = (
    f"SELECT id, only_group, {bounded('body')}, {TIME} FROM records"  # noqa: S608 - no input
    " WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
)


def append(db: sqlite3.Connection, partition: int, records: Sequence[Record], now: float) -> None:
    """Store records at the end of a log."""
    numbered = enumerate(records, reserve(db, partition, len(records)))
    if any(record.group is not None for record in records):
        rows = [(number, now, record.body, record.group) for number, record in numbered]
        db.executemany(_INSERT_FOR_GROUP, rows)
    else:
        db.executemany(_INSERT, [(number, now, record.body) for number, record in numbered])


def reserve(db: sqlite3.Connection, partition: int, wanted: int) -> int:
    """Make room at the end of a log for records, and return the number of the first."""
    last = _free_after(db, partition, last_of(db, partition), wanted)
    db.execute("UPDATE logs SET last = ? WHERE partition = ?", (last + wanted, partition))
    return first_of(partition) + last + 1


def _free_after(db: sqlite3.Connection, partition: int, last: int, wanted: int) -> int:
    # Records that other software has put there count as part of the log.
    query = "SELECT max(id) FROM records WHERE id BETWEEN ? AND ?"
    first = first_of(partition)
    while True:
        span = first + last + 1, first + last + wanted
        (found,) = db.execute(query, span).fetchone()
        if found is None:
            return last
        last = int(found) - first


def last_of(db: sqlite3.Connection, partition: int) -> int:
    """Return the position of the last record that was stored; 0 before the first."""
    query = "SELECT last FROM logs WHERE partition = ?"
    (last,) = db.execute(query, (partition,)).fetchone()
    return int(last)


def ends(db: sqlite3.Connection) -> list[int]:
    """Return the position of the last record of each log."""
    return [last for (last,) in db.execute("SELECT last FROM logs ORDER BY partition")]


def begin_of(db: sqlite3.Connection, partition: int) -> int:
    """Return the position of the first record that is there; of the next one if there is none."""
    span = first_of(partition), end_of(partition)
    query = "SELECT min(id) FROM records WHERE id BETWEEN ? AND ?"
    (found,) = db.execute(query, span).fetchone()
    return last_of(db, partition) + 1 if found is None else int(found) - first_of(partition)


def count_after(db: sqlite3.Connection, number: int, last: int) -> int:
    """Return how many records there are after one, up to the last; slow, as it reads them all."""
    query = "SELECT count(*) FROM records WHERE id > ? AND id <= ?"
    (count,) = db.execute(query, (number, last)).fetchone()
    return int(count)


def since(
    db: sqlite3.Connection,
    partition: int,
    position: int,
    limit: int,
    most: int,
    passing: int | None = None,
) -> sqlite3.Cursor:
    """Return a cursor over the numbers, groups and bodies of records after a position, in order.

    Args:
        db: the database.
        partition: the log's partition.
        position: the position.
        limit: how many records at most.
        most: how many bytes a body may have; a larger one, or one that is not bytes, is None.
        passing: the id of a group; if given, records that it passes over are left out.
    """
    span = first_of(partition) + position, end_of(partition)
    if passing is not None:
        return db.execute(_SINCE_BUT, (most, *span, passing, limit))
    return db.execute(_SINCE, (most, *span, limit))


def tail(db: sqlite3.Connection, positions: Sequence[int], limit: int, most: int) -> list[Stored]:
    """Return records after a position in each log; fewer than `limit` if they are large (X14)."""
    found: list[Stored] = []
    left = PAGE_BYTES
    for partition, after in enumerate(positions):
        # Each log has an equal part of what the logs before it have left of the page.
        part = left // (len(positions) - partition)
        span = first_of(partition) + after, end_of(partition)
        for number, group, given, time in db.execute(_TAIL, (most, *span, limit)):
            body = irregular_body(db, "records", number, most)[0] if given is None else given
            found.append(Stored(partition, str(number - first_of(partition)), body, group, time))
            left -= len(body)
            part -= len(body)
            if part <= 0:
                break
        if left <= 0:
            break
    return found


def irregular_body(
    db: sqlite3.Connection, table: BodyTable, number: int, most: int
) -> tuple[bytes, int]:
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
