"""Receiving from the SQLite transport's file: plain statements, in the caller's transaction.

`ahead` looks whether there is something to give, without locking the database; `give` gives it.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from flexiflow.extras.durable._filling import Filling
from flexiflow.extras.durable._records import Delivery
from flexiflow.extras.durable._sqlite.leases import (
    forget_lapsed,
    holds,
    lapse,
    look,
    miss,
    others,
    pass_over,
    revive,
)
from flexiflow.extras.durable._sqlite.log import bounded, last_of, look_at, since
from flexiflow.extras.durable._sqlite.schedule import next_due as next_scheduled
from flexiflow.extras.durable._sqlite.schedule import put_due
from flexiflow.extras.durable._sqlite.schema import first_of
from flexiflow.extras.durable._sqlite.waiting import clamp, drop, due, next_due, take

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from flexiflow.extras.durable._records import Room
    from flexiflow.extras.durable._sqlite.leases import HeldLease, LeaseState, OtherLease
    from flexiflow.extras.durable._sqlite.waiting import DueRecord

_LEFT: Final = (
    "SELECT pending.id, pending.attempts, pending.deliveries, pending.done, pending.waited,"  # noqa: S608 - no input
    " owner, coalesce(records.id, kept.number),"
    " coalesce(records.only_group, kept.only_group),"
    f" CASE WHEN pending.waited THEN {bounded('kept.body')} ELSE {bounded('records.body')} END"
    " FROM pending INDEXED BY pending_free"
    " LEFT JOIN records ON records.id = pending.id AND NOT pending.waited"
    " LEFT JOIN waiting ON waiting.group_id = pending.group_id AND waiting.id = pending.id"
    " AND pending.waited"
    " LEFT JOIN kept ON kept.number = waiting.kept"
    " WHERE pending.group_id = ? AND pending.id BETWEEN ? AND ? AND holder IS NULL"
    " ORDER BY pending.id"
)

_FREE: Final = (
    "SELECT 1 FROM pending INDEXED BY pending_free"
    " WHERE group_id = ? AND id BETWEEN ? AND ? AND holder IS NULL LIMIT 1"
)

_KEPT: Final = f"SELECT only_group, {bounded('body')} FROM kept WHERE number = ?"  # noqa: S608 - no input

_TAKE: Final = (
    "UPDATE pending SET holder = ?, lapsed = NULL, deliveries = max(deliveries, 1)"
    " WHERE group_id = ? AND id = ?"
)


class _Left(NamedTuple):
    """A pending record that no lease holds.

    Attributes:
        number: the record's number.
        attempts: as in `Delivery`.
        deliveries: as in `Delivery`.
        is_done: whether it was acknowledged by a lease that no longer held it.
        has_waited: whether it was postponed before.
        owner: the owner by which it has waited, or None; see `HeldLease.owner`.
        row: the row of its body, in `kept` or in `records`; None if it was deleted.
        group: as in `Delivery`.
        body: its body, if that is bytes and not too large; else None.
    """

    number: int
    attempts: int
    deliveries: int
    is_done: bool
    has_waited: bool
    owner: int | None
    row: int | None
    group: str | None
    body: bytes | None

    @property
    def is_ended(self) -> bool:
        """Whether it can't be given, since it is done or was deleted."""
        return self.is_done or self.row is None


def ahead(db: sqlite3.Connection, held: HeldLease, room: Room, now: float) -> float:
    """Return in how many seconds there may be something to give; 0 or less for now.

    Only reads, so that others may write meanwhile.

    Raises:
        LeaseLost: the lease is gone.
    """
    reading = look(db, held)
    if reading.patterns != held.patterns:
        return inf
    if reading.given < last_of(db, held.partition) and not _is_full(db, held, reading, room):
        return 0
    if db.execute(_FREE, held.span).fetchone() is not None:
        return 0
    soonest, owners = next_scheduled(db, held.partition) - now, [held.owner]
    for other in _others(db, held, now):
        if other.is_over:
            owners.append(other.token)
        else:
            soonest = min(soonest, other.ends)
    if reading.waiting and room.again:
        longest = held.member.longest_delay
        soonest = min(soonest, next_due(db, held.group, owners, now, longest))
    return soonest


def give(
    db: sqlite3.Connection, held: HeldLease, room: Room, most: int, now: float
) -> list[Delivery]:
    """Give records to a lease, as `Lease.receive` says.

    Args:
        db: the database.
        held: the lease.
        room: how much the worker can receive.
        most: how many bytes a body may have.
        now: the time, in seconds since 1970.

    Raises:
        LeaseLost: the lease is gone.
    """
    reading = revive(db, held)
    if reading.patterns != held.patterns:
        return []
    put_due(db, (held.partition,), now)
    over = lapse(db, held, _others(db, held, now))
    filling = Filling(room, most)
    is_full = _is_full(db, held, reading, room)
    _give_left(db, held, filling, now)
    if reading.waiting and room.again:
        _give_again(db, held, filling, room.again, [held.owner, *over], now)
    if filling.left and not filling.is_full and not is_full:
        _give_new(db, held, filling, reading, filling.left)
    forget_lapsed(db, held, over, now)
    return filling.given


def still_held(
    db: sqlite3.Connection, held: HeldLease, given: Iterable[Delivery]
) -> list[Delivery]:
    """Return the deliveries that a lease still holds, of those that were given to it before."""
    look(db, held)
    return [each for each in given if holds(db, held, each.position)]


