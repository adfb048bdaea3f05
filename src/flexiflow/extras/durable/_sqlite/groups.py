"""The groups in the SQLite transport's file: plain statements, in the caller's transaction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from flexiflow.extras.durable._errors import no_group
from flexiflow.extras.durable._logs import PAGE_BYTES, numbers_of
from flexiflow.extras.durable._membership import Peer, agree
from flexiflow.extras.durable._records import DeadLetter, Failure
from flexiflow.extras.durable._sqlite.log import begin_of, last_of, reserve, size_of
from flexiflow.extras.durable._sqlite.schedule import put_all_due
from flexiflow.extras.durable._sqlite.schema import end_of, first_of
from flexiflow.extras.durable._sqlite.starts import begin
from flexiflow.extras.durable._sqlite.tables import VERSION, replay_after
from flexiflow.extras.durable._surveys import Standing

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from flexiflow.extras.durable._records import Member
    from flexiflow.extras.durable._sqlite.starts import LogScan

_PARTITIONS: Final = "SELECT partition FROM logs ORDER BY partition"

_DEAD: Final = (
    "SELECT dead.id, type, message, traceback, attempts, deliveries, time"
    " FROM dead JOIN groups ON groups.id = group_id"
    " WHERE groups.name = ? AND dead.id > ? ORDER BY dead.id LIMIT ?"
)

# The cast makes bytes of all that other software may have put there.
_DEAD_BODY: Final = "SELECT CAST(body AS BLOB) FROM dead WHERE id = ?"

_REDRIVE: Final = (
    "INSERT INTO records (id, stored, origin, body, only_group)"
    " SELECT ?, ?, origin, CAST(body AS BLOB), ? FROM dead WHERE id = ?"
)


_FORGET_REPLAY: Final = (
    "UPDATE identity"
    " SET replay = max(replay, coalesce((SELECT groups.replay FROM groups WHERE id = ?), 0))"
)


def id_of(db: sqlite3.Connection, group: str) -> int | None:
    """Return the id of a group; None if there is no such group."""
    found = db.execute("SELECT id FROM groups WHERE name = ?", (group,)).fetchone()
    return None if found is None else int(found[0])


def known_id_of(db: sqlite3.Connection, group: str) -> int:
    """Return the id of a group.

    Raises:
        ValueError: there is no such group.
    """
    found = id_of(db, group)
    if found is None:
        raise no_group(group)
    return found


def join(
    db: sqlite3.Connection, member: Member, found: Sequence[LogScan] | None, now: float
) -> list[str] | None:
    """Add a member, or keep it alive (X15).

    Args:
        db: the database.
        member: the member.
        found: where the group begins if it is new, as `look_for` has found; None if it is not new,
            or does not begin at a time.
        now: the time, in seconds since 1970.

    Returns:
        The names of the members that may receive, sorted. None if the group is new, and either it
        begins at a time that was not looked for, or there is so much that is due before it that the
        caller should commit; then look for it, and try again.
    """
    group = id_of(db, member.group)
    if group is None:
        is_sought = found is None and isinstance(member.start, int | float)
        if put_all_due(db, now) or is_sought:
            return None
        group = _make(db, member, found, now)
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
    """Return patterns as they are written in the file; triggers refuse the forms used before.

    The former release can read this one, so that it comes as far as to be refused.
    """
    return json.dumps({"layout": VERSION, "patterns": patterns})


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
    db.execute(_FORGET_REPLAY, found)
    for table in ("waiting", "readings", "pending", "passed", "leases", "members", "dead"):
        db.execute(f"DELETE FROM {table} WHERE group_id = ?", found)  # noqa: S608 - no input
    db.execute("DELETE FROM groups WHERE id = ?", found)


def standing(db: sqlite3.Connection, group: str) -> Standing:
    """Return how far a group is, over all partitions."""
    found = id_of(db, group)
    return Standing.total([] if found is None else standings(db, found))


def standings(db: sqlite3.Connection, group: int) -> list[Standing]:
    """Return how far a group is in each partition."""
    query = "SELECT partition, count(*) FROM dead WHERE group_id = ? GROUP BY partition"
    dead = dict(db.execute(query, (group,)))
    return [
        _standing_in(db, group, partition, dead.get(partition, 0))
        for (partition,) in db.execute(_PARTITIONS)
    ]


def _standing_in(db: sqlite3.Connection, group: int, partition: int, dead: int) -> Standing:
    query = (
        "SELECT given, missed, waiting, passed FROM readings WHERE group_id = ? AND partition = ?"
    )
    given, missed, waiting, passed = db.execute(query, (group, partition)).fetchone()
    span = (group, first_of(partition), end_of(partition))
    query = (
        "SELECT count(*), coalesce(sum(waited), 0) FROM pending"
        " WHERE group_id = ? AND id BETWEEN ? AND ?"
    )
    pending, out = db.execute(query, span).fetchone()
    # Positions are dense, so there is no need to count the records, which would read them all.
    begun = max(given, begin_of(db, partition) - 1)
    lag = last_of(db, partition) - begun
    if passed > begun:
        query = "SELECT count(*) FROM passed WHERE group_id = ? AND id > ? AND id <= ?"
        place = group, first_of(partition) + begun, end_of(partition)
        lag -= int(db.execute(query, place).fetchone()[0])
    # Other software may have put more into the log, or deleted what is out, so neither is below 0.
    return Standing(pending, max(lag, 0), missed, dead, max(waiting - out, 0))


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


def redrive(db: sqlite3.Connection, group: str, ids: Sequence[str], now: float) -> int | None:
    """Store dead letters anew, for their group alone.

    Returns:
        How many existed. None if there is so much that is due before them that the caller should
        commit, and try again.
    """
    if put_all_due(db, now):
        return None
    found = id_of(db, group)
    return sum(_redriven(db, group, found, number, now) for (number,) in numbers_of(ids, 1))


def discard(db: sqlite3.Connection, group: str, ids: Sequence[str]) -> int:
    """Delete dead letters for good; return how many existed."""
    found = id_of(db, group)
    rows = [(number, found) for (number,) in numbers_of(ids, 1)]
    return db.executemany("DELETE FROM dead WHERE id = ? AND group_id = ?", rows).rowcount


def _redriven(
    db: sqlite3.Connection, group: str, group_id: int | None, number: int, now: float
) -> bool:
    query = "SELECT partition FROM dead WHERE id = ? AND group_id = ?"
    found = db.execute(query, (number, group_id)).fetchone()
    if found is None:
        return False
    db.execute(_REDRIVE, (reserve(db, found[0], 1), now, group, number))
    db.execute("DELETE FROM dead WHERE id = ?", (number,))
    return True


def _make(
    db: sqlite3.Connection, member: Member, found: Sequence[LogScan] | None, now: float
) -> int:
    # Records that were deleted before don't count as missed by a new group.
    begins = begin(db, member.group, member.start, found)
    # After the clock was set back, a group of that name may have had a higher number.
    (last,) = db.execute("SELECT replay FROM identity").fetchone()
    row = (member.group, replay_after(last, now))
    number = db.execute("INSERT INTO groups (name, replay) VALUES (?, ?)", row).lastrowid or 0
    rows = [(number, *each) for each in enumerate(begins)]
    db.executemany(
        "INSERT INTO readings (group_id, partition, given, missed) VALUES (?, ?, ?, 0)", rows
    )
    return number
