"""Where a group begins in the logs of the SQLite transport's file (Y5): plain statements."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, final

from flexiflow.extras.durable import _starts
from flexiflow.extras.durable._sqlite.log import begin_of, count_after, ends
from flexiflow.extras.durable._sqlite.schema import end_of, first_of

if TYPE_CHECKING:
    import sqlite3

    from flexiflow.extras.durable._records import Replayed, Start


def begin(db: sqlite3.Connection, group: str, start: Start) -> list[int]:
    """Return for each log the position behind which a new group begins; see `_starts.begin`."""
    return _starts.begin(group, _views(db), start)


def begin_again(db: sqlite3.Connection, since: Start) -> tuple[list[int], Replayed]:
    """Return where a group begins again, and what to tell; see `_starts.begin_again`."""
    return _starts.begin_again(_views(db), since)


def _views(db: sqlite3.Connection) -> list[_View]:
    return [_View(db, partition, last) for partition, last in enumerate(ends(db))]


@final
class _View:
    """A log of the file, as `LogView` describes it."""

    def __init__(self, db: sqlite3.Connection, partition: int, last: int) -> None:
        self.last = last
        self._db = db
        self._partition = partition
        self._first = first_of(partition)

    @property
    def first(self) -> int:
        return begin_of(self._db, self._partition)

    @property
    def deleted(self) -> float:
        query = "SELECT deleted FROM logs WHERE partition = ?"
        (deleted,) = self._db.execute(query, (self._partition,)).fetchone()
        return -inf if deleted is None else float(deleted)

    def behind(self, time: float) -> int:
        query = (
            "SELECT id FROM records WHERE id BETWEEN ? AND ? AND coalesce(stored >= ?, 1)"
            " ORDER BY id LIMIT 1"
        )
        span = self._first, end_of(self._partition)
        found = self._db.execute(query, (*span, time)).fetchone()
        return self.last if found is None else int(found[0]) - self._first - 1

    def count_after(self, position: int) -> int:
        return count_after(self._db, self._first + position, self._first + self.last)
