"""Where a group begins, or begins again, in the logs of the SQLite transport's file (Y5).

A log may be long, so it is read before the file is locked, and in pages, each by a job of its own:
meanwhile other processes can write, and other tasks of this one have their turns.
"""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple, final

from flexiflow.extras.durable import _starts
from flexiflow.extras.durable._sqlite.log import begin_of
from flexiflow.extras.durable._sqlite.schema import first_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from flexiflow.extras._sqlite.jobs import JobRunner
    from flexiflow.extras.durable._records import Replayed, Start

_PAGE: Final = 10_000
"""How many records are looked at by one job."""

_LOG: Final = 10
"""How many records could be looked at while the look at another log begins."""

_LATE: Final = (
    "SELECT id FROM records WHERE id > ? AND id <= ? AND coalesce(stored >= ?, 1)"
    " ORDER BY id LIMIT 1"
)

# `typeof` does not read the column, which in a file that was migrated comes after the body.
_COUNT: Final = (
    "SELECT count(*), coalesce(sum(typeof(only_group) <> 'null'), 0) FROM records"
    " WHERE id > ? AND id <= ?"
)

_COPIES: Final = (
    "SELECT id, coalesce(origin, 0) FROM records"
    " WHERE id > ? AND id <= ? AND typeof(only_group) <> 'null'"
)


class Span(NamedTuple):
    """Records of a log: those after one number, up to another."""

    partition: int
    after: int
    until: int


@final
class LogScan:
    """What is known of a log; also what `LogView` describes.

    Args:
        db: the database.
        partition: the log's partition.
        last: the position of the last record that was stored.
        deleted: the time up to which records were deleted, or None; see `logs.deleted`.

    Attributes:
        late: the number of the first record of a time or later; None if none was found so far.
        copies: the numbers of records that were redriven, each with the number of its origin; 0 if
            that is not known.
        gaps: the numbers of records that are not there, though they were not deleted to make room.
    """

    def __init__(
        self, db: sqlite3.Connection, partition: int, last: int, deleted: float | None
    ) -> None:
        self.partition = partition
        self.first = begin_of(db, partition)
        self.last = last
        self.deleted = -inf if deleted is None else deleted
        self.copies: dict[int, int] = {}
        self.gaps: set[int] = set()
        self.late: int | None = None

    def span(self, position: int) -> Span:
        """Return the records after a position."""
        first = first_of(self.partition)
        return Span(self.partition, first + position, first + self.last)

    def behind(self, time: float) -> int:  # noqa: ARG002 - `find_late` was given it
        if self.late is None:
            return self.last
        # Those before the first one may have been deleted since, and that one with them.
        return max(self.late - first_of(self.partition), self.first) - 1

    def count_after(self, position: int) -> int:
        return self.last - position - len(self.gaps)

    def find_late(self, db: sqlite3.Connection, span: Span, time: float) -> None:
        """Look for the first record of a time or later, unless it was found before."""
        if self.late is None:
            (self.late,) = db.execute(_LATE, (*span[1:], time)).fetchone() or (None,)

    def inspect(self, db: sqlite3.Connection, span: Span) -> None:
        """Note which records were redriven, and which are not there."""
        _, after, until = span
        count, copies = db.execute(_COUNT, (after, until)).fetchone()
        if copies:
            self.copies.update(copies_in(db, after, until))
        if count < until - after:
            there = db.execute("SELECT id FROM records WHERE id > ? AND id <= ?", (after, until))
            self.gaps.update(range(after + 1, until + 1))
            self.gaps.difference_update(number for (number,) in there)


def copies_in(db: sqlite3.Connection, after: int, until: int) -> dict[int, int]:
    """Return the numbers of records that were redriven, with their origins; see `LogScan`."""
    return dict(db.execute(_COPIES, (after, until)))


class Scan(NamedTuple):
    """What is known of all logs, and where a group would begin again.

    Attributes:
        since: where it is to begin.
        logs: the logs.
        begins: for each log the position behind which it would begin.
        replayed: what to tell of that.
    """

    since: Start
    logs: list[LogScan]
    begins: list[int]
    replayed: Replayed


def begin(
    db: sqlite3.Connection, group: str, start: Start, found: Iterable[LogScan] | None
) -> list[int]:
    """Return for each log the position behind which a new group begins.

    Args:
        db: the database.
        group: the group's name.
        start: where it is to begin.
        found: what `look_for` has returned, if `start` is a time; else None.

    Raises:
        ValueError: `start` is not a position for each log.
        StartTrimmed: records behind one of them were deleted.
    """
    logs = _logs_of(db)
    if found is not None and isinstance(start, int | float):
        for log, former in zip(logs, found, strict=True):
            log.late = former.late
            log.find_late(db, log.span(former.last), start)
    return _starts.begin(group, logs, start)


async def look_for(jobs: JobRunner, time: float) -> list[LogScan]:
    """Look for the first record of a time or later in each log."""
    logs = await jobs.read(_logs_of)
    for page in _pages(log.span(log.first - 1) for log in logs):
        await jobs.read(partial(_find_late, logs, page, time))
    return logs


async def scan(jobs: JobRunner, since: Start) -> Scan:
    """Find where a group would begin again, and look at all records behind that.

    Raises:
        ValueError: `since` is not a position for each log.
    """
    if isinstance(since, int | float):
        logs = await look_for(jobs, since)
    else:
        logs = await jobs.read(_logs_of)
    begins, _ = _starts.begin_again(logs, since)
    spans = (log.span(position) for log, position in zip(logs, begins, strict=True))
    for page in _pages(spans):
        await jobs.read(partial(_inspect, logs, page))
    return Scan(since, logs, *_starts.begin_again(logs, since))


def _logs_of(db: sqlite3.Connection) -> list[LogScan]:
    query = "SELECT partition, last, deleted FROM logs ORDER BY partition"
    return [LogScan(db, *row) for row in db.execute(query).fetchall()]


def _pages(spans: Iterable[Span]) -> Iterator[list[Span]]:
    """Yield spans, cut and put together so that all pages take the same time."""
    page: list[Span] = []
    room = _PAGE
    for partition, after, until in spans:
        begin = after
        while begin < until:
            end = min(begin + room, until)
            page.append(Span(partition, begin, end))
            room -= end - begin + _LOG
            begin = end
            if room <= 0:
                yield page
                page, room = [], _PAGE
    if page:
        yield page


def _find_late(logs: list[LogScan], page: list[Span], time: float, db: sqlite3.Connection) -> None:
    for span in page:
        logs[span.partition].find_late(db, span, time)


def _inspect(logs: list[LogScan], page: list[Span], db: sqlite3.Connection) -> None:
    for span in page:
        logs[span.partition].inspect(db, span)
