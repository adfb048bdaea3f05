"""Giving records again that were given before, in the SQLite transport's file: plain statements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, cast

from flexiflow.extras.durable._sqlite.leases import miss
from flexiflow.extras.durable._sqlite.log import bounded, irregular_body
from flexiflow.extras.durable._sqlite.schema import first_of
from flexiflow.extras.durable._sqlite.waiting import clamp, drop, due, take

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from flexiflow.extras.durable._filling import Filling
    from flexiflow.extras.durable._sqlite.held import HeldLease
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


def give_left(db: sqlite3.Connection, held: HeldLease, filling: Filling, now: float) -> None:
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
        body, oversize = irregular_body(db, "kept" if has_waited else "records", row, filling.most)
    position, counts = (
        record.number - first_of(held.partition),
        (record.attempts, record.deliveries),
    )
    return filling.add(position, body, group, *counts, has_waited=has_waited, oversize=oversize)


def give_again(
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
