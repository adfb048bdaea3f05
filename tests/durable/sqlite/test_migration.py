"""X16: files that former releases wrote."""

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flexiflow.extras.durable import (
    Acknowledged,
    Batch,
    Buried,
    Failure,
    Member,
    Record,
    Room,
    SqliteTransport,
    Standing,
    TransportUnusable,
)
from flexiflow.extras.durable._sqlite import schema as schema_module
from flexiflow.extras.durable._sqlite import tables as tables_module
from tests.durable.sqlite.former import PATTERNS, write_former

EACH = pytest.mark.parametrize("version", [1, 2])

pytestmark = pytest.mark.same_everywhere

ME = Member("g", "me", "token", ("order.*",), 10.0)


@EACH
async def test_all_that_is_in_it_is_there_still(tmp_path: Path, version: int) -> None:
    """X16: Records, counts, suspects, dead letters, producers; and it can be used from then on.

    Y5: The number of a replay is the time of the migration.
    """
    path = tmp_path / "events.db"
    write_former(path, version)
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
        assert lease.replay > 10**15
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


@EACH
@pytest.mark.parametrize("at", range(0, 28, 3))
async def test_one_that_was_interrupted_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int, at: int
) -> None:
    """X16: At any statement, since it is one transaction; the next to open it migrates it."""
    path = tmp_path / "events.db"
    write_former(path, version)
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

    def failing(db: sqlite3.Connection, found: int) -> None:
        given: Any = Failing(db)
        tables_module.migrate(given, found)

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


@EACH
async def test_a_former_release_is_refused_after_that(tmp_path: Path, version: int) -> None:
    """X16: By the version as it opens the file, and by triggers where it has it open."""
    path = tmp_path / "events.db"
    write_former(path, version)
    former = sqlite3.connect(path, isolation_level=None)
    async with SqliteTransport(path).connect() as connection:
        await connection.join(ME)
        # It looks at the other members before it joins.
        [(patterns,)] = former.execute("SELECT patterns FROM members").fetchall()
        assert json.loads(patterns)["patterns"] == ["order.*"]
        (found, _) = former.execute("SELECT * FROM flexiflow_durable").fetchone()
        assert found not in {1, 2}
        row = (1, "old", "t", PATTERNS[version], 1.0, 9e12)
        acquire = {
            1: "INSERT INTO leases (group_id, partition, since, until) VALUES (1, 0, 1, 2)",
            2: "INSERT INTO leases (group_id, partition, since, until, over)"
            " VALUES (1, 0, 1, 2, 0)",
        }[version]
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
        db.execute("UPDATE flexiflow_durable SET version = 4")
    db.close()
    with pytest.raises(
        TransportUnusable,
        match=r"\.db can't be used: .*its layout is version 4, and this release knows",
    ):
        async with SqliteTransport(path).connect():
            pytest.fail("opened")


async def test_what_waits_is_there_still(tmp_path: Path) -> None:
    """X16, Y5: It is given when it is due; as a dead letter it has the place where it was."""
    path = tmp_path / "events.db"
    write_former(path, 2)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT INTO kept VALUES (1, NULL, 'waited')")
        db.execute("INSERT INTO waiting VALUES (1, 1, 1, 0, 0, 5, 'k', 'due', 1.0, 1)")
    async with SqliteTransport(path).connect() as connection:
        assert await connection.standing("g") == Standing(3, 2, 2, 1, 1)
        await connection.join(ME)
        lease = await connection.acquire(ME, 0)
        assert lease is not None
        [waited] = [each for each in await lease.receive(Room(9)) if each.has_waited]
        assert (waited.position, waited.body) == ("1", b"waited")
        await lease.settle([Buried("1", 2, 1, Failure("E", "m", "t"))])
        for start, dead in (("1", 2), ("0", 1)):
            await connection.replay("g", (start,))
            assert (await connection.standing("g")).dead == dead


@EACH
@pytest.mark.parametrize("is_trimmed", [True, False])
async def test_nobody_knows_when_it_lost_its_first_records(
    tmp_path: Path, version: int, is_trimmed: bool
) -> None:
    """X16, Y5: A replay since a time before the migration tells that some may be missing."""
    path = tmp_path / "events.db"
    write_former(path, version)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM records WHERE id <= 2 AND ?", (is_trimmed,))
    before = time.time()
    async with SqliteTransport(path).connect() as connection:
        begin = "2" if is_trimmed else "0"
        assert await connection.replay("g", before) == ((begin,), not is_trimmed)
        assert await connection.replay("g", "oldest") == ((begin,), True)
        assert await connection.replay("g", time.time()) == ((begin,), True)
