"""The files of the SQLite transport: what is done to them by hand is found out in time (X9)."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from anyio import to_thread

from flexiflow.extras._sqlite import file as module
from flexiflow.extras._sqlite import opened as opened_module
from flexiflow.extras._sqlite.file import Watch, identity_of
from flexiflow.extras._sqlite.jobs import JobRunner
from flexiflow.extras._sqlite.layout import Layout
from flexiflow.extras._sqlite.opening import open_database
from flexiflow.extras.durable import (
    Acknowledged,
    Batch,
    Connection,
    Member,
    Record,
    Room,
    SqliteTransport,
    TransportUnusable,
)
from flexiflow.extras.durable._sqlite.schema import layout_of

pytestmark = [
    pytest.mark.same_everywhere,
    pytest.mark.skipif(sys.platform == "win32", reason="open files can't be meddled with there"),
]
linux = pytest.mark.skipif(sys.platform != "linux", reason="locks can be looked at on Linux only")

MEMBER = Member("g", "a", "token", ("*",), 60)

# What another process does that opens the file and closes it again.
READ = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=30)
print(*db.execute("SELECT count(*) FROM records").fetchone())
db.close()
"""
STORE = """
import sys, anyio
from flexiflow.extras.durable import Batch, Record, SqliteTransport

async def main():
    async with SqliteTransport(sys.argv[1], busy_timeout=30).connect() as connection:
        await connection.store(Batch("elsewhere", 1, (Record(b"from elsewhere"),)))

anyio.run(main)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the path of a file that is not there yet, in a folder of its own."""
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder / "events.db"


def beside(path: Path, end: str) -> Path:
    """Give the path of one of the files that SQLite keeps beside another."""
    return path.with_name(path.name + end)


def elsewhere(path: Path, program: str = READ) -> bytes:
    """Have another process open the file and close it; give what it says, if it can."""
    command = [sys.executable, "-c", program, str(path)]
    return subprocess.run(command, capture_output=True, check=False).stdout


def batch(number: int, body: str) -> Batch:
    """Make a batch of one record."""
    return Batch("p", number, (Record(body.encode()),))


def found_in(path: Path) -> list[str]:
    """Tell what a file holds, and that it is sound, without changing anything."""
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = database.execute("SELECT CAST(body AS TEXT) FROM records ORDER BY id").fetchall()
        return [body for (body,) in rows]


def runner_of(connection: Connection) -> JobRunner:
    """Give what a connection does its jobs with."""
    runner: JobRunner = cast("Any", connection).jobs
    return runner


def open_and_close(path: Path) -> None:
    """Read a file by hand."""
    path.open("rb").close()


def copy(path: Path) -> None:
    """Copy a file by hand."""
    shutil.copy(path, path.with_suffix(".copy"))


def copy_all(path: Path) -> None:
    """Copy a folder by hand."""
    shutil.copytree(path.parent, path.parent.with_name("copy"))


def open_index(path: Path) -> None:
    """Read the index of the log by hand."""
    beside(path, "-shm").open("rb").close()


def remove_log(path: Path) -> None:
    """Remove the log."""
    beside(path, "-wal").unlink()


def move_log(path: Path) -> None:
    """Give the log another name."""
    beside(path, "-wal").rename(path.with_suffix(".old"))


def replace_log(path: Path) -> None:
    """Put a copy in the place of the log."""
    move_log(path)
    shutil.copy(path.with_suffix(".old"), beside(path, "-wal"))


def remove_index(path: Path) -> None:
    """Remove the index of the log."""
    beside(path, "-shm").unlink()


def move(path: Path) -> None:
    """Give a file another name."""
    path.rename(path.with_suffix(".old"))


def replace(path: Path) -> None:
    """Put another file in the place of one."""
    move(path)
    path.touch()


UNLOCKED = "by other means while it was open, which drops the locks of SQLite"
MOVED = r"events\.db can't be used: the file was deleted, moved or replaced while it was open"
LOG_MOVED = r"the file events\.db-wal beside it was deleted, moved or replaced while it was open"
INDEX_MOVED = LOG_MOVED.replace("wal", "shm")

BY_HAND = [
    pytest.param(harm, UNLOCKED, marks=linux) for harm in (open_and_close, copy, copy_all)
] + [pytest.param(open_index, UNLOCKED, marks=linux)]
OTHERS = [
    (remove_log, LOG_MOVED),
    (move_log, LOG_MOVED),
    (replace_log, LOG_MOVED),
    (remove_index, INDEX_MOVED),
]


