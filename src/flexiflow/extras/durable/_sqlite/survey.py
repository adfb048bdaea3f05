"""What a person wants to see of the SQLite transport's file (Y6): plain statements."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from flexiflow.extras.durable._sqlite.groups import standings
from flexiflow.extras.durable._sqlite.log import TIME, begin_of
from flexiflow.extras.durable._sqlite.schema import end_of, first_of
from flexiflow.extras.durable._surveys import GroupSurvey, LogSurvey, MemberSurvey, Survey

if TYPE_CHECKING:
    import sqlite3

_STORED: Final = f"SELECT {TIME} FROM records WHERE id = ?"  # noqa: S608 - no input

# A record that is out after having waited is in both tables.
_UNSETTLED: Final = (
    "SELECT min(id) FROM (SELECT min(id) AS id FROM pending WHERE group_id = ?1 AND id > ?2 AND"
    " id <= ?3 UNION ALL SELECT min(id) FROM waiting WHERE group_id = ?1 AND id > ?2 AND id <= ?3)"
)

_NEW: Final = (
    "SELECT id FROM records WHERE id > ?2 AND id <= ?3 AND NOT EXISTS"
    " (SELECT 1 FROM passed WHERE group_id = ?1 AND passed.id = records.id) ORDER BY id LIMIT 1"
)

_KEPT: Final = (
    f"SELECT {TIME} FROM waiting JOIN kept ON kept.number = kept"  # noqa: S608 - no input
    " WHERE group_id = ? AND waiting.id = ?"
)


def survey(db: sqlite3.Connection, now: float) -> Survey:
    """Return what a person wants to see of the file."""
    logs = db.execute("SELECT partition, last, scheduled FROM logs ORDER BY partition").fetchall()
    groups = db.execute("SELECT id, name, replay FROM groups ORDER BY name").fetchall()
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    (size,) = db.execute("PRAGMA page_size").fetchone()
    return Survey(
        now,
        tuple(_log(db, *each) for each in logs),
        tuple(_group(db, number, name, replay, now) for number, name, replay in groups),
        pages * size,
    )


def _log(db: sqlite3.Connection, partition: int, last: int, scheduled: int) -> LogSurvey:
    # Positions are dense, so there is no need to count the records, which would read them all.
    begin = begin_of(db, partition)
    oldest = _stored(db, first_of(partition) + begin)
    return LogSurvey(max(last + 1 - begin, 0), oldest, scheduled, None)


def _group(db: sqlite3.Connection, group: int, name: str, replay: int, now: float) -> GroupSurvey:
    query = (
        "SELECT consumer, patterns, until FROM members WHERE group_id = ? AND since <= ?"
        " AND until > ? ORDER BY consumer"
    )
    members = tuple(
        MemberSurvey(consumer, tuple(json.loads(patterns)["patterns"]), until)
        for consumer, patterns, until in db.execute(query, (group, now, now))
    )
    query = "SELECT partition, given FROM readings WHERE group_id = ?"
    readings = db.execute(query, (group,)).fetchall()
    times = (_oldest(db, group, first_of(each), end_of(each), given) for each, given in readings)
    oldest = min((each for each in times if each is not None), default=None)
    return GroupSurvey(name, members, tuple(standings(db, group)), oldest, replay)


def _oldest(db: sqlite3.Connection, group: int, first: int, end: int, given: int) -> float | None:
    """Return when the oldest record was stored that a group has not settled, if that is known."""
    (held,) = db.execute(_UNSETTLED, (group, first, end)).fetchone()
    new = db.execute(_NEW, (group, first + given, end)).fetchone()
    if held is None or (new is not None and new[0] < held):
        return None if new is None else _stored(db, new[0])
    kept = db.execute(_KEPT, (group, held)).fetchone()
    return _stored(db, held) if kept is None else kept[0]


def _stored(db: sqlite3.Connection, number: int) -> float | None:
    (stored,) = db.execute(_STORED, (number,)).fetchone() or (None,)
    return None if stored is None else float(stored)
