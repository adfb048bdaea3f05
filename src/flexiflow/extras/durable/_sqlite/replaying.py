"""A group begins again in the SQLite transport's file (Y5): plain statements.

A record that was redriven counts as being where its origin is, that is the record that it is a copy
of. What a former release has redriven has no known origin; it counts as coming before all others,
so that it is never lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from flexiflow.extras.durable._records import Replayed
from flexiflow.extras.durable._sqlite.groups import known_id_of
from flexiflow.extras.durable._sqlite.leases import end_all
from flexiflow.extras.durable._sqlite.log import begin_of
from flexiflow.extras.durable._sqlite.schedule import put_all_due
from flexiflow.extras.durable._sqlite.schema import end_of, first_of
from flexiflow.extras.durable._sqlite.starts import copies_in
from flexiflow.extras.durable._sqlite.tables import replay_after
from flexiflow.extras.durable._sqlite.waiting import follow_all

if TYPE_CHECKING:
    import sqlite3

    from flexiflow.extras.durable._sqlite.starts import LogScan, Scan

_AFTER: Final = " WHERE group_id = :group AND id > :begin AND id <= :end AND"

_ORIGIN: Final = "coalesce(origin, CASE WHEN only_group IS NULL THEN {id} ELSE 0 END)"

_PENDING: Final = (
    f"DELETE FROM pending{_AFTER} coalesce((SELECT {_ORIGIN.format(id='records.id')} FROM records"  # noqa: S608 - no input
    " WHERE records.id = pending.id AND NOT waited UNION ALL"
    f" SELECT {_ORIGIN.format(id='waiting.id')} FROM waiting JOIN kept ON kept.number = kept"
    " WHERE waiting.group_id = pending.group_id AND waiting.id = pending.id AND waited),"
    " id) > :begin"
)

_WAITING: Final = (
    f"DELETE FROM waiting{_AFTER} coalesce((SELECT {_ORIGIN.format(id='waiting.id')} FROM kept"  # noqa: S608 - no input
    " WHERE number = kept), id) > :begin"
)

_DEAD: Final = (
    "DELETE FROM dead WHERE group_id = :group AND partition = :partition AND origin > :begin"
)

_IS_KNOWN: Final = " UNION ALL ".join(
    f"SELECT 1 FROM {table} WHERE group_id = ?1 AND id = ?2"  # noqa: S608 - no input
    for table in ("pending", "waiting", "passed")
)


class _Span(NamedTuple):
    """What a group is given anew of a log.

    Attributes:
        group: the group's id.
        partition: the partition.
        begin: the number of the record behind which it begins.
        end: the highest number of the partition.
    """

    group: int
    partition: int
    begin: int
    end: int


def replay(db: sqlite3.Connection, group: str, scan: Scan, now: float) -> Replayed | None:
    """Make a group begin again, as `Connection.replay` says.

    Args:
        db: the database.
        group: the group's name.
        scan: what was found in the logs just before.
        now: the time, in seconds since 1970.

    Returns:
        What was done. None if there is so much that is due before that the caller should commit,
        and try again.

    Raises:
        ValueError: there is no such group.
    """
    found = known_id_of(db, group)
    if put_all_due(db, now):
        return None
    (last,) = db.execute("SELECT replay FROM groups WHERE id = ?", (found,)).fetchone()
    db.execute("UPDATE groups SET replay = ? WHERE id = ?", (replay_after(last, now), found))
    # Meanwhile records may have been deleted to make room.
    oldest = [begin_of(db, log.partition) - 1 for log in scan.logs]
    begins = list(map(max, scan.begins, oldest))
    for log, position in zip(scan.logs, begins, strict=True):
        begin, end = first_of(log.partition) + position, end_of(log.partition)
        _begin(db, _Span(found, log.partition, begin, end), log)
    end_all(db, found)
    # What a record has waited for in the line of its key may have been dropped.
    follow_all(db, found, now)
    is_kept = scan.since == "oldest" or begins == scan.begins
    return Replayed(tuple(map(str, begins)), scan.replayed.is_complete and is_kept)


def _begin(db: sqlite3.Connection, span: _Span, log: LogScan) -> None:
    """Give all records behind a position anew, except copies of what is given anew."""
    passed = _copies(db, span, log)
    passed.update(number for number in log.gaps if number > span.begin)
    for statement in (_PENDING, _WAITING, _DEAD):
        db.execute(statement, span._asdict())
    first = first_of(span.partition)
    numbers = span.group, first, span.end
    db.execute("DELETE FROM passed WHERE group_id = ? AND id BETWEEN ? AND ?", numbers)
    rows = [(span.group, number) for number in passed]
    db.executemany("INSERT INTO passed VALUES (?, ?)", rows)
    db.execute(
        "UPDATE readings SET given = ?, passed = ? WHERE group_id = ? AND partition = ?",
        (span.begin - first, max(passed, default=first) - first, span.group, span.partition),
    )


def _copies(db: sqlite3.Connection, span: _Span, log: LogScan) -> set[int]:
    """Return copies of what is given anew, and those that were given before."""
    query = "SELECT given FROM readings WHERE group_id = ? AND partition = ?"
    (given,) = db.execute(query, (span.group, span.partition)).fetchone()
    first = first_of(span.partition)
    # Those that were redriven since the log was looked at are few.
    copies = {**log.copies, **copies_in(db, first + log.last, span.end)}
    return {
        number
        for number, origin in copies.items()
        if number > span.begin
        and (
            origin > span.begin
            or number <= first + given
            or db.execute(_IS_KNOWN, (span.group, number)).fetchone() is not None
        )
    }