@pytest.mark.parametrize(("harm", "said"), [*BY_HAND, *OTHERS])
async def test_nothing_is_confirmed_once_somebody_has_meddled(
    path: Path, harm: Callable[[Path], None], said: str
) -> None:
    """X9: no store and no acknowledgement is confirmed, and all that was confirmed is there."""
    async with SqliteTransport(path).connect() as connection:
        await connection.join(MEMBER)
        lease = await connection.acquire(MEMBER, 0)
        assert lease is not None
        for number in range(1, 21):
            await connection.store(batch(number, str(number)))
        (given, *_) = await lease.receive(Room(1))
        harm(path)
        await to_thread.run_sync(elsewhere, path)
        for number in range(21, 24):
            with pytest.raises(TransportUnusable, match=said):
                await connection.store(batch(number, str(number)))
        with pytest.raises(TransportUnusable, match=said):
            await lease.settle([Acknowledged(given.position)])
        with pytest.raises(TransportUnusable, match=said):
            await connection.standing("g")
        # As it would be if this process were killed now.
        assert int(await to_thread.run_sync(elsewhere, path)) >= 20
    assert [each for each in found_in(path) if int(each) <= 20] == [str(n) for n in range(1, 21)]


@pytest.mark.parametrize("harm", [remove_log, remove_index])
async def test_what_a_removed_log_held_is_saved_at_once(
    path: Path, harm: Callable[[Path], None]
) -> None:
    """X9: the next call finds it out, and what was confirmed is there for all who come then."""
    async with SqliteTransport(path).connect() as connection:
        await connection.store(batch(1, "a"))
        harm(path)
        with pytest.raises(
            TransportUnusable,
            match=r"\.db can't be used: .*beside it was deleted, moved or replaced",
        ):
            await connection.store(batch(2, "b"))
        assert int(await to_thread.run_sync(elsewhere, path)) == 1
    assert found_in(path) == ["a"]


@pytest.mark.parametrize("harm", [move, replace])
async def test_a_file_that_was_moved_takes_all_along_that_was_confirmed(
    path: Path, harm: Callable[[Path], None]
) -> None:
    """X9: nothing is confirmed that goes where nobody finds it; a move alone loses nothing."""
    async with SqliteTransport(path).connect() as connection:
        await connection.store(batch(1, "a"))
        harm(path)
        for _ in range(2):
            with pytest.raises(TransportUnusable, match=MOVED):
                await connection.store(batch(2, "b"))
            with pytest.raises(TransportUnusable, match=MOVED):
                await connection.groups()
    if harm is move:
        beside(path, "-wal").unlink(missing_ok=True)
        assert found_in(path.with_suffix(".old")) == ["a"]


async def test_a_file_that_is_back_is_used_by_a_new_connection_only(path: Path) -> None:
    """X9: once nothing was confirmed any more, it stays so; a new one has what was confirmed."""
    async with SqliteTransport(path).connect() as connection:
        await connection.store(batch(1, "a"))
        move(path)
        with pytest.raises(TransportUnusable, match=MOVED):
            await connection.groups()
        path.with_suffix(".old").rename(path)
        with pytest.raises(TransportUnusable, match=MOVED):
            await connection.store(batch(2, "b"))
    async with SqliteTransport(path).connect() as connection:
        await connection.store(batch(2, "c"))
    assert found_in(path) == ["a", "c"]


async def test_a_file_that_was_moved_is_complete_without_any_call(path: Path) -> None:
    """X9: where the bridge is merely left after a move, the file has all that was confirmed."""
    async with SqliteTransport(path).connect() as connection:
        await connection.store(batch(1, "a"))
        move(path)
    assert found_in(path.with_suffix(".old")) == ["a"]


@pytest.mark.unmeasured
@linux
async def test_a_commit_under_way_as_somebody_meddles_is_not_confirmed(path: Path) -> None:
    """X9: the locks are looked at after the commit, and what others write then stays sound."""
    async with SqliteTransport(path).connect() as connection:
        await connection.store(batch(1, "a"))

        def meddled_with(database: sqlite3.Connection) -> None:
            database.execute("INSERT INTO records (id, body) VALUES (9, 'lost')")
            open_and_close(path)
            elsewhere(path)

        with pytest.raises(TransportUnusable, match=UNLOCKED):
            await runner_of(connection).write(meddled_with)
        await to_thread.run_sync(elsewhere, path, STORE)
    assert found_in(path) == ["a", "from elsewhere"]


@linux
async def test_all_that_are_open_in_a_process_are_told(path: Path) -> None:
    """X9: locks are the process's: all of its connections lose them, and then none is opened."""
    transport = SqliteTransport(path)
    async with transport.connect() as first:
        async with transport.connect() as second:
            await first.store(batch(1, "a"))
            open_and_close(path)
            for each in (first, second):
                with pytest.raises(TransportUnusable, match=UNLOCKED):
                    await each.store(batch(2, "b"))
        with pytest.raises(
            TransportUnusable,
            match=r"\.db can't be used: .*has it open already, and the locks of that",
        ):
            async with transport.connect():
                raise AssertionError
    async with transport.connect() as again:
        await again.store(batch(2, "c"))
    assert found_in(path) == ["a", "c"]


