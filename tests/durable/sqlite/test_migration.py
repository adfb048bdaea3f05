"""X16: files that the former release wrote."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from flexiflow.extras.durable import (
    Acknowledged,
    Batch,
    Member,
    Record,
    Room,
    SqliteTransport,
    Standing,
    TransportUnusable,
)
from flexiflow.extras.durable._sqlite import schema as schema_module
from flexiflow.extras.durable._sqlite import tables as tables_module

pytestmark = pytest.mark.same_everywhere

FORMER = """
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
CREATE INDEX dead_of ON dead (group_id)"""
"""The tables of version 1."""

ME = Member("g", "me", "token", ("order.*",), 10.0)


def write_former(path: Path) -> None:
    """Write a file as the former release did, with all that may be in one."""
    with sqlite3.connect(path) as db:
        db.executescript(FORMER)
        db.execute("INSERT INTO flexiflow_durable VALUES (1, NULL)")
        db.execute("INSERT INTO logs VALUES (0, 6)")
        for number in range(1, 7):
            db.execute(
                "INSERT INTO records VALUES (?, ?, NULL)", (number, f"body{number}".encode())
            )
        db.execute("INSERT INTO producers VALUES ('p', 7, 9e12)")
        db.execute("INSERT INTO groups VALUES (1, 'g')")
        db.execute("INSERT INTO readings VALUES (1, 0, 4, 2)")
        # The first one was acknowledged. A dead worker holds a poison and another one; the fourth
        # was given back after an attempt that failed.
        db.execute("INSERT INTO leases VALUES (5, 1, 0, 1.0, 2.0)")
        db.execute(
            "INSERT INTO pending VALUES (1, 2, 0, 3, 5), (1, 3, 1, 1, 5), (1, 4, 2, 0, NULL)"
        )
        db.execute("INSERT INTO members VALUES (1, 'old', 't', '[\"order.placed\"]', 1.0, 9e12)")
        db.execute("INSERT INTO dead VALUES (1, 1, 0, x'64', 'E', 'm', 't', 5, 1, 1.0)")
    db.close()


async def test_all_that_is_in_it_is_there_still(tmp_path: Path) -> None:
    """X16: Records, counts, suspects, dead letters, producers; and it can be used from then on."""
    path = tmp_path / "events.db"
    write_former(path)
    async with SqliteTransport(path).connect() as connection:
        assert await connection.standing("g") == Standing(3, 2, 2, 1)
        [letter] = await connection.dead_letters("g")
        assert (letter.body, letter.attempts) == (b"d", 5)
        await connection.store(Batch("p", 7, (Record(b"again"),)))
        await connection.store(Batch("p", 8, (Record(b"new"),)))
        assert await connection.join(ME) == ["me"]
        lease = await connection.acquire(ME, 0)
        assert lease is not None
        assert lease.token > 5
        given = await lease.receive(Room(9))
        assert [(each.body, *each[3:6]) for each in given] == [
            (b"body2", 0, 3, True),
            (b"body3", 1, 1, True),
            (b"body4", 2, 1, False),
            (b"body5", 0, 1, False),
            (b"body6", 0, 1, False),
            (b"new", 0, 1, False),
        ]
        await lease.settle([Acknowledged(each.position) for each in given])
        assert await connection.standing("g") == Standing(0, 0, 2, 1)
        assert await connection.redrive("g", [letter.id]) == 1
    async with SqliteTransport(path).connect() as connection:
        assert await connection.standing("g") == Standing(0, 1, 2, 0)


@pytest.mark.parametrize("at", range(0, 17, 3))
async def test_one_that_was_interrupted_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """X16: At whatever statement, since it is one transaction; the next to open it migrates it."""
    path = tmp_path / "events.db"
    write_former(path)
    before = dump(path)

    class Failing:
        """A database whose statements fail from one on."""

        def __init__(self, db: sqlite3.Connection) -> None:
            self._db = db
            self._left = at

        def execute(self, *arguments: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                raise sqlite3.OperationalError("database or disk is full")
            return self._db.execute(*arguments)

    def failing(db: sqlite3.Connection) -> None:
        given: Any = Failing(db)
        tables_module.migrate(given)

    with monkeypatch.context() as patched:
        patched.setattr(schema_module, "migrate", failing)
        with pytest.raises(ConnectionError, match="disk is full"):
            async with SqliteTransport(path).connect():
                pytest.fail("opened")
    assert dump(path) == before
    async with SqliteTransport(path).connect() as connection:
        assert await connection.standing("g") == Standing(3, 2, 2, 1)


def dump(path: Path) -> list[str]:
    """Return all that is in a file."""
    db = sqlite3.connect(path)
    try:
        return list(db.iterdump())
    finally:
        db.close()


async def test_a_former_release_is_refused_after_that(tmp_path: Path) -> None:
    """X16: By the version as it opens the file, and by triggers where it has it open."""
    path = tmp_path / "events.db"
    write_former(path)
    former = sqlite3.connect(path, isolation_level=None)
    async with SqliteTransport(path).connect():
        (version, _) = former.execute("SELECT * FROM flexiflow_durable").fetchone()
        assert version != 1
        row = (1, "old", "t", '["order.placed"]', 1.0, 9e12)
        acquire = "INSERT INTO leases (group_id, partition, since, until) VALUES (1, 0, 1, 2)"
        for statement, values in (
            ("INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?, ?, ?)", row),
            (acquire, ()),
            ("UPDATE leases SET since = 1, until = 3 WHERE token = 5", ()),
        ):
            with pytest.raises(sqlite3.IntegrityError, match="a newer release of flexiflow"):
                former.execute(statement, values)
        # What it stores is stored.
        former.execute("INSERT INTO records (id, body) VALUES (7, x'61')")
        former.execute("UPDATE logs SET last = 7 WHERE partition = 0")
    former.close()
    async with SqliteTransport(path).connect() as connection:
        assert (await connection.standing("g")).lag == 3


async def test_a_newer_release_s_file_is_refused(tmp_path: Path) -> None:
    """X16: With the versions that this one knows."""
    path = tmp_path / "events.db"
    async with SqliteTransport(path).connect():
        pass
    db = sqlite3.connect(path)
    with db:
        db.execute("UPDATE flexiflow_durable SET version = 3")
    db.close()
    with pytest.raises(TransportUnusable, match="its layout is version 3, and this release knows"):
        async with SqliteTransport(path).connect():
            pytest.fail("opened")
