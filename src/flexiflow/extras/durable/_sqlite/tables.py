"""The tables of the SQLite transport's file, and the migration from the former layout (X16)."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3

VERSION: Final = 3
"""The version of the layout."""

MIGRATED: Final = (1, 2)
"""The versions of files that are migrated when they are opened."""

# The id of a group that was forgotten is not used again, so that its leases stay lost. A lease that
# begins later than now (`since`) has run out: otherwise, after the clock was set back, it would
# last longer by that much.
#
# logs.scheduled: the number of rows in `scheduled`; to count them would be slow.
# logs.deleted: the latest time at which a record was stored that was deleted to make room; if that
#     is not known, when it was deleted, or when the file was migrated after that.
# records: what is asked for without the body comes before it, so that SQLite need not read the body
#     to find it. In a file that was migrated it comes after the body.
# records.stored: when the record was stored; NULL if a former release did it, before the migration
#     or by a process that has had the file open since then.
# records.origin: of a record that was redriven, the number of the one that it is a copy of; NULL
#     if that is not known, since a former release has redriven it.
# groups.replay: a number that grows with each replay, and with each new group of that name.
# identity.replay: the highest `groups.replay` of the groups that were forgotten.
# readings.passed: the highest position in `passed`; 0 if there is none.
# leases.replay: `groups.replay` when the lease began; NULL for one of a former release.
# dead.origin: the number of the record, or of what it was a copy of; NULL if that is not known.
# leases.over: 0 for a lease that is in use, also if it has run out; 1 for one that was found to
#     have run out, and whose records were freed; 2 for one that was released, and by which records
#     still wait; NULL for one of the first release.
# pending.holder: the token of the lease that holds the record; NULL if it is free.
# pending.lapsed: of a free record, the token of its last lease, which may take it back if it has
#     only run out; NULL for a record that was returned.
# pending.done: whether the record was acknowledged by a lease that no longer held it.
# pending.waited: whether the record is in `waiting`, too.
# readings.waiting: the number of rows in `waiting`; to count them would be slow.
_TABLES: Final = """
CREATE TABLE flexiflow_durable (version INTEGER NOT NULL, partitions INTEGER);
CREATE TABLE logs (partition INTEGER PRIMARY KEY, last INTEGER NOT NULL,
    scheduled INTEGER NOT NULL DEFAULT 0, deleted REAL);
CREATE TABLE records (id INTEGER PRIMARY KEY, stored REAL, origin INTEGER, only_group TEXT,
    body BLOB NOT NULL);
CREATE TABLE producers (name TEXT PRIMARY KEY, number INTEGER NOT NULL, at REAL NOT NULL)
    WITHOUT ROWID;
CREATE TABLE groups (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,
    patterns TEXT, replay INTEGER NOT NULL DEFAULT 0);
CREATE TABLE readings (group_id INTEGER, partition INTEGER, given INTEGER NOT NULL,
    missed INTEGER NOT NULL, waiting INTEGER NOT NULL DEFAULT 0,
    passed INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (group_id, partition)) WITHOUT ROWID;
CREATE TABLE pending (group_id INTEGER, id INTEGER, attempts INTEGER NOT NULL,
    deliveries INTEGER NOT NULL, holder INTEGER, lapsed INTEGER, done INTEGER NOT NULL DEFAULT 0,
    waited INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (group_id, id)) WITHOUT ROWID;
CREATE INDEX pending_free ON pending (group_id, id) WHERE holder IS NULL;
CREATE TABLE leases (token INTEGER PRIMARY KEY AUTOINCREMENT, group_id INTEGER NOT NULL,
    partition INTEGER NOT NULL, since REAL NOT NULL, until REAL NOT NULL, over INTEGER,
    replay INTEGER);
CREATE INDEX leases_of ON leases (group_id, partition);
CREATE TABLE members (group_id INTEGER, consumer TEXT, token TEXT NOT NULL, patterns TEXT NOT NULL,
    since REAL NOT NULL, until REAL NOT NULL, PRIMARY KEY (group_id, consumer)) WITHOUT ROWID;
