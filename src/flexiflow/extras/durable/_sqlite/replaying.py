"""A group begins again in the SQLite transport's file (Y5): plain statements.

A record that was redriven counts as being where its origin is, that is the record that it is a copy
of. What a former release has redriven has no known origin; it counts as coming before all others,
so that it is never lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from flexiflow.extras.durable._errors import no_group
from flexiflow.extras.durable._sqlite.groups import id_of
from flexiflow.extras.durable._sqlite.leases import end_all
from flexiflow.extras.durable._sqlite.log import count_after, last_of
from flexiflow.extras.durable._sqlite.schedule import put_all_due
from flexiflow.extras.durable._sqlite.schema import end_of, first_of
from flexiflow.extras.durable._sqlite.starts import begin_again
from flexiflow.extras.durable._sqlite.waiting import follow_all

if TYPE_CHECKING:
    import sqlite3

    from flexiflow.extras.durable._records import Replayed, Start

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

# Copies of what is given anew, and those that were given before, whatever became of them.
_COPIES: Final = (
    "SELECT id FROM records WHERE id > :begin AND id <= :end AND only_group IS NOT NULL"  # noqa: S608 - no input
    f" AND ({_ORIGIN.format(id='id')} > :begin OR id <= :given"
    + "".join(
        f" OR EXISTS (SELECT 1 FROM {table} WHERE group_id = :group AND {table}.id = records.id)"  # noqa: S608 - no input
        for table in ("pending", "waiting", "passed")
    )
    + ")"
)

_GAPS: Final = (
    "SELECT id, next FROM (SELECT id, lead(id, 1, :last + 1) OVER (ORDER BY id) AS next"
    " FROM (SELECT :begin AS id UNION ALL SELECT id FROM records WHERE id > :begin AND id <= :last)"
    ") WHERE next > id + 1"
)


class _Place(NamedTuple):
    """Where a group begins again in a log.

    Attributes:
        group: the group's id.
        partition: the partition.
        begin: the number of the record behind which it begins.
        last: the number of the last record of the log.
        end: the highest number of the partition.
    """

    group: int
    partition: int
    begin: int
    last: int
    end: int


def replay(db: sqlite3.Connection, group: str, since: Start, now: float) -> Replayed | None:
    """Make a group begin again, as `Connection.replay` says.

    Returns:
        What was done. None if there is so much that is due before that the caller should commit,
        and try again.

    Raises:
        ValueError: there is no such group, or `since` is not a position for each log.
    """
    found = id_of(db, group)
    if found is None:
        raise no_group(group)
    if put_all_due(db, now):
        return None
    begins, replayed = begin_again(db, since)
    db.execute("UPDATE groups SET replays = replays + 1 WHERE id = ?", (found,))
    for partition, position in enumerate(begins):
        first = first_of(partition)
        last = first + last_of(db, partition)
        _begin(db, _Place(found, partition, first + position, last, end_of(partition)))
    end_all(db, found)
    # What a record has waited for in the line of its key may have been dropped.
    follow_all(db, found, now)
    return replayed


def _begin(db: sqlite3.Connection, place: _Place) -> None:
    """Give all records behind a position anew, except copies of what is given anew."""
    values, first = place._asdict(), first_of(place.partition)
    query = "SELECT given FROM readings WHERE group_id = ? AND partition = ?"
    (given,) = db.execute(query, (place.group, place.partition)).fetchone()
    passed = {number for (number,) in db.execute(_COPIES, {**values, "given": first + given})}
    if count_after(db, place.begin, place.last) < place.last - place.begin:
        # To look for gaps takes longer than to count.
        for before, after in db.execute(_GAPS, values):
            passed.update(range(before + 1, after))
    for statement in (_PENDING, _WAITING, _DEAD):
        db.execute(statement, values)
    span = place.group, first, place.end
    db.execute("DELETE FROM passed WHERE group_id = ? AND id BETWEEN ? AND ?", span)
    rows = [(place.group, number) for number in passed]
    db.executemany("INSERT INTO passed VALUES (?, ?)", rows)
    db.execute(
        "UPDATE readings SET given = ?, passed = ? WHERE group_id = ? AND partition = ?",
        (place.begin - first, max(passed, default=first) - first, place.group, place.partition),
    )
