"""What a lease is given from the SQLite transport's file: plain statements."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple, cast, final

from flexiflow.extras.durable._sqlite_bodies import Body, bounded, look_at
from flexiflow.extras.durable._sqlite_leases import (
    forget_lapsed,
    holds,
    lapse,
    look,
    miss,
    others,
    revive,
)
from flexiflow.extras.durable._sqlite_log import last_of, since
from flexiflow.extras.durable._sqlite_schema import first_of
from flexiflow.extras.durable._sqlite_waiting import clamp, drop, due, next_due, take
from flexiflow.extras.durable._transport import Delivery

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from flexiflow.extras.durable._sqlite_bodies import Place
    from flexiflow.extras.durable._sqlite_leases import Held, Other, Reading
    from flexiflow.extras.durable._sqlite_waiting import Waiting
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

_KEPT: Final = f"SELECT only_group, {bounded('body')} FROM kept WHERE number = ?"  # noqa: S608 - too

_TAKE: Final = (
    "UPDATE pending SET holder = ?, lapsed = NULL, deliveries = max(deliveries, 1)"
    " WHERE group_id = ? AND id = ?"
)


class _Left(NamedTuple):
    """A record that nobody holds.

    Attributes:
        number: which.
        attempts: as in `Delivery`.
        deliveries: as in `Delivery`.
        is_done: whether a lease that had lost it has acknowledged it.
        has_waited: whether it has waited.
        owner: by what it has waited, or None.
        kept: where its body is, if it has waited.
        place: where its body is; None where it is gone.
        group: as in `Delivery`.
        body: its body, if it is bytes and not too large.
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
        """Whether it is not to be given: it is done, or gone."""
        return self.is_done or self.place is None


@final
class _Filling:
    """Deliveries that fill the room of a worker.

    Args:
        room: the room.
        first: the number before that of the partition's first record.
        most: how many bytes a body may have.

    Attributes:
        given: what fills it.
        left: for how many more records there is room.
        is_full: whether there was no room for one. What comes after that one must not overtake it.
        most: see above.
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
        """Add a record, as an attempt that begins, and return whether there was room for it."""
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
        """Add records that are new to the group, of no more than there is room for.

        Returns:
            The numbers of those that were added, and whether that was all of them.
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
            # Nothing by name: this is done for each event.
            self.given.append(Delivery(position, data, group, 0, 1, False, False, oversize))  # noqa: FBT003
        self.left -= len(numbers)
        return numbers, is_all


def ahead(db: sqlite3.Connection, held: Held, room: Room, now: float) -> float:
    """Return in how many seconds there may be something to give; 0 or less for now.

    It takes no lock.

    Raises:
        LeaseLost: there is no such lease.
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
    """Give records to the holder of a lease, as `Lease.receive` says.

    Args:
        db: the database.
        held: the lease.
        room: what there is room for.
        most: how many bytes a body may have.
        now: the time.
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
    """Return what is not another's by now of what was given, and not taken."""
    look(db, held)
    return [each for each in given if holds(db, held, each.position)]


def _others(db: sqlite3.Connection, held: Held, now: float) -> list[Other]:
    return [] if held.is_exclusive else others(db, held, now)


def _is_full(db: sqlite3.Connection, held: Held, reading: Reading, room: Room) -> bool:
    """Return whether so much waits that nothing new is to be given; what is out does not wait."""
    if reading.waiting < room.waiting:
        return False
    query = "SELECT count(*) FROM pending WHERE group_id = ? AND id BETWEEN ? AND ? AND waited"
    (out,) = db.execute(query, held.span).fetchone()
    return reading.waiting - int(out) >= room.waiting


def _give_left(db: sqlite3.Connection, held: Held, filling: _Filling, now: float) -> None:
    """Give what nobody holds, and settle what of it is done, or gone."""
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
    """Give what is new to the group."""
    rows = since(db, held.partition, before, limit, filling.most)
    numbers, is_all = filling.add_new(db, rows)
    rows.close()
    last = numbers[-1] - first_of(held.partition) if numbers else before
    if is_all and len(numbers) < limit:
        # After the last one that is there, others may have been deleted too; or something else has
        # put it there.
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
    """Give so many at most of what has waited and is due."""
    clamp(db, held.group, owners, now + held.member.longest_delay)
    end = max(filling.left - most, 0)
    is_to_go_on = True
    while is_to_go_on and filling.left > end:
        # What was done made no use of the room.
        waiting = due(db, held.group, owners, now, filling.left - end)
        is_to_go_on = _give_due(db, held, filling, waiting, now)


def _give_due(
    db: sqlite3.Connection, held: Held, filling: _Filling, waiting: Iterable[Waiting], now: float
) -> bool:
    """Give what has waited and is due; return whether some was done, and there is room left."""
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
