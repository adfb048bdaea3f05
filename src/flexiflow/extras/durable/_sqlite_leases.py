"""Leases in the SQLite transport's file: plain statements, in the caller's transaction.

A lease that has run out stays. A `receive` of another one frees what it holds, and notes that it is
over. Whatever it does next, first it takes back what nobody was given meanwhile (X11).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from flexiflow.extras.durable._errors import LeaseLost
from flexiflow.extras.durable._membership import KEPT_FOR
from flexiflow.extras.durable._sqlite_groups import written
from flexiflow.extras.durable._sqlite_schema import end_of, first_of
from flexiflow.extras.durable._sqlite_waiting import has_waiting, keys_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from flexiflow.extras.durable._transport import Delivery, Member

_RUN_OUT: Final = 1
"""Of `leases.over`: others may be given what it held."""

_RELEASED: Final = 2
"""Of `leases.over`: it is gone, and kept for what waits by it."""

# There are few that nobody holds; an index of their own would cost each one that is given.
_LAPSED: Final = "WHERE group_id = ? AND id BETWEEN ? AND ? AND holder IS NULL AND lapsed = ?"

_READING: Final = (
    "SELECT leases.over, groups.patterns, readings.given, readings.waiting FROM leases"
    " JOIN groups ON groups.id = leases.group_id"
    " JOIN readings ON readings.group_id = leases.group_id"
    " AND readings.partition = leases.partition WHERE token = ?"
)


class Held(NamedTuple):
    """A lease.

    Attributes:
        member: whose.
        patterns: the member's patterns, as they are written in the file.
        group: the group's id.
        partition: of what.
        token: its number; greater than all before.
        is_exclusive: whether there is one lease of a partition at a time.
        lines: the keys of which something waited when it began, if it is exclusive.
    """

    member: Member
    patterns: str
    group: int
    partition: int
    token: int
    is_exclusive: bool
    lines: frozenset[str] = frozenset()

    @property
    def span(self) -> tuple[int, int, int]:
        """The group, and the numbers of the first and the last record."""
        return self.group, first_of(self.partition), end_of(self.partition)

    @property
    def owner(self) -> int:
        """By what number things wait that are this lease's; no token is below 1."""
        return -1 - self.partition if self.is_exclusive else self.token

    def number(self, position: str) -> int:
        """Return the number of a record."""
        return first_of(self.partition) + int(position)


class Reading(NamedTuple):
    """How far a group is in a partition, as a lease of it sees it.

    Attributes:
        is_over: whether the lease had run out, and what it held was freed.
        patterns: what the group takes, as it is written in the file.
        given: the position up to which records were given to workers.
        waiting: how many records wait or have waited.
    """

    is_over: bool
    patterns: str
    given: int
    waiting: int


class Other(NamedTuple):
    """Another lease of the same partition.

    Attributes:
        token: its number.
        ends: in how many seconds it runs out; 0 or less where it has.
        is_over: whether that was noted, or it was released.
    """

    token: int
    ends: float
    is_over: bool


def acquire(
    db: sqlite3.Connection, member: Member, partition: int, now: float, *, is_exclusive: bool
) -> Held | None:
    """Lease a partition; None where it is another's, or there is no such group, or it stands by."""
    query = "SELECT id, patterns FROM groups WHERE name = ?"
    group, taken = db.execute(query, (member.group,)).fetchone() or (None, None)
    patterns = written(member.patterns)
    if group is None or taken != patterns:
        return None
    held = Held(member, patterns, group, partition, 0, is_exclusive)
    if is_exclusive:
        leases = others(db, held, now)
        if any(each.ends > 0 for each in leases):
            return None
        for token, _, _ in leases:
            _end(db, held, token)
        held = held._replace(lines=keys_of(db, group, held.owner))
    cursor = db.execute(
        "INSERT INTO leases (group_id, partition, since, until, over) VALUES (?, ?, ?, ?, 0)",
        (group, partition, now, now + member.lease),
    )
    return held._replace(token=cursor.lastrowid or 0)


