"""Leases in the SQLite transport's file: plain statements, in the caller's transaction.

A lease that has run out stays in the table. When another lease receives, it frees the records of
the one that has run out, and notes that it is over (`lapse`). A free record remembers its last
holder. Before the lease that was over does anything else, it takes back those of its records that
nobody was given meanwhile (`revive`, X11).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flexiflow.extras.durable._errors import LeaseLost
from flexiflow.extras.durable._membership import KEPT_FOR
from flexiflow.extras.durable._sqlite.groups import written
from flexiflow.extras.durable._sqlite.held import HeldLease, LeaseState, OtherLease
from flexiflow.extras.durable._sqlite.schema import first_of
from flexiflow.extras.durable._sqlite.waiting import has_waiting, keys_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from flexiflow.extras.durable._records import Delivery, Member

_RUN_OUT: Final = 1
"""A value of `leases.over`: the lease has run out, and its records were freed."""

_RELEASED: Final = 2
"""A value of `leases.over`: the lease is gone, and its row is kept for records that wait by it."""

# Only few records are free at a time, so a search among them is quick; an index by `lapsed` would
# cost time for each record that is given.
_LAPSED: Final = "WHERE group_id = ? AND id BETWEEN ? AND ? AND holder IS NULL AND lapsed = ?"

_READING: Final = (
    "SELECT leases.over, groups.patterns, readings.given, readings.waiting,"
    " readings.passed FROM leases"
    " JOIN groups ON groups.id = leases.group_id"
    " JOIN readings ON readings.group_id = leases.group_id"
    " AND readings.partition = leases.partition WHERE token = ?"
)


def acquire(
    db: sqlite3.Connection, member: Member, partition: int, now: float, *, is_exclusive: bool
) -> HeldLease | None:
    """Lease a partition; None if another has it, the member stands by, or the group is gone."""
    query = "SELECT id, patterns, replay FROM groups WHERE name = ?"
    group, taken, replay = db.execute(query, (member.group,)).fetchone() or (None, None, 0)
    patterns = written(member.patterns)
    if group is None or taken != patterns:
        return None
    held = HeldLease(member, patterns, group, partition, 0, is_exclusive, replay)
    if is_exclusive:
        leases = others(db, held, now)
        if any(each.ends > 0 for each in leases):
            return None
        for token, _, _ in leases:
            _end(db, held, token)
        held = held._replace(lines=keys_of(db, group, held.owner))
    cursor = db.execute(
        "INSERT INTO leases (group_id, partition, since, until, over, replay)"
        " VALUES (?, ?, ?, ?, 0, ?)",
        (group, partition, now, now + member.lease, replay),
    )
    return held._replace(token=cursor.lastrowid or 0)


def state_of(db: sqlite3.Connection, held: HeldLease) -> LeaseState:
    """Return how a lease and its group stand, and change nothing.

    Raises:
        LeaseLost: the lease is gone.
    """
    row = db.execute(_READING, (held.token,)).fetchone()
    if row is None or row[0] == _RELEASED:
        raise lost(held)
    over, *reading = row
    return LeaseState(over == _RUN_OUT, *reading)


def lost(held: HeldLease) -> LeaseLost:
    """Return the exception for a lease that is gone."""
    return LeaseLost(held.member.consumer, held.member.group, held.partition)


def revive(db: sqlite3.Connection, held: HeldLease) -> LeaseState:
    """Return how a lease stands; if it was over, first take back what nobody was given meanwhile.

    Raises:
        LeaseLost: the lease is gone.
    """
    reading = state_of(db, held)
    if reading.is_over:
        db.execute("UPDATE leases SET over = 0 WHERE token = ?", (held.token,))
        statement = (
            f"UPDATE pending INDEXED BY pending_free SET holder = lapsed, lapsed = NULL {_LAPSED}"  # noqa: S608 - no input
        )
        db.execute(statement, (*held.span, held.token))
    return reading


def others(db: sqlite3.Connection, held: HeldLease, now: float) -> list[OtherLease]:
    """Return the other leases of the partition.

    A lease that begins later than now counts as run out: the clock was set back.
    """
    query = (
        "SELECT token, CASE WHEN since > ? THEN 0.0 ELSE until - ? END, coalesce(over, 0) > 0"
        " FROM leases WHERE group_id = ? AND partition = ? AND token <> ?"
    )
    rows = db.execute(query, (now, now, held.group, held.partition, held.token))
    return [OtherLease(token, ends, bool(over)) for token, ends, over in rows]


def lapse(db: sqlite3.Connection, held: HeldLease, leases: Iterable[OtherLease]) -> list[int]:
    """Free the records of leases that have run out; return the tokens of all that are over."""
    over: list[int] = []
    for token, ends, is_over in leases:
        if not is_over:
            if ends > 0:
                continue
            statement = "UPDATE leases SET over = ? WHERE token = ?"
            db.execute(statement, (_RUN_OUT, token))
            _free(db, held, token)
        over.append(token)
    return over


def forget_lapsed(
    db: sqlite3.Connection, held: HeldLease, tokens: Iterable[int], now: float
) -> None:
    """Delete leases that are over and hold nothing, and were released or ran out long ago."""
    for token in tokens:
        if not has_waiting(db, held.group, token):
            db.execute(
                "DELETE FROM leases WHERE token = ? AND (over = ? OR (until <= ? AND NOT EXISTS"  # noqa: S608 - no input
                f" (SELECT 1 FROM pending INDEXED BY pending_free {_LAPSED})))",
                (token, _RELEASED, now - KEPT_FOR, *held.span, token),
            )


def renew(
    db: sqlite3.Connection, held: HeldLease, positions: Sequence[str], now: float
) -> list[str]:
    """Make a lease last its full time from now on; return the positions that it does not hold."""
    revive(db, held)
    span = (now, now + held.member.lease)
    db.execute("UPDATE leases SET since = ?, until = ? WHERE token = ?", (*span, held.token))
    return [each for each in positions if not holds(db, held, each)]


def holds(db: sqlite3.Connection, held: HeldLease, position: str) -> bool:
    """Return whether a lease holds a record, or would take it back."""
    query = (
        "SELECT 1 FROM pending WHERE group_id = ? AND id = ?"
        " AND (holder = ? OR (holder IS NULL AND lapsed = ?))"
    )
    row = (held.group, held.number(position), held.token, held.token)
    return db.execute(query, row).fetchone() is not None


def release(db: sqlite3.Connection, held: HeldLease, untaken: Sequence[Delivery]) -> None:
    """End a lease and free its records; those in `untaken` count as never delivered."""
    revive(db, held)
    db.executemany(
        "UPDATE pending SET deliveries = 0 WHERE group_id = ? AND id = ? AND holder = ?",
        (
            (held.group, held.number(each.position), held.token)
            for each in untaken
            if not each.is_suspect
        ),
    )
    if has_waiting(db, held.group, held.token):
        db.execute("UPDATE leases SET over = ? WHERE token = ?", (_RELEASED, held.token))
        _free(db, held, held.token)
    else:
        _end(db, held, held.token)


def _end(db: sqlite3.Connection, held: HeldLease, token: int) -> None:
    db.execute("DELETE FROM leases WHERE token = ?", (token,))
    _free(db, held, token)


def _free(db: sqlite3.Connection, held: HeldLease, token: int) -> None:
    # Remember the last holder: it may take the record back, and all others have lost it.
    db.execute(
        "UPDATE pending SET holder = NULL, lapsed = holder"
        " WHERE group_id = ? AND id BETWEEN ? AND ? AND holder = ?",
        (*held.span, token),
    )


def is_of_now(db: sqlite3.Connection, held: HeldLease) -> bool:
    """Return whether a group is still there, and has not begun again since a lease of it began."""
    query = "SELECT 1 FROM groups WHERE id = ? AND replay = ?"
    return db.execute(query, (held.group, held.replay)).fetchone() is not None


def end_all(db: sqlite3.Connection, group: int) -> None:
    """End all leases of a group, and free their records."""
    db.execute("UPDATE leases SET over = ? WHERE group_id = ?", (_RELEASED, group))
    db.execute(
        "DELETE FROM leases WHERE group_id = ?1"
        " AND token NOT IN (SELECT owner FROM waiting WHERE group_id = ?1)",
        (group,),
    )
    db.execute(
        "UPDATE pending SET holder = NULL, lapsed = holder"
        " WHERE group_id = ? AND holder IS NOT NULL",
        (group,),
    )


def pass_over(db: sqlite3.Connection, held: HeldLease, until: int) -> int:
    """Pass over records up to a position, and return how many; see the table `passed`."""
    first = first_of(held.partition)
    query = "DELETE FROM passed WHERE group_id = ? AND id BETWEEN ? AND ?"
    return db.execute(query, (held.group, first, first + until)).rowcount


def miss(db: sqlite3.Connection, held: HeldLease, number: int) -> None:
    """Count records that were deleted before they were settled."""
    if number:
        statement = "UPDATE readings SET missed = missed + ? WHERE group_id = ? AND partition = ?"
        db.execute(statement, (number, held.group, held.partition))