CREATE TABLE dead (id INTEGER PRIMARY KEY AUTOINCREMENT, group_id INTEGER NOT NULL,
    partition INTEGER NOT NULL, origin INTEGER, body BLOB NOT NULL, type TEXT NOT NULL,
    message TEXT NOT NULL, traceback TEXT NOT NULL, attempts INTEGER NOT NULL,
    deliveries INTEGER NOT NULL, time REAL NOT NULL);
CREATE INDEX dead_of ON dead (group_id);
"""

# `waiting` is a table of its own, so that records which never wait cost no more. The bodies are in
# a third one, `kept`, since they are large and never change.
#
# waiting.owner: the token of the lease by which the record waits; if leases are exclusive, a
#     negative number for the partition.
# waiting.state: 'due' at a time; 'in line' of its key, behind one that is due or out; or 'out',
#     given to a lease, and in `pending`.
_WAITING: Final = """
CREATE TABLE kept (number INTEGER PRIMARY KEY, stored REAL, origin INTEGER, only_group TEXT,
    body BLOB NOT NULL);
CREATE TABLE waiting (group_id INTEGER, id INTEGER, attempts INTEGER NOT NULL,
    deliveries INTEGER NOT NULL, done INTEGER NOT NULL, owner INTEGER NOT NULL, line TEXT,
    state TEXT NOT NULL, due REAL, kept INTEGER NOT NULL, PRIMARY KEY (group_id, id)) WITHOUT ROWID;
CREATE INDEX waiting_due ON waiting (group_id, owner, due);
CREATE INDEX waiting_in_line ON waiting (group_id, owner, line, state) WHERE line IS NOT NULL;
CREATE TRIGGER waiting_began AFTER INSERT ON waiting BEGIN
    UPDATE readings SET waiting = waiting + 1
    WHERE group_id = NEW.group_id AND partition = NEW.id >> 40; END;
CREATE TRIGGER waiting_ended AFTER DELETE ON waiting BEGIN
    DELETE FROM kept WHERE number = OLD.kept; UPDATE readings SET waiting = waiting - 1
    WHERE group_id = OLD.group_id AND partition = OLD.id >> 40; END;
"""

# scheduled: the records that are stored when they are due (Y3).
# tickets: those whose records were put into a log, or cancelled; forgotten after a time.
# passed: for a group that was made to begin again, records that it is not given, though they come
#     after its place: copies of what is given anew, and records that were deleted before (Y5).
_SCHEDULED: Final = """
CREATE TABLE identity (name TEXT NOT NULL, replay INTEGER NOT NULL);
CREATE TABLE scheduled (number INTEGER PRIMARY KEY, ticket TEXT NOT NULL UNIQUE,
    partition INTEGER NOT NULL, due REAL NOT NULL, line TEXT, body BLOB NOT NULL);
CREATE INDEX scheduled_due ON scheduled (partition, due, ticket);
CREATE INDEX scheduled_due_of_all ON scheduled (due, ticket);
CREATE TABLE tickets (ticket TEXT PRIMARY KEY, is_cancelled INTEGER NOT NULL, at REAL NOT NULL)
    WITHOUT ROWID;
CREATE INDEX tickets_at ON tickets (at);
CREATE TABLE passed (group_id INTEGER, id INTEGER, PRIMARY KEY (group_id, id)) WITHOUT ROWID;
CREATE TRIGGER scheduled_one AFTER INSERT ON scheduled BEGIN
    UPDATE logs SET scheduled = scheduled + 1 WHERE partition = NEW.partition; END;
CREATE TRIGGER unscheduled_one AFTER DELETE ON scheduled BEGIN
    UPDATE logs SET scheduled = scheduled - 1 WHERE partition = OLD.partition; END;
INSERT INTO identity VALUES (lower(hex(randomblob(8))), 0);
"""

# A process of a former release may still have the file open. It writes no `replay`, and patterns in
# another form, by which the triggers recognise and refuse it. It can store, and can settle the
# records that it holds until its leases run out.
_REFUSALS: Final = """
CREATE TRIGGER former_joins BEFORE INSERT ON members
    WHEN NEW.patterns NOT LIKE '{"layout"%' BEGIN
    SELECT raise(ABORT, 'a newer release of flexiflow has changed the layout of the file'); END;