@linux
@pytest.mark.parametrize(
    ("may_write", "told"),
    [
        (True, "this process has it open already, and the locks of that"),
        (False, "this process may not write to .*-shm$"),
    ],
)
async def test_a_connection_of_the_users_without_locks_is_noticed(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, may_write: bool, told: str
) -> None:
    """X9: where SQLite takes a lock for its own that is lost, a bridge is not opened.

    SQLite does not lock an index to which it may not write either.
    """
    async with SqliteTransport(path).connect() as connection:
        await connection.store(batch(1, "a"))
    with closing(sqlite3.connect(path)) as others:
        others.execute("SELECT * FROM records").fetchall()
        open_and_close(path)
        monkeypatch.setattr(
            os, "access", lambda file, *_, **__: may_write or not file.endswith("-shm")
        )
        with pytest.raises(TransportUnusable, match=rf"\.db can't be used: {told}"):
            async with SqliteTransport(path).connect():
                raise AssertionError


@pytest.mark.unmeasured
async def test_many_connections_in_one_process_do_no_harm(path: Path) -> None:
    """X9: who opens and closes the file by SQLite, here or elsewhere, is no meddler."""
    transport = SqliteTransport(path)
    async with transport.connect() as connection:
        for number in range(1, 6):
            async with transport.connect() as other:
                await other.groups()
            assert len(found_in(path)) == number - 1
            await to_thread.run_sync(elsewhere, path)
            await connection.store(batch(number, str(number)))
    assert found_in(path) == list("12345")


@linux
async def test_a_descriptor_of_the_users_may_stay_open(path: Path) -> None:
    """X9: to hold the file open by hand does no harm; to close it does."""
    make(path)
    only_to_write = os.open(path, os.O_WRONLY)
    to_read = os.open(path, os.O_RDWR)
    try:
        async with SqliteTransport(path).connect() as connection:
            await connection.store(batch(1, "a"))
            os.close(to_read)
            with pytest.raises(TransportUnusable, match=UNLOCKED):
                await connection.store(batch(2, "b"))
    finally:
        os.close(only_to_write)
    assert found_in(path) == ["a"]


async def test_a_slot_of_the_index_beside_the_lock_is_no_matter(path: Path) -> None:
    """X9: the system may show two locks of SQLite's that are side by side as one."""
    assert module._LOCKED.findall(
        "pos:\t0\nlock:\t1: POSIX  ADVISORY  READ 1 fe:00:2 127 128\nlock:\t2: POSIX 0 EOF\n"
    ) == [("127", "128"), ("0", "EOF")]


@pytest.fixture(params=["no fcntl", "no /proc", "no fdinfo", "no answers"])
def blind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let locks not be looked at, in one way or another."""
    nowhere = Path("/proc/nowhere")
    match request.param:
        case "no fcntl":
            monkeypatch.setattr(module, "_QUERY", None)
        case "no /proc":
            monkeypatch.setattr(module, "_DESCRIPTORS", nowhere)
        case "no fdinfo":
            monkeypatch.setattr(module, "_LOCKS", nowhere)
        case _:
            monkeypatch.setattr(module._Lock, "is_held", False)


@pytest.mark.usefixtures("blind")
async def test_where_locks_can_not_be_looked_at_the_files_are(path: Path) -> None:
    """X9: on other systems what was moved is noticed all the same."""
    async with SqliteTransport(path).connect() as connection:
        await connection.store(batch(1, "a"))
        await connection.store(batch(2, "b"))
        replace_log(path)
        with pytest.raises(TransportUnusable, match=LOG_MOVED):
            await connection.store(batch(3, "c"))


@pytest.mark.parametrize(("harm", "said"), [(replace, MOVED), (remove_log, LOG_MOVED)])
async def test_what_is_replaced_as_it_is_opened_is_noticed(
    path: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Path], None], said: str
) -> None:
    """X9: the files are those that SQLite has opened, from the very first moment."""

    def meddled_with(layout: Layout) -> sqlite3.Connection:
        database = open_database(layout)
        harm(path)
        return database

    monkeypatch.setattr(opened_module, "open_database", meddled_with)
    with pytest.raises(TransportUnusable, match=said):
        async with SqliteTransport(path).connect():
            raise AssertionError


def test_where_sqlite_can_be_asked_to_leave_its_log_it_is(path: Path) -> None:
    """X9: from Python 3.12 on a connection has a setting for that."""
    asked: list[Any] = []

    class Configurable(sqlite3.Connection):
        def setconfig(self, *arguments: Any) -> None:
            asked.append(arguments)

    layout = layout_of(str(path), None, 5)
    with (
        closing(open_database(layout)),
        closing(Watch(str(path), TransportUnusable)) as watch,
        closing(Configurable(path)) as connection,
    ):
        watch.keep_log(connection)
    assert asked == [(1006, True)]


# Who may read them.


@contextmanager
def umask(mask: int) -> Generator[None]:
    """Set what new files don't get, for a while."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes(path: Path, *ends: str) -> Sequence[int]:
    """Tell the modes of a file and of those beside it, as far as they are there."""
    files = [beside(path, end) for end in ends or ("", "-wal", "-shm")]
    return [each.stat().st_mode & 0o777 for each in files if each.exists()]


