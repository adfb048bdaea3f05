"""Leases in the SQLite transport's file: plain statements, in the caller's transaction."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple, cast

from flexiflow.extras.durable._errors import LeaseLost
from flexiflow.extras.durable._sqlite_groups import id_of, standing_in
from flexiflow.extras.durable._sqlite_log import last_of, since
from flexiflow.extras.durable._sqlite_schema import end_of, first_of
from flexiflow.extras.durable._transport import Acknowledged, Buried, Delivery, Noted, Returned

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from flexiflow.extras.durable._transport import Member, Outcome, Standing


class Held(NamedTuple):
    """A lease.

    Attributes:
        member: whose.
        group: the group's id.
        partition: of what.
        token: its number; greater than all before.
    """

    member: Member
    group: int
    partition: int
    token: int

    @property
    def span(self) -> tuple[int, int, int]:
        """The group, and the numbers of the first and the last record."""
        return self.group, first_of(self.partition), end_of(self.partition)

    def number(self, position: str) -> int:
        """Give the number of a record."""
        return first_of(self.partition) + int(position)


def acquire(
    db: sqlite3.Connection, member: Member, partition: int, now: float, *, is_exclusive: bool
) -> Held | None:
    """Lease a partition; None where it is another's, or there is no such group."""
    group = id_of(db, member.group)
    if group is None:
        return None
    _expire(db, Held(member, group, partition, 0), now)
    query = "SELECT count(*) FROM leases WHERE group_id = ? AND partition = ?"
    (taken,) = db.execute(query, (group, partition)).fetchone()
    if is_exclusive and taken:
        return None
    token = db.execute(
        "INSERT INTO leases (group_id, partition, since, until) VALUES (?, ?, ?, ?)",
        (group, partition, now, now + member.lease),
    ).lastrowid
    return Held(member, group, partition, token or 0)


def check(db: sqlite3.Connection, held: Held, now: float) -> None:
    """See whether a lease holds still.

    Raises:
        LeaseLost: it doesn't.
    """
    query = "SELECT 1 FROM leases WHERE token = ? AND since <= ? AND until > ?"
    if db.execute(query, (held.token, now, now)).fetchone() is None:
        raise LeaseLost(held.member.consumer, held.member.group, held.partition)


def is_waiting(db: sqlite3.Connection, held: Held, now: float) -> bool:
    """Tell whether there may be something to give, without a lock."""
    check(db, held, now)
    if _given(db, held) < last_of(db, held.partition):
        return True
    query = "SELECT EXISTS (SELECT 1 FROM pending WHERE group_id = ? AND id BETWEEN ? AND ? AND "
    (is_free,) = db.execute(query + "holder IS NULL)", held.span).fetchone()
    return bool(is_free or _overdue(db, held, now))


def give(db: sqlite3.Connection, held: Held, limit: int, now: float) -> list[Delivery]:
    """Give records to the holder of a lease: first those that nobody holds."""
    check(db, held, now)
    _expire(db, held, now)
    left = _give_left(db, held, limit)
    return left + _give_new(db, held, limit - len(left))


def settle(db: sqlite3.Connection, held: Held, outcomes: Sequence[Outcome], now: float) -> None:
    """Write down what became of records that are held."""
    check(db, held, now)
    for kind, some in groupby(outcomes, type):
        if kind is Acknowledged:
            _remove(db, held, some)
        elif kind is Buried:
            for each in some:
                _bury(db, held, cast("Buried", each), now)
        else:
            _count(db, held, cast("Iterable[Noted | Returned]", some))


def renew(db: sqlite3.Connection, held: Held, now: float) -> Standing:
    """Hold a lease for as many seconds again, and tell how far the group is there."""
    check(db, held, now)
    span = (now, now + held.member.lease)
    db.execute("UPDATE leases SET since = ?, until = ? WHERE token = ?", (*span, held.token))
    return standing_in(db, held.group, held.partition)


def release(db: sqlite3.Connection, held: Held, untaken: Sequence[Delivery], now: float) -> None:
    """End a lease, and let go what it holds; what nobody has taken is given as if anew."""
    check(db, held, now)
    fresh = [Returned(each.position, each.attempts, 0) for each in untaken if not each.is_suspect]
    _count(db, held, fresh)
    _end(db, held, held.token)


def _expire(db: sqlite3.Connection, held: Held, now: float) -> None:
    for token in _overdue(db, held, now):
        _end(db, held, token)


