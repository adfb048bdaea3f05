"""Scheduled records in the SQLite transport's file (Y3): plain statements.

Every call that looks at a log first puts into it what is due: so a record comes before all that is
stored after its time. If so much is due that one transaction would take long, a part of it is put
there, and the caller has to commit and to come again.
"""

from __future__ import annotations

from itertools import accumulate
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from flexiflow.extras.durable._errors import ScheduleFull
from flexiflow.extras.durable._logs import PAGE_BYTES
from flexiflow.extras.durable._records import Record, ScheduledRecord
from flexiflow.extras.durable._sqlite.log import reserve, size_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from flexiflow.extras.durable._logs import LogLimits

_MOST: Final = 1_000
"""How many records are put into logs in one transaction, and how many tickets are forgotten."""

_DUE: Final = (
    "SELECT partition, number, ticket, length(body) FROM scheduled WHERE partition = ? AND due <= ?"
    " ORDER BY due, ticket LIMIT ?"
)

_ALL_DUE: Final = _DUE.replace("partition = ? AND ", "")

_PUT: Final = (
    "INSERT INTO records (id, stored, body) SELECT ?, ?, body FROM scheduled WHERE number = ?"
)

_FORGET: Final = (
    "DELETE FROM tickets WHERE ticket IN"
    " (SELECT ticket FROM tickets WHERE at < ? ORDER BY at LIMIT ?)"
)

_KNOWN: Final = (
    "SELECT 1 FROM scheduled WHERE ticket = ?1 UNION ALL SELECT 1 FROM tickets WHERE ticket = ?1"
)

_AFTER: Final = (
    "SELECT due, ticket, partition, number FROM scheduled"
    " WHERE (due, ticket) > (?, ?) ORDER BY due, ticket LIMIT ?"
)


class _Due(NamedTuple):
    """A record that is due: its partition, its row, its ticket, and how many bytes it has."""

    partition: int
    number: int
    ticket: str
    size: int


def put_due(db: sqlite3.Connection, partitions: Iterable[int], now: float) -> bool:
    """Put records that are due into the logs of some partitions.

    Returns:
        Whether there may be more of them, since there were as many as one transaction may store.
    """
    due: list[_Due] = []
    for partition in partitions:
        rows = db.execute(_DUE, (partition, now, _MOST - len(due)))
        due += map(_Due._make, rows)
    return _put(db, due, now)


def put_all_due(db: sqlite3.Connection, now: float) -> bool:
    """Put records that are due into all logs, as `put_due` does."""
    return _put(db, [_Due._make(row) for row in db.execute(_ALL_DUE, (now, _MOST))], now)


def is_due(db: sqlite3.Connection, now: float) -> bool:
    """Return whether anything is due in any log."""
    return next_of_all(db) <= now


def _put(db: sqlite3.Connection, due: Sequence[_Due], now: float) -> bool:
    """Put records into their logs, up to a size; return whether there may be more of them."""
    sizes = accumulate((each.size for each in due), initial=0)
    wanted = [each for each, before in zip(due, sizes, strict=False) if before < PAGE_BYTES]
    by_log: dict[int, list[int]] = {}
    for each in wanted:
        by_log.setdefault(each.partition, []).append(each.number)
    for partition, numbers in by_log.items():
        numbered = enumerate(numbers, reserve(db, partition, len(numbers)))
        db.executemany(_PUT, [(record, now, number) for record, number in numbered])
    db.executemany("DELETE FROM scheduled WHERE number = ?", [(each.number,) for each in wanted])
    used = [(each.ticket, 0, now) for each in wanted]
    db.executemany("INSERT OR REPLACE INTO tickets VALUES (?, ?, ?)", used)
    return len(wanted) < len(due) or len(due) == _MOST


def next_due(db: sqlite3.Connection, partition: int) -> float:
    """Return when the next record of a log is due; infinite if there is none."""
    query = "SELECT due FROM scheduled WHERE partition = ? ORDER BY due LIMIT 1"
    (due,) = db.execute(query, (partition,)).fetchone() or (inf,)
    return float(due)


def next_of_all(db: sqlite3.Connection) -> float:
    """Return when the next record of any log is due; infinite if there is none."""
    (due,) = db.execute("SELECT min(due) FROM scheduled").fetchone()
    return inf if due is None else float(due)


def schedule(
    db: sqlite3.Connection, wanted: ScheduledRecord, address: str, limits: LogLimits, now: float
) -> bool | None:
    """Schedule a record, unless its ticket was used before.

    Returns:
        Whether it is the next one of its log. None if there is so much that is due before it that
        the caller should commit, and try again.

    Raises:
        ScheduleFull: there are as many as may be; nothing was written.
    """
    ticket, partition, due, (body, key, _) = wanted
    if put_due(db, (partition,), now):
        return None
    _forget(db, now - limits.window)
    if db.execute(_KNOWN, (ticket,)).fetchone() is not None:
        return False
    query = "SELECT scheduled FROM logs WHERE partition = ?"
    (count,) = db.execute(query, (partition,)).fetchone()
    if count >= limits.max_scheduled:
        raise ScheduleFull(address, limits.max_scheduled)
    is_next = due < next_due(db, partition)
    db.execute(
        "INSERT INTO scheduled (ticket, partition, due, line, body) VALUES (?, ?, ?, ?, ?)",
        (ticket, partition, due, key, body),
    )
    return is_next


def cancel(db: sqlite3.Connection, ticket: str, window: float, now: float) -> bool:
    """Delete a scheduled record; return whether it was, or had been, deleted in time."""
    _forget(db, now - window)
    if db.execute("DELETE FROM scheduled WHERE ticket = ?", (ticket,)).rowcount:
        db.execute("INSERT OR REPLACE INTO tickets VALUES (?, 1, ?)", (ticket, now))
        return True
    query = "SELECT is_cancelled FROM tickets WHERE ticket = ?"
    (is_cancelled,) = db.execute(query, (ticket,)).fetchone() or (0,)
    return bool(is_cancelled)


def _forget(db: sqlite3.Connection, before: float) -> None:
    """Forget some of the tickets that were used before a time, the oldest first.

    Called whenever a ticket is used or cancelled, so that their number does not grow without end.
    """
    db.execute(_FORGET, (before, _MOST))


def scheduled(
    db: sqlite3.Connection, after: ScheduledRecord | None, limit: int
) -> list[ScheduledRecord]:
    """Return scheduled records of all logs; fewer than `limit` if they are large (X14)."""
    last = (-inf, "") if after is None else (after.due, after.ticket)
    found: list[ScheduledRecord] = []
    left = PAGE_BYTES
    for due, ticket, partition, number in db.execute(_AFTER, (*last, limit)):
        left -= size_of(db, "scheduled", number)
        if left < 0 and found:
            break
        query = "SELECT CAST(body AS BLOB), line FROM scheduled WHERE number = ?"
        record = Record(*db.execute(query, (number,)).fetchone())
        found.append(ScheduledRecord(ticket, partition, due, record))
    return found
