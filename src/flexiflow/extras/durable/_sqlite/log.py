"""The logs in the SQLite transport's file: plain statements, in the caller's transaction.

A body's size is checked before it is read (X14).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from flexiflow.extras.durable._errors import LogFull
from flexiflow.extras.durable._logs import PAGE_BYTES, check_records, spread
from flexiflow.extras.durable._records import Stored
from flexiflow.extras.durable._sqlite.schema import end_of, first_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from flexiflow.extras.durable._logs import LogLimits
    from flexiflow.extras.durable._records import Batch, Record

BodyTable: TypeAlias = Literal["records", "kept", "dead"]
"""A table that has bodies."""

# Two statements, since to bind a value that is not needed costs a third of the time.
_INSERT: Final = "INSERT INTO records (id, body) VALUES (?, ?)"
_INSERT_FOR_GROUP: Final = "INSERT INTO records (id, body, only_group) VALUES (?, ?, ?)"


def bounded(column: str) -> str:
    """Return an expression for a body: the body if it is bytes and at most `?` long, else NULL.

    For a body that is NULL by this, call `look_at`.
    """
    return f"CASE WHEN typeof({column}) = 'blob' AND length({column}) <= ? THEN {column} END"


_SINCE: Final = (
    f"SELECT id, only_group, {bounded('body')} FROM records"  # noqa: S608 - no input
    " WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
)


def store(
    db: sqlite3.Connection, batch: Batch, address: str, limits: LogLimits, now: float
) -> None:
    """Store a batch, unless its producer has stored it before.

    Raises:
        LogFull: there is no room; the caller must roll back the transaction.
        EventTooLarge: a body has too many bytes; nothing was written.
    """
    check_records(batch, limits.max_event_bytes)
    query = "SELECT number FROM producers WHERE name = ?"
    found = db.execute(query, (batch.producer,)).fetchone()
    if found is None:
        # Forget old producers only here: no other batch adds a producer.
        db.execute("DELETE FROM producers WHERE at < ?", (now - limits.window,))
    elif found[0] >= batch.number:
        return
    row = (batch.producer, batch.number, now)
    db.execute("INSERT OR REPLACE INTO producers VALUES (?, ?, ?)", row)
    for partition, records in spread(batch, limits.logs).items():
        if not _make_room(db, partition, len(records), limits.max_length):
            raise LogFull(address, limits.max_length)
        append(db, partition, records)


def append(db: sqlite3.Connection, partition: int, records: Sequence[Record]) -> None:
    """Store records at the end of a log."""
    numbered = enumerate(records, reserve(db, partition, len(records)))
    if any(record.group is not None for record in records):
        rows = [(number, record.body, record.group) for number, record in numbered]
        db.executemany(_INSERT_FOR_GROUP, rows)
    else:
        db.executemany(_INSERT, [(number, record.body) for number, record in numbered])


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


def since(
    db: sqlite3.Connection, partition: int, position: int, limit: int, most: int
) -> sqlite3.Cursor:
    """Return a cursor over the numbers, groups and bodies of records after a position, in order.

    Args:
        db: the database.
        partition: the log's partition.
        position: the position.
        limit: how many records at most.
        most: how many bytes a body may have; a larger one, or one that is not bytes, is None.
    """
    span = first_of(partition) + position, end_of(partition)
    return db.execute(_SINCE, (most, *span, limit))


def tail(db: sqlite3.Connection, positions: Sequence[int], limit: int, most: int) -> list[Stored]:
    """Return records after a position in each log; fewer than `limit` if they are large (X14)."""
    found: list[Stored] = []
    left = PAGE_BYTES
    for partition, after in enumerate(positions):
        # Each log has an equal part of what the logs before it have left of the page.
        part = left // (len(positions) - partition)
        for number, group, given in since(db, partition, after, limit, most):
            body = look_at(db, "records", number, most)[0] if given is None else given
            found.append(Stored(partition, str(number - first_of(partition)), body, group))
            left -= len(body)
            part -= len(body)
            if part <= 0:
                break
        if left <= 0:
            break
    return found


def _make_room(db: sqlite3.Connection, partition: int, wanted: int, max_length: int) -> bool:
    """Delete records that are no longer needed, if room is wanted; return whether there is some."""
    last = last_of(db, partition)
    until = last + wanted - max_length
    if until <= 0 or until < begin_of(db, partition):
        return True
    if until > _floor(db, partition, last):
        return _length(db, partition) + wanted <= max_length
    span = first_of(partition), first_of(partition) + until
    db.execute("DELETE FROM records WHERE id BETWEEN ? AND ?", span)
    return True


def _floor(db: sqlite3.Connection, partition: int, last: int) -> int:
    """Return the last position up to which no group needs the log any more."""
    query = (
        "SELECT min(coalesce((SELECT id - ? - 1 FROM pending WHERE pending.group_id ="
        " readings.group_id AND id BETWEEN ? AND ? AND waited = 0 ORDER BY id LIMIT 1), given))"
        " FROM readings WHERE partition = ?"
    )
    first = first_of(partition)
    (floor,) = db.execute(query, (first, first, end_of(partition), partition)).fetchone()
    return last if floor is None else int(floor)


def _length(db: sqlite3.Connection, partition: int) -> int:
    # Slow, but needed: if other software has deleted records, there may be room.
    query = "SELECT count(*) FROM records WHERE id BETWEEN ? AND ?"
    (length,) = db.execute(query, (first_of(partition), end_of(partition))).fetchone()
    return int(length)


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
