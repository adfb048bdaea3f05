"""Files and arguments that the SQLite transport refuses, and what it says of each."""

import os
import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from flexiflow.extras._sqlite.opening import make_durable
from flexiflow.extras.durable import (
    Acknowledged,
    Room,
    SqliteTransport,
    Standing,
    Stored,
    TransportUnavailable,
    TransportUnusable,
)
from flexiflow.extras.durable._sqlite.schema import layout_of
from tests.durable.sqlite.files import (
    PATIENCE,
    Clock,
    batch,
    held_thread,
    one_lease,
    positions,
    real_path,
    run_sql,
    runner_of,
    start_waiting,
)

pytestmark = pytest.mark.same_everywhere


async def refused(transport: SqliteTransport, kind: type[Exception]) -> str:
    """Connect, which is to fail, and give the message."""
    with pytest.raises(kind) as info:
        async with transport.connect():
            pass
    return str(info.value)


def forbid(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """Let the system say that this process may not write to a file or folder; root always may."""
    forbidden = place.resolve()
    monkeypatch.setattr(os, "access", lambda path, *_, **__: Path(path).resolve() != forbidden)


async def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    """X6: it is named, and left as it is."""
    content = b"no database at all" * 100
    _write(path, content)
    message = await refused(SqliteTransport(path), TransportUnusable)
    assert message == f"{real_path(path)} can't be used: file is not a database"
    assert _read(path) == content


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _read(path: Path) -> bytes:
    return path.read_bytes()


async def test_a_database_of_something_else_is_refused(path: Path) -> None:
    """X6: it is left as it is, to the last byte."""
    run_sql(path, "CREATE TABLE songs (title)", "CREATE TABLE artists (name)")
    before = _read(path)
    message = await refused(SqliteTransport(path), TransportUnusable)
    assert "it is the database of something else, with artists, songs; a file of its" in message
    assert _read(path) == before


async def test_another_layout_is_refused(path: Path) -> None:
    """X6: a newer release's file, and one with another number of partitions, say so."""
    async with SqliteTransport(path, partitions=4).connect():
        pass
    message = await refused(SqliteTransport(path), TransportUnusable)
    assert "it was made with partitions=4, not partitions=None" in message
    run_sql(path, "UPDATE flexiflow_durable SET version = 4")
    message = await refused(SqliteTransport(path, partitions=4), TransportUnusable)
    assert "its layout is version 4, and this release knows version 3 and those" in message


async def test_a_locked_file_is_waited_for_in_vain(path: Path, clock: Clock) -> None:
    """X6: the wait is bounded, at the opening and later, and nothing is lost."""
    transport = SqliteTransport(path, busy_timeout=0)
    async with transport.connect() as connection:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(TransportUnavailable, match="is not available: database is locked"):
                await connection.store(batch(1, "a"))
            message = await refused(transport, TransportUnavailable)
        assert "database is locked" in message
        await connection.store(batch(1, "a"))
        assert await connection.tail(["0"], 9, 0) == (
            [Stored(0, "1", b"a", None, clock.now)],
            ["1"],
        )


async def test_two_that_make_a_file_at_once_wait_for_each_other(path: Path) -> None:
    """X6: SQLite does not wait by itself for the switch to its write-ahead log."""
    busy = sqlite3.OperationalError("database is locked")
    busy.sqlite_errorcode = sqlite3.SQLITE_BUSY

    class Busy(sqlite3.Connection):
        times = 1

        def execute(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
            if statement == "PRAGMA journal_mode = WAL" and self.times:
                self.times -= 1
                raise busy
            return super().execute(statement, *arguments)

    with closing(sqlite3.connect(path, factory=Busy)) as connection:
        make_durable(connection, layout_of(str(path), None, PATIENCE))
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        connection.times = 1
        with pytest.raises(sqlite3.OperationalError):
            make_durable(connection, layout_of(str(path), None, -1))


async def test_where_there_is_no_write_ahead_log_a_file_is_refused() -> None:
    """X6: what a network's disk can't do is said, with what would be right."""
    with (
        closing(sqlite3.connect(":memory:")) as connection,
        pytest.raises(
            TransportUnusable,
            match=r"somewhere can't be used: .*only journal_mode=memory; a local disk would be",
        ),
    ):
        make_durable(connection, layout_of("somewhere", None, 0))


async def test_a_folder_that_is_not_there_is_named(path: Path) -> None:
    """X6: SQLite makes no folders, and a folder is no file."""
    for each, why in (
        (path / "file.db", f"there is no folder {real_path(path)}"),
        (path.parent, "that is a folder"),
    ):
        message = await refused(SqliteTransport(each), TransportUnusable)
        told = f"can't be used: unable to open database file, since {why}"
        assert message == f"{real_path(each)} {told}"


def test_no_reason_is_made_up(path: Path) -> None:
    """X6: where nothing that is known stands in the way, SQLite's own words are enough."""
    error = sqlite3.OperationalError("unable to open database file")
    error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
    told = str(layout_of(str(path), None, 0).errors.translated(error, str(path)))
    assert told.endswith(": unable to open database file")


async def test_a_file_that_can_not_be_written_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X6: a transport that can only be read is of no use."""
    _write(path, b"")
    connect: Any = sqlite3.connect

    def read_only(path: str, **options: Any) -> sqlite3.Connection:
        opened: sqlite3.Connection = connect(path.replace("=rw", "=ro"), **options)
        return opened

    monkeypatch.setattr(sqlite3, "connect", read_only)
    message = await refused(SqliteTransport(path), TransportUnusable)
    assert message == f"{real_path(path)} can't be used: attempt to write a readonly database"
    log = Path(f"{path}-wal")
    _write(log, b"")
    forbid(monkeypatch, log)
    assert await refused(SqliteTransport(path), TransportUnusable) == (
        f"{message}; this process may not write to {real_path(log)}"
    )


@pytest.mark.parametrize("forbidden", ["", ".."], ids=["the file", "its folder"])
async def test_a_file_that_must_not_be_written_is_left_as_it_is(
    path: Path, monkeypatch: pytest.MonkeyPatch, forbidden: str
) -> None:
    """X6: it is refused before SQLite makes files beside it, which its owner could not write to."""
    async with SqliteTransport(path).connect():
        pass
    place = path.parent if forbidden else path
    forbid(monkeypatch, place)
    message = await refused(SqliteTransport(path), TransportUnusable)
    reason = f"this process may not write to {real_path(place)}"
    assert message == f"{real_path(path)} can't be used: {reason}"
    with pytest.raises(TransportUnusable, match=re.escape(reason)):
        await SqliteTransport(path).backup(path.with_name("copy.db"))
    assert [*path.parent.iterdir()] == [path]


async def test_a_name_that_leaves_no_room_for_that_of_the_log_is_refused(path: Path) -> None:
    """X6: The system takes names of 255 bytes at most."""
    path = path.with_name("n" * 253)
    message = await refused(SqliteTransport(path), TransportUnusable)
    assert message == f"{real_path(path)} can't be used: unable to open database file"


async def test_on_a_full_disk_nothing_is_stored_by_halves(path: Path) -> None:
    """X6: a batch without room is refused, and what is settled meanwhile is settled."""
    async with one_lease(path, "a") as (connection, lease):
        runner = runner_of(connection)
        await lease.receive(Room(1))
        await runner.read(lambda db: db.execute("PRAGMA max_page_count = 1"))
        large = batch(2, "b", "c" * 100_000)
        errors: list[Any] = []
        with pytest.raises(TransportUnavailable, match=r"events\.db is not available: .* full"):
            await connection.store(large)
        async with held_thread(connection) as go_on, anyio.create_task_group() as tasks:
            tasks.start_soon(lease.settle, [Acknowledged("1")])
            await start_waiting(tasks, errors, lambda: _error(connection.store(large)))
            go_on.set()
        assert isinstance(errors[0], TransportUnavailable)
        assert await connection.standing("g") == Standing(0, 0, 0, 0)
        await runner.read(lambda db: db.execute("PRAGMA max_page_count = 1000000"))
        await connection.store(large)
        assert positions(await lease.receive(Room(9))) == ["2", "3"]


async def _error(call: Any) -> Exception | None:
    try:
        await call
    except TransportUnavailable as error:
        return error
    return None


@pytest.mark.skipif(sys.platform == "win32", reason="an open file can't be deleted there")
@pytest.mark.parametrize("is_replaced", [False, True])
async def test_a_file_that_is_gone_is_noticed(path: Path, *, is_replaced: bool) -> None:
    """X1: nothing is confirmed that goes where nobody finds it."""
    async with SqliteTransport(path).connect() as connection:
        _replace(path, is_replaced=is_replaced)
        with pytest.raises(
            TransportUnusable,
            match=r"\.db can't be used: .*the file was deleted, moved or replaced",
        ):
            await connection.store(batch(1, "a"))


def _replace(path: Path, *, is_replaced: bool) -> None:
    # Kept under another name: its number is not given to the new one.
    path.rename(path.with_suffix(".old"))
    if is_replaced:
        path.touch()


async def test_a_closed_connection_says_so(path: Path) -> None:
    """X6: a call after the block has ended is refused."""
    async with SqliteTransport(path).connect() as connection:
        pass
    with pytest.raises(
        TransportUnavailable, match=r"\.db is not available: this connection was closed"
    ):
        await connection.groups()


async def test_what_leaves_the_block_leaves_it_as_it_is(path: Path) -> None:
    """X6: an exception of the user's is not wrapped."""
    with pytest.raises(ZeroDivisionError):
        async with SqliteTransport(path).connect():
            raise ZeroDivisionError


@pytest.mark.parametrize("nowhere", ["", ":memory:"])
def test_a_path_must_name_a_file(nowhere: str) -> None:
    """X6: what SQLite takes for no file is refused at once."""
    with pytest.raises(ValueError, match=r"must name a file, not '.*'; MemoryTransport\(\) keeps"):
        SqliteTransport(nowhere)


def test_a_path_is_no_url() -> None:
    """X6: A URL would make a file of that name, which nobody looks for."""
    with pytest.raises(ValueError, match=r"not the URL 'sqlite:a\.db'; leave out 'sqlite:'$"):
        SqliteTransport("sqlite:a.db")


def test_a_path_has_no_null_character() -> None:
    """X6: the system would refuse it, without a word on the argument."""
    with pytest.raises(ValueError, match=r"path must have no null character, as 'a\\x00b' has"):
        SqliteTransport("a\0b")


@pytest.mark.parametrize("wrong", [None, 1, b"events.db"])
def test_a_path_must_be_one(wrong: Any) -> None:
    """X6: a value that is no path is refused at once."""
    with pytest.raises(TypeError, match=rf"path must be a str or a pathlib\.Path, not {wrong!r}$"):
        SqliteTransport(wrong)


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        ("partitions", 0),
        ("partitions", 2**63),
        ("max_length", 0),
        ("max_length", True),
        ("max_length", 1.5),
        ("idempotency_window", -1),
        ("idempotency_window", float("nan")),
        ("poll_interval", 0),
        ("poll_interval", "1"),
        ("busy_timeout", -0.1),
        ("busy_timeout", True),
        ("busy_timeout", float("inf")),
        ("idempotency_window", 0),
    ],
)
def test_numbers_out_of_range_are_refused(option: str, wrong: Any) -> None:
    """X6: each option is checked at once, and named."""
    options: dict[str, Any] = {option: wrong}
    with pytest.raises(ValueError, match=f"^{option} must be .*, not {re.escape(repr(wrong))}$"):
        SqliteTransport("events.db", **options)
