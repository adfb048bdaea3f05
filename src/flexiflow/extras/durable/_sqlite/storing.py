"""Storing in the SQLite transport's file: plain statements, in the caller's transaction."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from flexiflow.extras.durable._errors import LogFull
from flexiflow.extras.durable._logs import check_records, spread
from flexiflow.extras.durable._sqlite.log import append, begin_of, count_after, last_of
from flexiflow.extras.durable._sqlite.schedule import put_due
from flexiflow.extras.durable._sqlite.schema import end_of, first_of

if TYPE_CHECKING:
    import sqlite3

    from flexiflow.extras.durable._logs import LogLimits
    from flexiflow.extras.durable._records import Batch

_LAST_STORED: Final = (
    "SELECT max(CASE typeof(stored) WHEN 'real' THEN stored ELSE ? END) FROM records"
    " WHERE id BETWEEN ? AND ?"
)


def store(
    db: sqlite3.Connection, batch: Batch, address: str, limits: LogLimits, now: float
) -> bool:
    """Store a batch, unless its producer has stored it before.

    Returns:
        Whether it is stored. If not, there is so much that is due before it that the caller should
        commit what was done, and try again.

    Raises:
        LogFull: there is no room; the caller must roll back the transaction.
        EventTooLarge: a body has too many bytes; nothing was written.
    """
    check_records(batch, limits.max_event_bytes)
    parts = spread(batch, limits.logs)
    if put_due(db, parts, now):
        return False
    query = "SELECT number, at FROM producers WHERE name = ?"
    found = db.execute(query, (batch.producer,)).fetchone()
    if found is None:
        # Forget old producers only here: no other batch adds a producer.
        db.execute("DELETE FROM producers WHERE at < ?", (now - limits.window,))
    elif found[0] >= batch.number:
        return True
    is_lasting = batch.is_lasting or (found is not None and found[1] == inf)
    row = (batch.producer, batch.number, inf if is_lasting else now)
    db.execute("INSERT OR REPLACE INTO producers VALUES (?, ?, ?)", row)
    for partition, records in parts.items():
        if not _make_room(db, partition, len(records), limits.max_length, now):
            raise LogFull(address, limits.max_length)
        append(db, partition, records, now)
    return True


def produced(db: sqlite3.Connection, producer: str) -> int:
    """Return the number of a producer's last batch; 0 if it is not known."""
    query = "SELECT number FROM producers WHERE name = ?"
    (number,) = db.execute(query, (producer,)).fetchone() or (0,)
    return int(number)


def _make_room(
    db: sqlite3.Connection, partition: int, wanted: int, max_length: int, now: float
) -> bool:
    """Delete records that are no longer needed, if room is wanted; return whether there is some."""
    last = last_of(db, partition)
    until = last + wanted - max_length
    if until <= 0 or until < begin_of(db, partition):
        return True
    if until > _floor(db, partition, last):
        return _length(db, partition) + wanted <= max_length
    span = first_of(partition), first_of(partition) + until
    (stored,) = db.execute(_LAST_STORED, (now, *span)).fetchone()
    statement = "UPDATE logs SET deleted = max(coalesce(deleted, ?1), ?1) WHERE partition = ?2"
    db.execute(statement, (stored, partition))
    db.execute("DELETE FROM records WHERE id BETWEEN ? AND ?", span)
    return True


def _floor(db: sqlite3.Connection, partition: int, last: int) -> int:
    """Return the last position up to which no group needs the log any more."""
    query = (
        "SELECT min(min(given, coalesce((SELECT id - ? - 1 FROM pending WHERE pending.group_id ="
        " readings.group_id AND id BETWEEN ? AND ? AND waited = 0 ORDER BY id LIMIT 1), given)))"
        " FROM readings WHERE partition = ?"
    )
    # Copies may be pending behind what is given, if the group was made to begin again.
    first = first_of(partition)
    (floor,) = db.execute(query, (first, first, end_of(partition), partition)).fetchone()
    return last if floor is None else int(floor)


def _length(db: sqlite3.Connection, partition: int) -> int:
    # Slow, but needed: if other software has deleted records, there may be room.
    return count_after(db, first_of(partition), end_of(partition))
