"""The groups in the SQLite transport's file: plain statements, in the caller's transaction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from flexiflow.extras.durable._logs import PAGE_BYTES, numbers_of
from flexiflow.extras.durable._membership import Peer, agree
from flexiflow.extras.durable._records import DeadLetter, Failure, Standing
from flexiflow.extras.durable._sqlite.log import begin_of, last_of, reserve, size_of
from flexiflow.extras.durable._sqlite.schema import end_of, first_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from flexiflow.extras.durable._records import Member

_PARTITIONS: Final = "SELECT partition FROM logs ORDER BY partition"

_DEAD: Final = (
    "SELECT dead.id, type, message, traceback, attempts, deliveries, time"
    " FROM dead JOIN groups ON groups.id = group_id"
    " WHERE groups.name = ? AND dead.id > ? ORDER BY dead.id LIMIT ?"
)

# The cast makes bytes of whatever other software may have put there.
_DEAD_BODY: Final = "SELECT CAST(body AS BLOB) FROM dead WHERE id = ?"

_REDRIVE: Final = (
    "INSERT INTO records (id, body, only_group) SELECT ?, CAST(body AS BLOB), ? FROM dead"
    " WHERE id = ?"
)


def id_of(db: sqlite3.Connection, group: str) -> int | None:
    """Return the id of a group; None if there is no such group."""
    found = db.execute("SELECT id FROM groups WHERE name = ?", (group,)).fetchone()
    return None if found is None else int(found[0])


def join(db: sqlite3.Connection, member: Member, now: float) -> list[str]:
    """Add a member, or keep it alive; return the names of those that may receive, sorted (X15)."""
    group = id_of(db, member.group)
    if group is None:
        group = _make(db, member.group)
    overdue = "DELETE FROM members WHERE group_id = ? AND (since > ? OR until <= ?)"
    db.execute(overdue, (group, now, now))
    query = "SELECT consumer, token, patterns FROM members WHERE group_id = ?"
    peers = [
        Peer(consumer, token, tuple(json.loads(patterns)["patterns"]))
        for consumer, token, patterns in db.execute(query, (group,))
    ]
    patterns, consumers = agree(member, peers)
    db.execute("UPDATE groups SET patterns = ? WHERE id = ?", (written(patterns), group))
    row = (group, member.consumer, member.token, written(member.patterns))
    span = (now, now + member.lease)
    db.execute("INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?, ?, ?)", (*row, *span))
    return consumers


def written(patterns: tuple[str, ...]) -> str:
    """Return patterns as they are written in the file; triggers refuse the form used before."""
    return json.dumps({"patterns": patterns})


def leave(db: sqlite3.Connection, member: Member) -> None:
    """Remove a member."""
    db.execute(
        "DELETE FROM members WHERE group_id = ? AND consumer = ? AND token = ?",
        (id_of(db, member.group), member.consumer, member.token),
    )


def groups(db: sqlite3.Connection) -> list[str]:
    """Return the names of all groups, sorted."""
    return sorted(name for (name,) in db.execute("SELECT name FROM groups"))


def forget(db: sqlite3.Connection, group: str) -> None:
    """Delete a group with all that belongs to it."""
    found = (id_of(db, group),)
    for table in ("waiting", "readings", "pending", "leases", "members", "dead"):
        db.execute(f"DELETE FROM {table} WHERE group_id = ?", found)  # noqa: S608 - no input
    db.execute("DELETE FROM groups WHERE id = ?", found)


def standing(db: sqlite3.Connection, group: str) -> Standing:
    """Return how far a group is, over all partitions."""
    found = id_of(db, group)
    if found is None:
        return Standing(0, 0, 0, 0)
    parts = [_standing_in(db, found, partition) for (partition,) in db.execute(_PARTITIONS)]
    pending, lag, missed, waiting = (sum(each) for each in zip(*parts, strict=True))
    (dead,) = db.execute("SELECT count(*) FROM dead WHERE group_id = ?", (found,)).fetchone()
    return Standing(pending, lag, missed, dead, waiting)


def _standing_in(db: sqlite3.Connection, group: int, partition: int) -> tuple[int, int, int, int]:
    query = "SELECT given, missed, waiting FROM readings WHERE group_id = ? AND partition = ?"
    given, missed, waiting = db.execute(query, (group, partition)).fetchone()
    span = (group, first_of(partition), end_of(partition))
    query = (
        "SELECT count(*), coalesce(sum(waited), 0) FROM pending"
        " WHERE group_id = ? AND id BETWEEN ? AND ?"
    )
    pending, out = db.execute(query, span).fetchone()
    # Positions are dense, so there is no need to count the records, which would read them all.
    lag = last_of(db, partition) - max(given, begin_of(db, partition) - 1)
    # Other software may have put more into the log, or deleted what is out, so neither is below 0.
    return pending, max(lag, 0), missed, max(waiting - out, 0)


def dead_letters(db: sqlite3.Connection, group: str, after: int, limit: int) -> list[DeadLetter]:
    """Return dead letters, the oldest first; fewer than `limit` if they are large (X14)."""
    found: list[DeadLetter] = []
    left = PAGE_BYTES
    for number, *failure, attempts, deliveries, time in db.execute(_DEAD, (group, after, limit)):
        left -= size_of(db, "dead", number)
        if left < 0 and found:
            break
        (body,) = db.execute(_DEAD_BODY, (number,)).fetchone()
        found.append(DeadLetter(str(number), body, Failure(*failure), attempts, deliveries, time))
    return found


def redrive(db: sqlite3.Connection, group: str, ids: Sequence[str]) -> int:
    """Store dead letters anew, for their group alone; return how many existed."""
    found = id_of(db, group)
    return sum(_redriven(db, group, found, number) for (number,) in numbers_of(ids, 1))


def _redriven(db: sqlite3.Connection, group: str, group_id: int | None, number: int) -> bool:
    query = "SELECT partition FROM dead WHERE id = ? AND group_id = ?"
    found = db.execute(query, (number, group_id)).fetchone()
    if found is None:
        return False
    db.execute(_REDRIVE, (reserve(db, found[0], 1), group, number))
    db.execute("DELETE FROM dead WHERE id = ?", (number,))
    return True


def _make(db: sqlite3.Connection, group: str) -> int:
    number = db.execute("INSERT INTO groups (name) VALUES (?)", (group,)).lastrowid or 0
    # Records that were deleted before don't count as missed by a new group.
    rows = [
        (number, partition, begin_of(db, partition) - 1)
        for (partition,) in db.execute(_PARTITIONS).fetchall()
    ]
    db.executemany(
        "INSERT INTO readings (group_id, partition, given, missed) VALUES (?, ?, ?, 0)", rows
    )
    return number