def _overdue(db: sqlite3.Connection, held: Held, now: float) -> list[int]:
    query = "SELECT token FROM leases WHERE group_id = ? AND partition = ?"
    over = " AND (since > ? OR until <= ?)"
    return [token for (token,) in db.execute(query + over, (held.group, held.partition, now, now))]


def _end(db: sqlite3.Connection, held: Held, token: int) -> None:
    db.execute("DELETE FROM leases WHERE token = ?", (token,))
    statement = "UPDATE pending SET holder = NULL WHERE group_id = ? AND id BETWEEN ? AND ?"
    db.execute(statement + " AND holder = ?", (*held.span, token))


def _given(db: sqlite3.Connection, held: Held) -> int:
    query = "SELECT given FROM readings WHERE group_id = ? AND partition = ?"
    (given,) = db.execute(query, (held.group, held.partition)).fetchone()
    return int(given)


def _miss(db: sqlite3.Connection, held: Held, number: int) -> None:
    statement = "UPDATE readings SET missed = missed + ? WHERE group_id = ? AND partition = ?"
    db.execute(statement, (number, held.group, held.partition))


def _give_left(db: sqlite3.Connection, held: Held, limit: int) -> list[Delivery]:
    free = "group_id = ? AND pending.id BETWEEN ? AND ? AND holder IS NULL"
    gone = "NOT EXISTS (SELECT 1 FROM records WHERE records.id = pending.id)"
    statement = f"DELETE FROM pending WHERE {free} AND {gone}"  # noqa: S608 - no input
    _miss(db, held, db.execute(statement, held.span).rowcount)
    query = (
        "SELECT pending.id, CAST(body AS BLOB), only_group, attempts, deliveries"  # noqa: S608 - too
        f" FROM pending JOIN records USING (id) WHERE {free} ORDER BY pending.id LIMIT ?"
    )
    rows = db.execute(query, (*held.span, limit)).fetchall()
    db.executemany(
        "UPDATE pending SET holder = ?, deliveries = max(deliveries, 1)"
        " WHERE group_id = ? AND id = ?",
        ((held.token, held.group, number) for number, *_ in rows),
    )
    first = first_of(held.partition)
    return [
        Delivery(str(number - first), body, group, attempts, max(deliveries, 1), deliveries > 0)
        for number, body, group, attempts, deliveries in rows
    ]


def _give_new(db: sqlite3.Connection, held: Held, limit: int) -> list[Delivery]:
    if limit == 0:
        return []
    before = _given(db, held)
    rows = since(db, held.partition, before, limit)
    # After the last one that is there, others may have been deleted too.
    given = rows[-1][0] if len(rows) == limit else last_of(db, held.partition)
    first = first_of(held.partition)
    db.executemany(
        "INSERT INTO pending VALUES (?, ?, 0, 1, ?)",
        ((held.group, first + position, held.token) for position, _, _ in rows),
    )
    db.execute(
        "UPDATE readings SET given = ?, missed = missed + ? WHERE group_id = ? AND partition = ?",
        (given, given - before - len(rows), held.group, held.partition),
    )
    return [
        Delivery(str(position), body, group, attempts=0, deliveries=1, is_suspect=False)
        for position, body, group in rows
    ]


def _remove(db: sqlite3.Connection, held: Held, outcomes: Iterable[Outcome]) -> int:
    return db.executemany(
        "DELETE FROM pending WHERE group_id = ? AND id = ? AND holder = ?",
        ((held.group, held.number(each.position), held.token) for each in outcomes),
    ).rowcount


def _count(db: sqlite3.Connection, held: Held, outcomes: Iterable[Noted | Returned]) -> None:
    db.executemany(
        "UPDATE pending SET attempts = ?, deliveries = ?, holder = ?"
        " WHERE group_id = ? AND id = ? AND holder = ?",
        (
            (
                *(each.attempts, each.deliveries),
                held.token if isinstance(each, Noted) else None,
                *(held.group, held.number(each.position), held.token),
            )
            for each in outcomes
        ),
    )


def _encodable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _bury(db: sqlite3.Connection, held: Held, outcome: Buried, now: float) -> None:
    if not _remove(db, held, (outcome,)):
        return
    cursor = db.execute(
        "INSERT INTO dead (group_id, partition, body, type, message, traceback, attempts,"
        " deliveries, time) SELECT ?, ?, body, ?, ?, ?, ?, ?, ? FROM records WHERE id = ?",
        (
            *(held.group, held.partition, *map(_encodable, outcome.failure)),
            *(outcome.attempts, outcome.deliveries, now, held.number(outcome.position)),
        ),
    )
    # One that was deleted meanwhile can't be kept as a letter.
    _miss(db, held, 1 - cursor.rowcount)
