"""Receiving from the SQLite transport's file: plain statements, in the caller's transaction.

`ahead` looks whether there is something to give, without locking the database; `give` gives it.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple, cast, final

from flexiflow.extras.durable._sqlite.bodies import Body, bounded, look_at
from flexiflow.extras.durable._sqlite.leases import (
    forget_lapsed,
    holds,
    lapse,
    look,
    miss,
    others,
    revive,
)
from flexiflow.extras.durable._sqlite.log import last_of, since
from flexiflow.extras.durable._sqlite.schema import first_of
from flexiflow.extras.durable._sqlite.waiting import clamp, drop, due, next_due, take
from flexiflow.extras.durable._transport import Delivery

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from flexiflow.extras.durable._sqlite.bodies import Place
    from flexiflow.extras.durable._sqlite.leases import Held, Other, Reading
    from flexiflow.extras.durable._sqlite.waiting import Waiting
    from flexiflow.extras.durable._transport import Room

_LEFT: Final = (
    "SELECT pending.id, pending.attempts, pending.deliveries, pending.done, pending.waited,"  # noqa: S608 - no input
    " owner, kept.number, coalesce(records.id, kept.number),"
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
        owner: the owner by which it has waited, or None; see `Held.owner`.
        kept: the row of `kept` with its body, if it has waited.
        place: the row of its body, in `kept` or in `records`; None if it was deleted.
        group: as in `Delivery`.
        body: its body, if that is bytes and not too large; else None.
    """

    number: int
    attempts: int
    deliveries: int
    is_done: bool
    has_waited: bool
    owner: int | None
    kept: int | None
    place: int | None
    group: str | None
    body: bytes | None

    @property
    def is_ended(self) -> bool:
        """Whether it can't be given, since it is done or was deleted."""
        return self.is_done or self.place is None


@final
class _Filling:
    """The deliveries of one `receive`, as far as there is room for them.

    Args:
        room: the room.
        first: the number before that of the partition's first record.
        most: how many bytes a body may have.

    Attributes:
        given: the deliveries.
        left: how many more records there is room for.
        is_full: whether a record did not fit; then no later one may be added, to keep the order.
        most: how many bytes a body may have.
    """

    __slots__ = ("_first", "_size", "given", "is_full", "left", "most")

    def __init__(self, room: Room, first: int, most: int) -> None:
        self.given: list[Delivery] = []
        self.left = room.records
        self.is_full = False
        self.most = most
        self._size = room.size
        self._first = first

    def add(
        self,
        number: int,
        body: Body,
        group: str | None,
        attempts: int = 0,
        deliveries: int = 0,
        *,
        has_waited: bool = False,
    ) -> bool:
        """Add a record, as an attempt that begins, if there is room; return whether there was."""
        data, oversize = body
        size = self._size - len(data)
        if self.is_full or not self.left or size < 0:
            self.is_full = True
            return False
        self.left -= 1
        self._size = size
        self.given.append(
            Delivery(
                str(number - self._first),
                data,
                group,
                attempts,
                deliveries or 1,
                deliveries > 0,
                has_waited,
                oversize,
            )
        )
        return True

    def add_new(
        self, db: sqlite3.Connection, rows: Iterable[tuple[int, str | None, bytes | None]]
    ) -> tuple[list[int], bool]:
        """Add records that are new to the group, as far as there is room for their bytes.

        Returns:
            The numbers of the records that were added, and whether those were all.
        """
        numbers: list[int] = []
        is_all, first = True, self._first
        for number, group, given in rows:
            data, oversize = given, 0
            if data is None:
                data, oversize = look_at(db, "records", number, self.most)
            if len(data) > self._size:
                is_all = False
                break
            self._size -= len(data)
            numbers.append(number)
            position = str(number - first)
            # By position, which is quicker: this is done for each event.
            self.given.append(Delivery(position, data, group, 0, 1, False, False, oversize))  # noqa: FBT003
        self.left -= len(numbers)
        return numbers, is_all


def ahead(db: sqlite3.Connection, held: Held, room: Room, now: float) -> float:
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
    soonest, owners = inf, [held.owner]
    for other in _others(db, held, now):
        if other.is_over:
            owners.append(other.token)
        else:
            soonest = min(soonest, other.ends)
    if reading.waiting and room.again:
        longest = held.member.longest_delay
        soonest = min(soonest, next_due(db, held.group, owners, now, longest))
    return soonest


