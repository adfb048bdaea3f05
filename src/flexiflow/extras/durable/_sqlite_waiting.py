"""What waits outside the log, in the SQLite transport's file (X12): plain statements.

A record that waits is owned by a lease, and is in one of three states: it is due at a time, it
stands in the line of its key behind one that is due or out, or it is out, given to a lease. What is
out is in the table `pending`, too.
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


class Waiting(NamedTuple):
    """A record that is due.

    Attributes:
        due: when.
        number: which.
        attempts: as in `Delivery`.
        deliveries: as in `Delivery`.
        is_done: whether a lease that had lost it has acknowledged it.
        owner: by what it waits.
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


class Place(NamedTuple):
    """How a record waits.

    Attributes:
        group: the group's id.
        number: which record.
        owner: by what it waits.
        line: its key, or None.
        due: when it is due; None in its key's line.
    """

    group: int
    number: int
    owner: int
    line: str | None
    due: float | None


def keep(db: sqlite3.Connection, number: int) -> int | None:
    """Keep the body of a record, and return where; None if it is not in the log any more."""
    cursor = db.execute(
        "INSERT INTO kept (body, only_group) SELECT body, only_group FROM records WHERE id = ?",
        (number,),
    )
    return cursor.lastrowid if cursor.rowcount else None


def begin(db: sqlite3.Connection, place: Place, kept: int, counts: tuple[int, int, int]) -> None:
    """Have a record wait that has not waited before.

    Args:
        db: the database.
        place: how it waits.
        kept: the row of its body.
        counts: attempts, deliveries, and 1 if it was acknowledged by a lease that had lost it.
    """
    group, number, owner, line, due = place
    db.execute(
        "INSERT INTO waiting VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (group, number, *counts, owner, line, _state(due), due, kept),
    )


def move(db: sqlite3.Connection, place: Place, counts: tuple[int, int, int]) -> bool:
    """Have a record wait again that was out, and return whether it is there; see `begin`."""
    group, number, owner, line, due = place
    cursor = db.execute(
        "UPDATE waiting SET attempts = ?, deliveries = ?, done = ?, owner = ?, line = ?, state = ?,"
        " due = ? WHERE group_id = ? AND id = ?",
        (*counts, owner, line, _state(due), due, group, number),
    )
    return cursor.rowcount > 0


def resume(
    db: sqlite3.Connection, group: int, number: int, now: float, counts: tuple[int, int, int]
) -> bool:
    """Make a record due that was out, and return whether it is there; see `begin`."""
    cursor = db.execute(
        "UPDATE waiting SET attempts = ?, deliveries = ?, done = ?, state = 'due', due = ?"
        " WHERE group_id = ? AND id = ?",
        (*counts, now, group, number),
    )
    return cursor.rowcount > 0


def _state(due: float | None) -> str:
    return "in line" if due is None else "due"


def take(db: sqlite3.Connection, group: int, number: int, former: int, owner: int) -> None:
    """Note that a record is out; what is in its line by the one it waited by goes with it.

    Args:
        db: the database.
        group: the group's id.
        number: the record.
        former: by what it waited.
        owner: by what it would wait from now on.
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
    """Delete a record that nobody handles any more; the next in its line is due."""
    query = "SELECT owner, line FROM waiting WHERE group_id = ? AND id = ?"
    found = db.execute(query, (group, number)).fetchone()
    if found is None:
        return
    db.execute("DELETE FROM waiting WHERE group_id = ? AND id = ?", (group, number))
    owner, line = found
    if line is not None:
        follow(db, group, owner, line, now)


def follow(db: sqlite3.Connection, group: int, owner: int, line: str, now: float) -> None:
    """Make the first one due that stands in the line of a key, if it is behind no other."""
    found = db.execute(_FIRST_IN_LINE, (group, owner, line)).fetchone()
    if found is not None and not has_head(db, group, owner, line, found[0]):
        db.execute(
            "UPDATE waiting SET state = 'due', due = ? WHERE group_id = ? AND id = ?",
            (now, group, found[0]),
        )


def has_head(db: sqlite3.Connection, group: int, owner: int, line: str, number: int) -> bool:
    """Return whether another record of a key is due some time, or out."""
    return db.execute(_HEAD, (group, owner, line, number)).fetchone() is not None


def is_over(db: sqlite3.Connection, group: int, owner: int, line: str) -> bool:
    """Return whether nothing of a key waits."""
    return db.execute(_WAITING_OF_KEY, (group, owner, line)).fetchone() is None


def has_waiting(db: sqlite3.Connection, group: int, owner: int) -> bool:
    """Return whether anything waits by a lease, or is out."""
    query = "SELECT 1 FROM waiting WHERE group_id = ? AND owner = ? LIMIT 1"
    return db.execute(query, (group, owner)).fetchone() is not None


def keys_of(db: sqlite3.Connection, group: int, owner: int) -> frozenset[str]:
    """Return the keys of what waits by a lease, or is out."""
    query = (
        "SELECT DISTINCT line FROM waiting WHERE group_id = ? AND owner = ? AND line IS NOT NULL"
    )
    return frozenset(line for (line,) in db.execute(query, (group, owner)))


def due(
    db: sqlite3.Connection, group: int, owners: Iterable[int], now: float, limit: int
) -> list[Waiting]:
    """List what is due and waits by some leases, the first due first."""
    found = [db.execute(_DUE, (group, owner, now, limit)).fetchall() for owner in owners]
    return [Waiting._make(each) for each in islice(merge(*found), limit)]


def clamp(db: sqlite3.Connection, group: int, owners: Iterable[int], latest: float) -> None:
    """Let nothing be due later than at a time: the clock may have been set back."""
    statement = "UPDATE waiting SET due = ? WHERE group_id = ? AND owner = ? AND due > ?"
    db.executemany(statement, ((latest, group, owner, latest) for owner in owners))


def next_due(
    db: sqlite3.Connection, group: int, owners: Iterable[int], now: float, longest: float
) -> float:
    """Return in how many seconds something is due; 0 or less where it is, or must be clamped."""
    soonest = inf
    for owner in owners:
        first, last = db.execute(_SPAN, (group, owner)).fetchone()
        if first is not None:
            soonest = min(soonest, first - now, 0 if last > now + longest else inf)
    return soonest