def make(path: Path, mode: int = 0o600) -> None:
    """Make an empty file by hand, or give one another mode."""
    path.touch()
    path.chmod(mode)


def link(path: Path, target: Path) -> None:
    """Make a symbolic link."""
    path.symlink_to(target)


@pytest.mark.parametrize("mask", [0, 0o022, 0o077, 0o777])
@pytest.mark.parametrize("mode", [None, 0o600, 0o660, 0o644])
async def test_a_new_file_has_the_mode_that_was_asked_for(
    path: Path, mode: int | None, mask: int
) -> None:
    """X9: its owner's alone if nothing else is said, whatever the umask; those beside it, too."""
    transport = SqliteTransport(path) if mode is None else SqliteTransport(path, mode=mode)
    with umask(mask):
        async with transport.connect():
            assert modes(path) == [mode or 0o600] * 3


async def test_a_file_that_is_there_keeps_its_mode(path: Path) -> None:
    """X9: a mode that was set by hand stays."""
    make(path, 0o640)
    async with SqliteTransport(path, mode=0o600).connect():
        assert modes(path) == [0o640] * 3


@pytest.mark.parametrize("wrong", [0, 0o066, 0o400, 0o1600, -1, True, "600", 6e2, 10**9])
def test_a_mode_that_can_not_be_is_refused(wrong: Any) -> None:
    """X9: at once, with what would be right."""
    with pytest.raises(ValueError, match=r"mode must be permissions from 0o600 to 0o777 by which"):
        SqliteTransport("events.db", mode=wrong)


async def test_a_link_that_leads_nowhere_is_not_followed(path: Path) -> None:
    """X9: the one who made it has not decided where events are kept."""
    target = path.with_name("target.db")
    link(path, target)
    transport = SqliteTransport(path)
    for _ in range(2):
        with pytest.raises(TransportUnusable, match=r"events\.db can't be used: a symbolic link"):
            async with transport.connect():
                raise AssertionError
        assert modes(target, "") in ([], [0o666])
        make(target, 0o666)


async def test_a_link_that_is_put_there_later_is_not_followed(path: Path) -> None:
    """X9: also where it was put there after the transport was made."""
    transport, target = SqliteTransport(path), path.with_name("target.db")
    link(path, target)
    with pytest.raises(
        TransportUnusable,
        match=r"\.db can't be used: .*a symbolic link is there that leads nowhere",
    ):
        async with transport.connect():
            raise AssertionError
    assert modes(target, "") == []


async def test_a_link_to_a_file_is_followed(path: Path) -> None:
    """X9: a link to what is there is another name of it."""
    target = path.with_name("target.db")
    make(target)
    link(path, target)
    async with SqliteTransport(path).connect() as connection:
        await connection.store(batch(1, "a"))
        assert identity_of(connection.address) == identity_of(str(target))
        assert connection.address.endswith("target.db")
    assert found_in(target) == ["a"]


# At rest, as before a fork.


async def test_a_transport_that_rested_goes_on(path: Path) -> None:
    """X9: what is closed for a fork is opened again, and nothing is lost or seen twice."""
    async with SqliteTransport(path).connect() as connection:
        runner = runner_of(connection)
        for number in range(1, 4):
            await connection.store(batch(number, str(number)))
            runner.pause()
            assert not beside(path, "-wal").exists()
            runner.resume()
        async with anyio.create_task_group() as tasks:
            for number in range(4, 7):
                tasks.start_soon(connection.store, Batch(str(number), 1, (Record(b"x"),)))
        assert len((await connection.tail(["0"], 99, 0))[0]) == 6
    runner.pause()
    runner.resume()
    assert found_in(path) == ["1", "2", "3", "x", "x", "x"]


@pytest.mark.parametrize("harm", [move, replace])
async def test_what_was_replaced_while_it_rested_is_noticed(
    path: Path, harm: Callable[[Path], None]
) -> None:
    """X9: a transport goes on with the very file, or not at all."""
    async with SqliteTransport(path).connect() as connection:
        runner = runner_of(connection)
        runner.pause()
        harm(path)
        there = sorted(path.parent.iterdir())
        runner.resume()
        with pytest.raises(TransportUnusable, match=MOVED):
            await connection.store(batch(1, "a"))
    assert sorted(path.parent.iterdir()) == there
