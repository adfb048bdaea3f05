"""The groups in the SQLite transport's file: plain statements, in the caller's transaction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from flexiflow.extras.durable._errors import ConsumerInUse, GroupMismatch
from flexiflow.extras.durable._numbers import parts_of
from flexiflow.extras.durable._sqlite_log import append, begin_of, last_of
from flexiflow.extras.durable._sqlite_schema import end_of, first_of
from flexiflow.extras.durable._transport import DeadLetter, Failure, Record, Standing

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from flexiflow.extras.durable._transport import Member

_PARTITIONS: Final = "SELECT partition FROM logs ORDER BY partition"

_DEAD: Final = (
    "SELECT dead.id, CAST(body AS BLOB), type, message, traceback, attempts, deliveries, time"
    " FROM dead JOIN groups ON groups.id = group_id"
    " WHERE groups.name = ? AND dead.id > ? ORDER BY dead.id LIMIT ?"
)


def id_of(db: sqlite3.Connection, group: str) -> int | None:
    """Give the id of a group, if there is one."""
    found = db.execute("SELECT id FROM groups WHERE name = ?", (group,)).fetchone()
    return None if found is None else int(found[0])


def join(db: sqlite3.Connection, member: Member, now: float) -> list[str]:
    """Let a member in, or stay in, and name all that are alive."""
    group = id_of(db, member.group)
    if group is None:
        group = _make(db, member.group)
    overdue = "DELETE FROM members WHERE group_id = ? AND (since > ? OR until <= ?)"
    db.execute(overdue, (group, now, now))
    patterns = json.dumps(member.patterns)
    query = "SELECT consumer, token, patterns FROM members WHERE group_id = ?"
    for consumer, token, taken in db.execute(query, (group,)):
        if consumer == member.consumer and token != member.token:
            raise ConsumerInUse(member.consumer, member.group)
        if consumer != member.consumer and taken != patterns:
            raise GroupMismatch(member.group, json.loads(taken), member.patterns)
    row = (group, member.consumer, member.token, patterns, now, now + member.lease)
    db.execute("INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?, ?, ?)", row)
    return sorted(consumer for consumer, _, _ in db.execute(query, (group,)))


def leave(db: sqlite3.Connection, member: Member) -> None:
    """Let a member go."""
    db.execute(
        "DELETE FROM members WHERE group_id = ? AND consumer = ? AND token = ?",
        (id_of(db, member.group), member.consumer, member.token),
    )


def groups(db: sqlite3.Connection) -> list[str]:
    """Name the groups."""
    return sorted(name for (name,) in db.execute("SELECT name FROM groups"))


def forget(db: sqlite3.Connection, group: str) -> None:
    """Delete a group, and all that is known of it."""
    found = (id_of(db, group),)
    for table in ("readings", "pending", "leases", "members", "dead"):
        db.execute(f"DELETE FROM {table} WHERE group_id = ?", found)  # noqa: S608 - no input
    db.execute("DELETE FROM groups WHERE id = ?", found)


def standing(db: sqlite3.Connection, group: str) -> Standing:
    """Tell how far a group is, over all partitions."""
    found = id_of(db, group)
    if found is None:
        return Standing(0, 0, 0, 0)
    parts = [standing_in(db, found, partition) for (partition,) in db.execute(_PARTITIONS)]
    pending, lag, missed, dead = zip(*parts, strict=True)
    return Standing(sum(pending), sum(lag), sum(missed), dead[0])


def standing_in(db: sqlite3.Connection, group: int, partition: int) -> Standing:
    """Tell how far a group is in one partition; its dead letters are those of all."""
    query = "SELECT given, missed FROM readings WHERE group_id = ? AND partition = ?"
    given, missed = db.execute(query, (group, partition)).fetchone()
    span = (group, first_of(partition), end_of(partition))
    query = "SELECT count(*) FROM pending WHERE group_id = ? AND id BETWEEN ? AND ?"
    (pending,) = db.execute(query, span).fetchone()
    (dead,) = db.execute("SELECT count(*) FROM dead WHERE group_id = ?", (group,)).fetchone()
    # Positions are dense: to count the records would be to read them.
    lag = last_of(db, partition) - max(given, begin_of(db, partition) - 1)
    return Standing(pending, lag, missed, dead)


def dead_letters(db: sqlite3.Connection, group: str, after: int, limit: int) -> list[DeadLetter]:
    """List dead letters, the oldest first."""
    return [
        DeadLetter(str(number), body, Failure(*failure), attempts, deliveries, time)
        for number, body, *failure, attempts, deliveries, time in db.execute(
            _DEAD, (group, after, limit)
        )
    ]


def redrive(db: sqlite3.Connection, group: str, ids: Sequence[str]) -> int:
    """Store dead letters anew, for their group alone; tell how many there were."""
    found = id_of(db, group)
    # What is no id of ours is nobody's.
    numbers = [parts[0] for parts in (parts_of(each, 1) for each in ids) if parts is not None]
    return sum(_redriven(db, group, found, number) for number in numbers)


def _redriven(db: sqlite3.Connection, group: str, group_id: int | None, number: int) -> bool:
    key = (number, group_id)
    query = "SELECT partition, CAST(body AS BLOB) FROM dead WHERE id = ? AND group_id = ?"
    found = db.execute(query, key).fetchone()
    if found is None:
        return False
    partition, body = found
    append(db, partition, [Record(body, group=group)])
    db.execute("DELETE FROM dead WHERE id = ? AND group_id = ?", key)
    return True


def _make(db: sqlite3.Connection, group: str) -> int:
    number = db.execute("INSERT INTO groups (name) VALUES (?)", (group,)).lastrowid or 0
    # What is gone already is not missed by a new group.
    rows = [
        (number, partition, begin_of(db, partition) - 1, 0)
        for (partition,) in db.execute(_PARTITIONS).fetchall()
    ]
    db.executemany("INSERT INTO readings VALUES (?, ?, ?, ?)", rows)
    return number
