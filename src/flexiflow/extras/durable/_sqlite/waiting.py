"""Records that wait outside the log, in the SQLite transport's file (X12): plain statements.

Such a record waits by an *owner*, which is a lease, or a partition if leases are exclusive (see
`HeldLease.owner`). It is in one of three states: *due* at a time; *in line* of its key, behind one
that is due or out; or *out*, given to a lease, and then it is in the table `pending`, too.
"""

from __future__ import annotations

from heapq import merge
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

_FIRST_IN_LINE: Final = (
    "SELECT id FROM waiting WHERE group_id = ? AND owner = ? AND line = ?"
    " AND state = 'in line' ORDER BY id LIMIT 1"
)

_HEAD: Final = (
    "SELECT 1 FROM waiting WHERE group_id = ? AND owner = ? AND line = ?"
    " AND state IN ('due', 'out') AND id <> ? LIMIT 1"
)

_WAITING_OF_KEY: Final = (
    "SELECT 1 FROM waiting WHERE group_id = ? AND owner = ? AND line = ?"
    " AND state IN ('in line', 'due') LIMIT 1"
)

_DUE: Final = (
    "SELECT due, id, attempts, deliveries, done, owner, line, kept FROM waiting"
    " WHERE group_id = ? AND owner = ? AND due <= ? ORDER BY due, id LIMIT ?"
)

_SPAN: Final = (
    "SELECT (SELECT due FROM waiting WHERE group_id = ?1 AND owner = ?2 AND due IS NOT NULL"
    " ORDER BY due LIMIT 1), (SELECT due FROM waiting WHERE group_id = ?1 AND owner = ?2"
    " AND due IS NOT NULL ORDER BY due DESC LIMIT 1)"
)


_MOVE: Final = (
    "UPDATE waiting SET attempts = ?, deliveries = ?, done = ?, owner = ?, line = ?, state = ?,"
    " due = ? WHERE group_id = ? AND id = ?"
)


class DueRecord(NamedTuple):
    """A record that is due.

    Attributes:
        due: when it is due, in seconds since 1970.
        number: the record's number.
        attempts: as in `Delivery`.
        deliveries: as in `Delivery`.
        is_done: whether it was acknowledged by a lease that no longer held it.
        owner: the owner by which it waits.
        line: its key, or None.
        kept: the row of its body.
    """

    due: float
    number: int
    attempts: int
    deliveries: int
    is_done: bool
    owner: int
    line: str | None
    kept: int


def keep(db: sqlite3.Connection, number: int) -> int | None:
    """Copy a record's body out of the log; return its row, or None if it was deleted."""
    cursor = db.execute(
        "INSERT INTO kept (stored, origin, only_group, body)"
        " SELECT stored, origin, only_group, body FROM records WHERE id = ?",
        (number,),
    )
    return cursor.lastrowid if cursor.rowcount else None