CREATE TRIGGER former_acquires BEFORE INSERT ON leases WHEN NEW.replay IS NULL BEGIN
    SELECT raise(ABORT, 'a newer release of flexiflow has changed the layout of the file'); END;
CREATE TRIGGER former_renews BEFORE UPDATE OF until ON leases WHEN OLD.replay IS NULL BEGIN
    SELECT raise(ABORT, 'a newer release of flexiflow has changed the layout of the file'); END;
"""

# What version 2 added to the tables that were there.
_FROM_1: Final = """
ALTER TABLE groups ADD COLUMN patterns TEXT;
ALTER TABLE readings ADD COLUMN waiting INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pending ADD COLUMN lapsed INTEGER;
ALTER TABLE pending ADD COLUMN done INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pending ADD COLUMN waited INTEGER NOT NULL DEFAULT 0;
ALTER TABLE leases ADD COLUMN over INTEGER;
"""

# What version 2 had and version 1 had not.
_FROM_2_ALONE: Final = """
ALTER TABLE kept ADD COLUMN stored REAL;
ALTER TABLE kept ADD COLUMN origin INTEGER;
DROP TRIGGER former_joins;
DROP TRIGGER former_acquires;
DROP TRIGGER former_renews;
"""

# The members in the file are workers of the former release, which can't go on.
_FROM_2: Final = """
ALTER TABLE logs ADD COLUMN scheduled INTEGER NOT NULL DEFAULT 0;
ALTER TABLE logs ADD COLUMN deleted REAL;
ALTER TABLE records ADD COLUMN stored REAL;
ALTER TABLE records ADD COLUMN origin INTEGER;
ALTER TABLE groups ADD COLUMN replay INTEGER NOT NULL DEFAULT 0;
ALTER TABLE readings ADD COLUMN passed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE leases ADD COLUMN replay INTEGER;
ALTER TABLE dead ADD COLUMN origin INTEGER;
DELETE FROM members;
"""

# Nobody knows when a former release has deleted records to make room, but that was before now.
_DELETED: Final = (
    "UPDATE logs SET deleted = ? WHERE last > 0"
    " AND NOT EXISTS (SELECT 1 FROM records WHERE id = (partition << 40) + 1)"
)


def make(db: sqlite3.Connection, partitions: int | None) -> None:
    """Create all tables, in the caller's transaction."""
    _run(db, _TABLES + _WAITING + _SCHEDULED + _REFUSALS)
    db.execute("INSERT INTO flexiflow_durable VALUES (?, ?)", (VERSION, partitions))
    logs = ((each,) for each in range(partitions or 1))
    db.executemany("INSERT INTO logs (partition, last) VALUES (?, 0)", logs)


def migrate(db: sqlite3.Connection, version: int) -> None:
    """Migrate a file of a former layout to this one, in the caller's transaction (X16)."""
    former = _FROM_1 + _WAITING if version == 1 else _FROM_2_ALONE
    _run(db, former + _FROM_2 + _SCHEDULED + _REFUSALS)
    now = time()
    db.execute("UPDATE groups SET replay = ?", (replay_after(0, now),))
    db.execute(_DELETED, (now,))
    db.execute("UPDATE flexiflow_durable SET version = ?", (VERSION,))


def replay_after(last: int, now: float) -> int:
    """Return the next `groups.replay`: the microseconds since 1970, or more (Y5)."""
    return max(last + 1, int(now * 1_000_000))


def identity_of(db: sqlite3.Connection) -> str:
    """Return the name that tells the file from all others, in tickets; a copy has it, too."""
    (name,) = db.execute("SELECT name FROM identity").fetchone()
    return str(name)


def _run(db: sqlite3.Connection, script: str) -> None:
    # Not by `executescript`, which commits first. Inside a trigger, no line ends with a semicolon.
    for statement in script.split(";\n"):
        db.execute(statement)
