"""Settling in the SQLite transport's file: plain statements, in the caller's transaction."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, cast, final

from flexiflow.extras.durable._errors import LeaseLost
from flexiflow.extras.durable._outcomes import (
    Acknowledged,
    Buried,
    Followed,
    Noted,
    Postponed,
    Returned,
    Settled,
)
from flexiflow.extras.durable._sqlite.attempts import end_attempts, is_lost
from flexiflow.extras.durable._sqlite.leases import is_of_now, miss, revive
from flexiflow.extras.durable._sqlite.waiting import (
    drop,
    follow,
    has_head,
    is_over,
    keep,
    line_of,
    put,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from flexiflow.extras.durable._outcomes import Outcome, Settling
    from flexiflow.extras.durable._sqlite.held import HeldLease

_OF_LEASE: Final = "WHERE group_id = ? AND id = ? AND holder = ?"

_HELD: Final = f"SELECT done, waited FROM pending {_OF_LEASE}"  # noqa: S608 - no input

_DELETE: Final = f"DELETE FROM pending {_OF_LEASE}"  # noqa: S608 - no input

_IS_OUT: Final = f"SELECT 1 FROM pending {_OF_LEASE} AND waited"  # noqa: S608 - no input

_COUNT: Final = f"UPDATE pending SET attempts = ?, deliveries = ?, holder = ? {_OF_LEASE}"  # noqa: S608 - no input

_BURY: Final = (
    "INSERT INTO dead (group_id, partition, body, type, message, traceback, attempts, deliveries,"
    " time, origin) SELECT ?, ?, body, ?, ?, ?, ?, ?, ?,"
    " CASE WHEN origin IS NULL AND only_group IS NULL THEN ? ELSE origin END FROM"
)

_BODY_KEPT: Final = " kept WHERE number = (SELECT kept FROM waiting WHERE group_id = ? AND id = ?)"


def settle(
    db: sqlite3.Connection, held: HeldLease, outcomes: Sequence[Outcome], now: float
) -> Settled | None:
    """Write the outcomes of records, as `Lease.settle` says; return None if the lease is lost."""
    try:
        reading = revive(db, held)
    except LeaseLost:
        # Not raised here, which would roll back what is written next; the caller raises it.
        if is_of_now(db, held):
            end_attempts(db, held, outcomes)
        return None
    writing = _Writing(db, held, now, waits=reading.waiting > 0)
    for kind, some in groupby(outcomes, type):
        writing.write(kind, cast("Any", list(some)))
    over = [key for key in writing.followed if is_over(db, held.group, held.owner, key)]
    return Settled(writing.lost, over)


@final
class _Writing:
    """Writes the outcomes of one batch.

    Args:
        db: the database.
        held: the lease.
        now: the time, in seconds since 1970.
        waits: whether records of the group wait in the partition, or are out after having waited.

    Attributes:
        lost: the positions of records that other leases hold.
        followed: the keys of `Followed`.
    """

    __slots__ = ("_db", "_held", "_now", "_waits", "followed", "lost")

    def __init__(self, db: sqlite3.Connection, held: HeldLease, now: float, *, waits: bool) -> None:
        self._db = db
        self._held = held
        self._now = now
        self._waits = waits
        self.lost: list[str] = []
        self.followed: list[str] = []

    def write(self, kind: type[Outcome], batch: Sequence[Any]) -> None:
        """Write outcomes of one kind."""
        if kind is Followed:
            self._follow(batch)
            return
        if kind is Acknowledged:
            written = self._acknowledge(batch)
        elif kind is Noted:
            written = self._count(batch, self._held.token)
        elif kind is Returned and not self._waits:
            written = self._count(batch, None)
        else:
            written = sum(map(self._let_go, batch))
        if written < len(batch):
            self.lost += [each.position for each in batch if is_lost(self._db, self._held, each)]

    def _follow(self, batch: Sequence[Followed]) -> None:
        for (key,) in batch:
            follow(self._db, self._held.group, self._held.owner, key, self._now)
            self.followed.append(key)

    def _acknowledge(self, batch: Sequence[Acknowledged]) -> int:
        rows = self._rows(batch)
        if self._waits:
            for row in rows:
                if self._db.execute(_IS_OUT, row).fetchone() is not None:
                    drop(self._db, *row[:2], self._now)
        return self._db.executemany(_DELETE, rows).rowcount

    def _count(self, batch: Sequence[Noted | Returned], holder: int | None) -> int:
        rows = (
            (each.attempts, each.deliveries, holder, *row)
            for each, row in zip(batch, self._rows(batch), strict=True)
        )
        return self._db.executemany(_COUNT, rows).rowcount

    def _rows(self, batch: Sequence[Settling]) -> list[tuple[int, int, int]]:
        group, number, token = self._held.group, self._held.number, self._held.token
        return [(group, number(each.position), token) for each in batch]

    def _let_go(self, outcome: Returned | Postponed | Buried) -> bool:
        """Bury or return a record, or make it wait; return whether this lease held it."""
        (row,) = self._rows([outcome])
        found = self._db.execute(_HELD, row).fetchone()
        if found is None:
            return False
        is_done, has_waited = found
        if isinstance(outcome, Returned) and not has_waited:
            self._count([outcome], None)
            return True
        if isinstance(outcome, Buried):
            is_there = self._bury(outcome, has_waited=has_waited)
        else:
            is_there = self._put_away(outcome, is_done, has_waited=has_waited)
        self._db.execute(_DELETE, row)
        # If its body was deleted it can neither be a dead letter nor wait, so count it as missed.
        miss(self._db, self._held, not is_there)
        return True

    def _bury(self, outcome: Buried, *, has_waited: bool) -> bool:
        held, number = self._held, self._held.number(outcome.position)
        values = (
            *(held.group, held.partition, *map(_encodable, outcome.failure)),
            *(outcome.attempts, outcome.deliveries, self._now, number),
        )
        if not has_waited:
            return self._db.execute(f"{_BURY} records WHERE id = ?", (*values, number)).rowcount > 0
        place = held.group, number
        is_there = self._db.execute(_BURY + _BODY_KEPT, (*values, *place)).rowcount > 0
        drop(self._db, *place, self._now)
        return is_there

    def _put_away(self, outcome: Returned | Postponed, is_done: int, *, has_waited: bool) -> bool:
        """Make a record wait; return whether it was there."""
        held, number = self._held, self._held.number(outcome.position)
        place, counts = (held.group, number), (outcome.attempts, outcome.deliveries, is_done)
        kept = None if has_waited else keep(self._db, number)
        if kept is None and not has_waited:
            return False
        if isinstance(outcome, Postponed):
            line, due = outcome.key, self._due(outcome, number)
        else:
            line, due = line_of(self._db, place), self._now
        return put(self._db, place, counts, held.owner, line, due, kept=kept)

    def _due(self, outcome: Postponed, number: int) -> float | None:
        if outcome.delay is not None:
            return self._now + outcome.delay
        held, key = self._held, outcome.key
        if key is not None and has_head(self._db, held.group, held.owner, key, number):
            return None
        return self._now


def _encodable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