def put(
    db: sqlite3.Connection,
    place: tuple[int, int],
    counts: tuple[int, int, int],
    owner: int,
    line: str | None,
    due: float | None,
    *,
    kept: int | None,
) -> bool:
    """Make a record wait; return False if it should have waited before, and is not there.

    Args:
        db: the database.
        place: the group's id, and the record's number.
        counts: attempts, deliveries, and 1 if it was acknowledged by a lease that no longer held
            it, else 0.
        owner: the owner by which it waits.
        line: its key, or None.
        due: when it is due; None if it stands in its key's line.
        kept: the row of its body; None if it has waited before.
    """
    values = (*counts, owner, line, "in line" if due is None else "due", due)
    if kept is None:
        return db.execute(_MOVE, (*values, *place)).rowcount > 0
    db.execute("INSERT INTO waiting VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*place, *values, kept))
    return True


def line_of(db: sqlite3.Connection, place: tuple[int, int]) -> str | None:
    """Return the key of a record that has waited; None if it has none, or is not there."""
    found = db.execute("SELECT line FROM waiting WHERE group_id = ? AND id = ?", place).fetchone()
    return None if found is None else found[0]


def take(db: sqlite3.Connection, group: int, number: int, former: int, owner: int) -> None:
    """Note that a record is out, and give it a new owner, together with the line behind it.

    Args:
        db: the database.
        group: the group's id.
        number: the record's number.
        former: the owner by which it waited.
        owner: the owner from now on.
    """
    db.execute(
        "UPDATE waiting SET state = 'out', due = NULL, owner = ? WHERE group_id = ? AND id = ?",
        (owner, group, number),
    )
    if former != owner:
        db.execute(
            "UPDATE waiting SET owner = ? WHERE group_id = ? AND owner = ? AND line ="
            " (SELECT line FROM waiting WHERE group_id = ? AND id = ?) AND state = 'in line'",
            (owner, group, former, group, number),
        )


def drop(db: sqlite3.Connection, group: int, number: int, now: float) -> None:
    """Delete a record from `waiting`, if it is there; the next one in its key's line is due."""
    query = "SELECT owner, line FROM waiting WHERE group_id = ? AND id = ?"
    found = db.execute(query, (group, number)).fetchone()
    if found is None:
        return
    db.execute("DELETE FROM waiting WHERE group_id = ? AND id = ?", (group, number))
    owner, line = found
    if line is not None:
        follow(db, group, owner, line, now)


def follow(db: sqlite3.Connection, group: int, owner: int, line: str, now: float) -> None:
    """Make the first record in the line of a key due, unless another one is before it."""
    found = db.execute(_FIRST_IN_LINE, (group, owner, line)).fetchone()
    if found is not None and not has_head(db, group, owner, line, found[0]):
        db.execute(
            "UPDATE waiting SET state = 'due', due = ? WHERE group_id = ? AND id = ?",
            (now, group, found[0]),
        )


def follow_all(db: sqlite3.Connection, group: int, now: float) -> None:
    """Make the first record in the line of each key due, as `follow` does for one key."""
    query = (
        "SELECT DISTINCT owner, line FROM waiting WHERE group_id = ? AND line IS NOT NULL"
        " AND state = 'in line'"
    )
    for owner, line in db.execute(query, (group,)).fetchall():
        follow(db, group, owner, line, now)


def has_head(db: sqlite3.Connection, group: int, owner: int, line: str, number: int) -> bool:
    """Return whether another record of a key has a due time, or is out."""
    return db.execute(_HEAD, (group, owner, line, number)).fetchone() is not None


def is_over(db: sqlite3.Connection, group: int, owner: int, line: str) -> bool:
    """Return whether no record of a key waits."""
    return db.execute(_WAITING_OF_KEY, (group, owner, line)).fetchone() is None


def has_waiting(db: sqlite3.Connection, group: int, owner: int) -> bool:
    """Return whether any record waits by an owner, or is out."""
    query = "SELECT 1 FROM waiting WHERE group_id = ? AND owner = ? LIMIT 1"
    return db.execute(query, (group, owner)).fetchone() is not None


def keys_of(db: sqlite3.Connection, group: int, owner: int) -> frozenset[str]:
    """Return the keys of the records that wait by an owner, or are out."""
    query = (
        "SELECT DISTINCT line FROM waiting WHERE group_id = ? AND owner = ? AND line IS NOT NULL"
    )
    return frozenset(line for (line,) in db.execute(query, (group, owner)))


def due(
    db: sqlite3.Connection, group: int, owners: Iterable[int], now: float, limit: int
) -> list[DueRecord]:
    """Return records of some owners that are due, in the order of their times."""
    found = [db.execute(_DUE, (group, owner, now, limit)).fetchall() for owner in owners]
    return [DueRecord._make(each) for each in islice(merge(*found), limit)]


def clamp(db: sqlite3.Connection, group: int, owners: Iterable[int], latest: float) -> None:
    """Make records due at `latest` that would be due later: the clock may have been set back."""
    statement = "UPDATE waiting SET due = ? WHERE group_id = ? AND owner = ? AND due > ?"
    db.executemany(statement, ((latest, group, owner, latest) for owner in owners))


def next_due(
    db: sqlite3.Connection, group: int, owners: Iterable[int], now: float, longest: float
) -> float:
    """Return in how many seconds a record is due; 0 or less if one is, or must be clamped."""
    soonest = inf
    for owner in owners:
        first, last = db.execute(_SPAN, (group, owner)).fetchone()
        if first is not None:
            soonest = min(soonest, first - now, 0 if last > now + longest else inf)
    return soonest
