"""Files as former releases wrote them (X16)."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TABLES_1 = """
CREATE TABLE flexiflow_durable (version INTEGER NOT NULL, partitions INTEGER);
CREATE TABLE logs (partition INTEGER PRIMARY KEY, last INTEGER NOT NULL);
CREATE TABLE records (id INTEGER PRIMARY KEY, body BLOB NOT NULL, only_group TEXT);
CREATE TABLE producers (name TEXT PRIMARY KEY, number INTEGER NOT NULL, at REAL NOT NULL)
    WITHOUT ROWID;
CREATE TABLE groups (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
CREATE TABLE readings (group_id INTEGER, partition INTEGER, given INTEGER NOT NULL,
    missed INTEGER NOT NULL, PRIMARY KEY (group_id, partition)) WITHOUT ROWID;
CREATE TABLE pending (group_id INTEGER, id INTEGER, attempts INTEGER NOT NULL,
    deliveries INTEGER NOT NULL, holder INTEGER, PRIMARY KEY (group_id, id)) WITHOUT ROWID;
CREATE INDEX pending_free ON pending (group_id, id) WHERE holder IS NULL;
CREATE TABLE leases (token INTEGER PRIMARY KEY AUTOINCREMENT, group_id INTEGER NOT NULL,
    partition INTEGER NOT NULL, since REAL NOT NULL, until REAL NOT NULL);
CREATE INDEX leases_of ON leases (group_id, partition);
CREATE TABLE members (group_id INTEGER, consumer TEXT, token TEXT NOT NULL, patterns TEXT NOT NULL,
    since REAL NOT NULL, until REAL NOT NULL, PRIMARY KEY (group_id, consumer)) WITHOUT ROWID;
CREATE TABLE dead (id INTEGER PRIMARY KEY AUTOINCREMENT, group_id INTEGER NOT NULL,
    partition INTEGER NOT NULL, body BLOB NOT NULL, type TEXT NOT NULL,
    message TEXT NOT NULL, traceback TEXT NOT NULL, attempts INTEGER NOT NULL,
    deliveries INTEGER NOT NULL, time REAL NOT NULL);
CREATE INDEX dead_of ON dead (group_id)
"""

TABLES_2 = """
CREATE TABLE flexiflow_durable (version INTEGER NOT NULL, partitions INTEGER);
CREATE TABLE logs (partition INTEGER PRIMARY KEY, last INTEGER NOT NULL);
CREATE TABLE records (id INTEGER PRIMARY KEY, body BLOB NOT NULL, only_group TEXT);
CREATE TABLE producers (name TEXT PRIMARY KEY, number INTEGER NOT NULL, at REAL NOT NULL)
    WITHOUT ROWID;
CREATE TABLE groups (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,
    patterns TEXT);
CREATE TABLE readings (group_id INTEGER, partition INTEGER, given INTEGER NOT NULL,
    missed INTEGER NOT NULL, waiting INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (group_id, partition)) WITHOUT ROWID;
CREATE TABLE pending (group_id INTEGER, id INTEGER, attempts INTEGER NOT NULL,
    deliveries INTEGER NOT NULL, holder INTEGER, lapsed INTEGER, done INTEGER NOT NULL DEFAULT 0,
    waited INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (group_id, id)) WITHOUT ROWID;
CREATE INDEX pending_free ON pending (group_id, id) WHERE holder IS NULL;
CREATE TABLE leases (token INTEGER PRIMARY KEY AUTOINCREMENT, group_id INTEGER NOT NULL,
    partition INTEGER NOT NULL, since REAL NOT NULL, until REAL NOT NULL, over INTEGER);
CREATE INDEX leases_of ON leases (group_id, partition);
CREATE TABLE members (group_id INTEGER, consumer TEXT, token TEXT NOT NULL, patterns TEXT NOT NULL,
    since REAL NOT NULL, until REAL NOT NULL, PRIMARY KEY (group_id, consumer)) WITHOUT ROWID;
CREATE TABLE dead (id INTEGER PRIMARY KEY AUTOINCREMENT, group_id INTEGER NOT NULL,
    partition INTEGER NOT NULL, body BLOB NOT NULL, type TEXT NOT NULL,
    message TEXT NOT NULL, traceback TEXT NOT NULL, attempts INTEGER NOT NULL,
    deliveries INTEGER NOT NULL, time REAL NOT NULL);
CREATE INDEX dead_of ON dead (group_id);
CREATE TABLE kept (number INTEGER PRIMARY KEY, only_group TEXT, body BLOB NOT NULL);
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
CREATE TRIGGER former_joins BEFORE INSERT ON members WHEN NEW.patterns LIKE '[%' BEGIN
    SELECT raise(ABORT, 'a newer release of flexiflow has changed the layout of the file'); END;
CREATE TRIGGER former_acquires BEFORE INSERT ON leases WHEN NEW.over IS NULL BEGIN
    SELECT raise(ABORT, 'a newer release of flexiflow has changed the layout of the file'); END;
CREATE TRIGGER former_renews BEFORE UPDATE OF until ON leases WHEN OLD.over IS NULL BEGIN
    SELECT raise(ABORT, 'a newer release of flexiflow has changed the layout of the file'); END;
"""


def write_former(path: Path, version: int) -> None:
    """Write a file as a former release did, with all that may be in one."""
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(TABLES_1 if version == 1 else TABLES_2)
        db.execute("INSERT INTO flexiflow_durable VALUES (?, NULL)", (version,))
        db.execute("INSERT INTO logs VALUES (0, 6)")
        for number in range(1, 7):
            row = (number, f"body{number}".encode())
            db.execute("INSERT INTO records VALUES (?, ?, NULL)", row)
        db.execute("INSERT INTO producers VALUES ('p', 7, 9e12)")
        db.execute("INSERT INTO groups (id, name) VALUES (1, 'g')")
        db.execute("INSERT INTO readings (group_id, partition, given, missed) VALUES (1, 0, 4, 2)")
        # The first one was acknowledged. A dead worker holds a poison and another one; the fourth
        # was given back after an attempt that failed.
        over = "" if version == 1 else ", 0"
        db.execute(f"INSERT INTO leases VALUES (5, 1, 0, 1.0, 2.0{over})")  # noqa: S608 - no input
        db.execute(
            "INSERT INTO pending (group_id, id, attempts, deliveries, holder)"
            " VALUES (1, 2, 0, 3, 5), (1, 3, 1, 1, 5), (1, 4, 2, 0, NULL)"
        )
        db.execute("INSERT INTO members VALUES (1, 'old', 't', ?, 1.0, 9e12)", (PATTERNS[version],))
        db.execute("INSERT INTO dead VALUES (1, 1, 0, x'64', 'E', 'm', 't', 5, 1, 1.0)")


PATTERNS = {1: '["order.placed"]', 2: '{"patterns": ["order.placed"]}'}
"""How each release wrote a member's patterns."""
