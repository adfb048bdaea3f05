"""Receiving from the SQLite transport's file: plain statements, in the caller's transaction.

`ahead` looks whether there is something to give, without locking the database; `give` gives it.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from flexiflow.extras.durable._filling import Filling
from flexiflow.extras.durable._records import Delivery
from flexiflow.extras.durable._sqlite.again import give_again, give_left
from flexiflow.extras.durable._sqlite.leases import (
    forget_lapsed,
    holds,
    lapse,
    others,
    pass_over,
    revive,
    state_of,
)
from flexiflow.extras.durable._sqlite.log import irregular_body, last_of, since
from flexiflow.extras.durable._sqlite.schedule import next_due as next_scheduled
from flexiflow.extras.durable._sqlite.schedule import put_due
from flexiflow.extras.durable._sqlite.schema import first_of
from flexiflow.extras.durable._sqlite.waiting import next_due

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from flexiflow.extras.durable._records import Room
    from flexiflow.extras.durable._sqlite.held import HeldLease, LeaseState, OtherLease

_FREE: Final = (
    "SELECT 1 FROM pending INDEXED BY pending_free"
    " WHERE group_id = ? AND id BETWEEN ? AND ? AND holder IS NULL LIMIT 1"
)


def ahead(db: sqlite3.Connection, held: HeldLease, room: Room, now: float) -> float:
    """Return in how many seconds there may be something to give; 0 or less for now.

    Only reads, so that others may write meanwhile.

    Raises:
        LeaseLost: the lease is gone.
    """
    reading = state_of(db, held)
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
    give_left(db, held, filling, now)
    if reading.waiting and room.again:
        give_again(db, held, filling, room.again, [held.owner, *over], now)
    if filling.left and not filling.is_full and not is_full:
        _give_new(db, held, filling, reading, filling.left)
    forget_lapsed(db, held, over, now)
    return filling.given


def still_held(
    db: sqlite3.Connection, held: HeldLease, given: Iterable[Delivery]
) -> list[Delivery]:
    """Return the deliveries that a lease still holds, of those that were given to it before."""
    state_of(db, held)
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
            data, oversize = irregular_body(db, "records", number, filling.most)
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