def give(db: sqlite3.Connection, held: Held, room: Room, most: int, now: float) -> list[Delivery]:
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
    over = lapse(db, held, _others(db, held, now))
    filling = _Filling(room, first_of(held.partition), most)
    is_full = _is_full(db, held, reading, room)
    _give_left(db, held, filling, now)
    if reading.waiting and room.again:
        _give_again(db, held, filling, room.again, [held.owner, *over], now)
    if filling.left and not filling.is_full and not is_full:
        _give_new(db, held, filling, reading.given, filling.left)
    forget_lapsed(db, held, over, now)
    return filling.given


def still_held(db: sqlite3.Connection, held: Held, given: Iterable[Delivery]) -> list[Delivery]:
    """Return the deliveries that a lease still holds, of those that were given to it before."""
    look(db, held)
    return [each for each in given if holds(db, held, each.position)]


def _others(db: sqlite3.Connection, held: Held, now: float) -> list[Other]:
    return [] if held.is_exclusive else others(db, held, now)


def _is_full(db: sqlite3.Connection, held: Held, reading: Reading, room: Room) -> bool:
    """Return whether too many records wait to give new ones, not counting those that are out."""
    if reading.waiting < room.waiting:
        return False
    query = "SELECT count(*) FROM pending WHERE group_id = ? AND id BETWEEN ? AND ? AND waited"
    (out,) = db.execute(query, held.span).fetchone()
    return reading.waiting - int(out) >= room.waiting


def _give_left(db: sqlite3.Connection, held: Held, filling: _Filling, now: float) -> None:
    """Give the records that no lease holds; settle those that are done or were deleted."""
    seen: list[_Left] = []
    rows = db.execute(_LEFT, (filling.most, filling.most, *held.span))
    for each in map(_Left._make, rows):
        if not each.is_ended and not _add_left(db, filling, each):
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


def _add_left(db: sqlite3.Connection, filling: _Filling, left: _Left) -> bool:
    place: Place = "kept" if left.has_waited else "records"
    body = _body(db, place, cast("int", left.place), left.body, filling.most)
    counts = left.attempts, left.deliveries
    return filling.add(left.number, body, left.group, *counts, has_waited=bool(left.has_waited))


def _body(db: sqlite3.Connection, place: Place, row: int, body: bytes | None, most: int) -> Body:
    return look_at(db, place, row, most) if body is None else Body(body)


def _give_new(
    db: sqlite3.Connection, held: Held, filling: _Filling, before: int, limit: int
) -> None:
    """Give up to `limit` records that are new to the group."""
    rows = since(db, held.partition, before, limit, filling.most)
    numbers, is_all = filling.add_new(db, rows)
    rows.close()
    last = numbers[-1] - first_of(held.partition) if numbers else before
    if is_all and len(numbers) < limit:
        # Records after the last one that is there may have been deleted; or other software has put
        # records there, after the end of the log.
        last = max(last, last_of(db, held.partition))
    db.executemany(
        "INSERT INTO pending (group_id, id, attempts, deliveries, holder) VALUES (?, ?, 0, 1, ?)",
        ((held.group, number, held.token) for number in numbers),
    )
    db.execute(
        "UPDATE readings SET given = ?, missed = missed + ? WHERE group_id = ? AND partition = ?",
        (last, last - before - len(numbers), held.group, held.partition),
    )


def _give_again(
    db: sqlite3.Connection,
    held: Held,
    filling: _Filling,
    most: int,
    owners: list[int],
    now: float,
) -> None:
    """Give up to `most` records that have waited and are due."""
    clamp(db, held.group, owners, now + held.member.longest_delay)
    end = max(filling.left - most, 0)
    is_to_go_on = True
    while is_to_go_on and filling.left > end:
        # Records that turn out to be done take no room, so look for more.
        waiting = due(db, held.group, owners, now, filling.left - end)
        is_to_go_on = _give_due(db, held, filling, waiting, now)


def _give_due(
    db: sqlite3.Connection, held: Held, filling: _Filling, waiting: Iterable[Waiting], now: float
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
        group, given = found
        body = _body(db, "kept", each.kept, given, filling.most)
        counts = each.attempts, each.deliveries
        if not filling.add(each.number, body, group, *counts, has_waited=True):
            return False
        take(db, held.group, each.number, each.owner, held.owner)
        db.execute(
            "INSERT INTO pending (group_id, id, attempts, deliveries, holder, waited)"
            " VALUES (?, ?, ?, ?, ?, 1)",
            (held.group, each.number, each.attempts, max(each.deliveries, 1), held.token),
        )
    return has_ended and filling.left > 0