def _others(db: sqlite3.Connection, held: HeldLease, now: float) -> list[OtherLease]:
    return [] if held.is_exclusive else others(db, held, now)


def _is_full(db: sqlite3.Connection, held: HeldLease, reading: LeaseState, room: Room) -> bool:
    """Return whether too many records wait to give new ones, not counting those that are out."""
    if reading.waiting < room.waiting:
        return False
    query = "SELECT count(*) FROM pending WHERE group_id = ? AND id BETWEEN ? AND ? AND waited"
    (out,) = db.execute(query, held.span).fetchone()
    return reading.waiting - int(out) >= room.waiting


def _give_left(db: sqlite3.Connection, held: HeldLease, filling: Filling, now: float) -> None:
    """Give the records that no lease holds; settle those that are done or were deleted."""
    seen: list[_Left] = []
    rows = db.execute(_LEFT, (filling.most, filling.most, *held.span))
    for each in map(_Left._make, rows):
        if not each.is_ended:
            found = cast("int", each.row), each.group, each.body
            if not _add(db, held, filling, each, found, has_waited=bool(each.has_waited)):
                break
        seen.append(each)
    rows.close()
    for each in seen:
        if each.is_ended:
            statement = "DELETE FROM pending WHERE group_id = ? AND id = ?"
            db.execute(statement, (held.group, each.number))
            drop(db, held.group, each.number, now)
            miss(db, held, not each.is_done)
            continue
        db.execute(_TAKE, (held.token, held.group, each.number))
        if each.owner is not None:
            take(db, held.group, each.number, each.owner, held.owner)


def _add(
    db: sqlite3.Connection,
    held: HeldLease,
    filling: Filling,
    record: _Left | DueRecord,
    found: tuple[int, str | None, bytes | None],
    *,
    has_waited: bool,
) -> bool:
    """Give a record that was given before, if there is room; return whether there was.

    Args:
        db: the database.
        held: the lease.
        filling: where to add it.
        record: the record.
        found: the row of its body, its group, and its body as `bounded` gives it.
        has_waited: whether it was postponed before.
    """
    row, group, body = found
    oversize = 0
    if body is None:
        body, oversize = look_at(db, "kept" if has_waited else "records", row, filling.most)
    position, counts = (
        record.number - first_of(held.partition),
        (record.attempts, record.deliveries),
    )
    return filling.add(position, body, group, *counts, has_waited=has_waited, oversize=oversize)


def _give_new(
    db: sqlite3.Connection, held: HeldLease, filling: Filling, reading: LeaseState, limit: int
) -> None:
    """Give up to `limit` records that are new to the group."""
    first, given, before = first_of(held.partition), filling.given, reading.given
    has_passed = reading.passed > before
    numbers: list[int] = []
    is_all = True
    passing = held.group if has_passed else None
    rows = since(db, held.partition, before, limit, filling.most, passing)
    for number, group, found in rows:
        data, oversize = found, 0
        if data is None:
            data, oversize = look_at(db, "records", number, filling.most)
        if len(data) > filling.size:
            is_all = False
            break
        filling.size -= len(data)
        numbers.append(number)
        # Without `Filling.add`, and by place, which is quicker: this is done for each event.
        given.append(Delivery(str(number - first), data, group, 0, 1, False, False, oversize))  # noqa: FBT003
    rows.close()
    last = numbers[-1] - first if numbers else before
    if is_all and len(numbers) < limit:
        # Records after the last one that is there may have been deleted; or other software has put
        # records there, after the end of the log.
        last = max(last, last_of(db, held.partition))
    db.executemany(
        "INSERT INTO pending (group_id, id, attempts, deliveries, holder) VALUES (?, ?, 0, 1, ?)",
        ((held.group, number, held.token) for number in numbers),
    )
    found = len(numbers) + (pass_over(db, held, last) if has_passed else 0)
    db.execute(
        "UPDATE readings SET given = ?, missed = missed + ? WHERE group_id = ? AND partition = ?",
        (last, last - before - found, held.group, held.partition),
    )


def _give_again(
    db: sqlite3.Connection,
    held: HeldLease,
    filling: Filling,
    most: int,
    owners: list[int],
    now: float,
) -> None:
    """Give up to `most` records that have waited and are due."""
    clamp(db, held.group, owners, now + held.member.longest_delay)
    end = max(filling.left - most, 0)
    may_be_more = True
    while may_be_more and filling.left > end:
        # Records that turn out to be done take no room, so look for more.
        waiting = due(db, held.group, owners, now, filling.left - end)
        may_be_more = _give_due(db, held, filling, waiting, now)


def _give_due(
    db: sqlite3.Connection,
    held: HeldLease,
    filling: Filling,
    waiting: Iterable[DueRecord],
    now: float,
) -> bool:
    """Give records that are due; return whether some were done already, and there is room left."""
    has_ended = False
    for each in waiting:
        found = db.execute(_KEPT, (filling.most, each.kept)).fetchone()
        if each.is_done or found is None:
            drop(db, held.group, each.number, now)
            miss(db, held, not each.is_done)
            has_ended = True
            continue
        if not _add(db, held, filling, each, (each.kept, *found), has_waited=True):
            return False
        take(db, held.group, each.number, each.owner, held.owner)
        db.execute(
            "INSERT INTO pending (group_id, id, attempts, deliveries, holder, waited)"
            " VALUES (?, ?, ?, ?, ?, 1)",
            (held.group, each.number, each.attempts, max(each.deliveries, 1), held.token),
        )
    return has_ended and filling.left > 0
