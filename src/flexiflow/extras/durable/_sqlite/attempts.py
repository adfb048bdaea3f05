"""Attempts whose ends are reported by leases that don't hold the records any more (X11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from flexiflow.extras.durable._outcomes import Acknowledged, Followed, Noted

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from flexiflow.extras.durable._outcomes import Outcome, Settling
    from flexiflow.extras.durable._sqlite.held import HeldLease

_HOLDER: Final = "SELECT coalesce(holder, lapsed) FROM pending WHERE group_id = ? AND id = ?"

_OWNER: Final = "SELECT owner FROM waiting WHERE group_id = ? AND id = ?"

_DONE: Final = "UPDATE pending SET done = 1 WHERE group_id = ? AND id = ?"


def end_attempts(db: sqlite3.Connection, held: HeldLease, outcomes: Sequence[Outcome]) -> None:
    """Note the ends of attempts, reported by a lease that is gone (X11)."""
    for each in outcomes:
        if not isinstance(each, Followed):
            is_lost(db, held, each, is_gone=True)


def is_lost(
    db: sqlite3.Connection, held: HeldLease, outcome: Settling, *, is_gone: bool = False
) -> bool:
    """Return whether another lease holds a record; if so, note the end of an attempt.

    Args:
        db: the database.
        held: the lease.
        outcome: the record's outcome.
        is_gone: whether the lease is gone, and so holds no record, whatever the tables say.
    """
    place = held.group, held.number(outcome.position)
    found = db.execute(_HOLDER, place).fetchone()
    if found is None:
        found = db.execute(_OWNER, place).fetchone()
        is_elsewhere = found is not None and (is_gone or found[0] != held.owner)
        if is_elsewhere:
            _end_attempt(db, "waiting", place, outcome)
        return is_elsewhere
    (holder,) = found
    if holder is None:
        # It was returned, and no lease holds it.
        if isinstance(outcome, Acknowledged):
            db.execute(_DONE, place)
        return False
    is_elsewhere = is_gone or holder != held.token
    if is_elsewhere:
        _end_attempt(db, "pending", place, outcome)
    return is_elsewhere


def _end_attempt(
    db: sqlite3.Connection,
    table: Literal["pending", "waiting"],
    place: tuple[int, int],
    outcome: Settling,
) -> None:
    """Note the end of an attempt, reported by a lease that does not hold the record."""
    if isinstance(outcome, Noted):
        return
    values: tuple[int, ...] = place
    change = "done = 1"
    if not isinstance(outcome, Acknowledged):
        change, values = "attempts = max(attempts, ?)", (outcome.attempts, *place)
    db.execute(
        f"UPDATE {table} SET deliveries = min(deliveries, 1), {change}"  # noqa: S608 - no input
        " WHERE group_id = ? AND id = ?",
        values,
    )
