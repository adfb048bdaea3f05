"""Where a group begins in the logs of the SQLite transport's file (Y5): plain statements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flexiflow.extras.durable._errors import StartTrimmed
from flexiflow.extras.durable._logs import check_positions
from flexiflow.extras.durable._records import Replayed
from flexiflow.extras.durable._sqlite.log import begin_of, count_after, ends, last_of
from flexiflow.extras.durable._sqlite.schema import end_of, first_of

if TYPE_CHECKING:
    import sqlite3

    from flexiflow.extras.durable._records import Start


def begin(db: sqlite3.Connection, group: str, start: Start) -> list[int]:
    """Return for each log the position behind which a new group begins.

    Raises:
        ValueError: `start` is not a position for each log.
        StartTrimmed: records behind one of them were deleted.
    """
    found = _positions(db, start)
    for partition, position in enumerate(found):
        oldest = begin_of(db, partition) - 1
        if position < oldest:
            raise StartTrimmed(group, partition, str(position), str(oldest))
    return found


def begin_again(db: sqlite3.Connection, since: Start) -> tuple[list[int], Replayed]:
    """Return for each log the position behind which a group begins again, and what to tell.

    Raises:
        ValueError: `since` is not a position for each log.
    """
    wanted = _positions(db, since)
    found = [max(each, begin_of(db, partition) - 1) for partition, each in enumerate(wanted)]
    has_lost = [_has_lost(db, *each, since) for each in enumerate(found)]
    return found, Replayed(tuple(map(str, found)), found == wanted and not any(has_lost))


def _positions(db: sqlite3.Connection, start: Start) -> list[int]:
    last = ends(db)
    if start == "oldest":
        return [begin_of(db, partition) - 1 for partition in range(len(last))]
    if start == "new":
        return last
    if isinstance(start, tuple):
        return check_positions(start, last)
    return [_behind(db, partition, start) for partition in range(len(last))]


def _behind(db: sqlite3.Connection, partition: int, time: float) -> int:
    """Return the position behind which the first record follows of a time or later.

    The first in the order of the log: after the clock was set back, later ones may have earlier
    times. A record whose time is not known counts as earlier.
    """
    query = "SELECT id FROM records WHERE id BETWEEN ? AND ? AND stored >= ? ORDER BY id LIMIT 1"
    first = first_of(partition)
    found = db.execute(query, (first, end_of(partition), time)).fetchone()
    return last_of(db, partition) if found is None else int(found[0]) - first - 1


def _has_lost(db: sqlite3.Connection, partition: int, position: int, since: Start) -> bool:
    """Return whether a record behind a position, or as late as `since`, was deleted."""
    (deleted,) = db.execute("SELECT deleted FROM logs WHERE partition = ?", (partition,)).fetchone()
    if isinstance(since, int | float) and deleted is not None and deleted >= since:
        return True
    first, last = first_of(partition), last_of(db, partition)
    return count_after(db, first + position, first + last) < last - position