def look(db: sqlite3.Connection, held: Held) -> Reading:
    """See how a lease stands.

    Raises:
        LeaseLost: there is no such lease.
    """
    row = db.execute(_READING, (held.token,)).fetchone()
    if row is None or row[0] == _RELEASED:
        raise lost(held)
    over, patterns, given, waiting = row
    return Reading(over == _RUN_OUT, patterns, given, waiting)


def lost(held: Held) -> LeaseLost:
    """Make the error that says that a lease is gone."""
    return LeaseLost(held.member.consumer, held.member.group, held.partition)


def revive(db: sqlite3.Connection, held: Held) -> Reading:
    """See how a lease stands; if it had run out, take back what nobody was given meanwhile.

    Raises:
        LeaseLost: there is no such lease.
    """
    reading = look(db, held)
    if reading.is_over:
        db.execute("UPDATE leases SET over = 0 WHERE token = ?", (held.token,))
        statement = (
            f"UPDATE pending INDEXED BY pending_free SET holder = lapsed, lapsed = NULL {_LAPSED}"  # noqa: S608 - no input
        )
        db.execute(statement, (*held.span, held.token))
    return reading


def others(db: sqlite3.Connection, held: Held, now: float) -> list[Other]:
    """List the other leases of the partition; one that begins later than now has run out."""
    query = (
        "SELECT token, CASE WHEN since > ? THEN 0.0 ELSE until - ? END, coalesce(over, 0) > 0"
        " FROM leases WHERE group_id = ? AND partition = ? AND token <> ?"
    )
    rows = db.execute(query, (now, now, held.group, held.partition, held.token))
    return [Other(token, ends, bool(over)) for token, ends, over in rows]


def lapse(db: sqlite3.Connection, held: Held, leases: Iterable[Other]) -> list[int]:
    """Free what other leases hold that have run out; return their tokens, and those of before."""
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


def forget_lapsed(db: sqlite3.Connection, held: Held, tokens: Iterable[int], now: float) -> None:
    """Delete leases that are over and of which nothing is left."""
    for token in tokens:
        if not has_waiting(db, held.group, token):
            db.execute(
                "DELETE FROM leases WHERE token = ? AND (over = ? OR (until <= ? AND NOT EXISTS"  # noqa: S608 - no input
                f" (SELECT 1 FROM pending INDEXED BY pending_free {_LAPSED})))",
                (token, _RELEASED, now - KEPT_FOR, *held.span, token),
            )


def renew(db: sqlite3.Connection, held: Held, positions: Sequence[str], now: float) -> list[str]:
    """Hold a lease for as many seconds again, and return those positions that are another's."""
    revive(db, held)
    span = (now, now + held.member.lease)
    db.execute("UPDATE leases SET since = ?, until = ? WHERE token = ?", (*span, held.token))
    return [each for each in positions if not holds(db, held, each)]


def holds(db: sqlite3.Connection, held: Held, position: str) -> bool:
    """Return whether a lease holds a record, or may have it back."""
    query = (
        "SELECT 1 FROM pending WHERE group_id = ? AND id = ?"
        " AND (holder = ? OR (holder IS NULL AND lapsed = ?))"
    )
    row = (held.group, held.number(position), held.token, held.token)
    return db.execute(query, row).fetchone() is not None


def release(db: sqlite3.Connection, held: Held, untaken: Sequence[Delivery]) -> None:
    """End a lease, and free what it holds; what nobody has taken is given as if anew."""
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


def _end(db: sqlite3.Connection, held: Held, token: int) -> None:
    db.execute("DELETE FROM leases WHERE token = ?", (token,))
    _free(db, held, token)


def _free(db: sqlite3.Connection, held: Held, token: int) -> None:
    # Who held it last is kept: that one may have it back, and others have lost it.
    db.execute(
        "UPDATE pending SET holder = NULL, lapsed = holder"
        " WHERE group_id = ? AND id BETWEEN ? AND ? AND holder = ?",
        (*held.span, token),
    )


def miss(db: sqlite3.Connection, held: Held, number: int) -> None:
    """Count what was deleted before it was settled."""
    if number:
        statement = "UPDATE readings SET missed = missed + ? WHERE group_id = ? AND partition = ?"
        db.execute(statement, (number, held.group, held.partition))
