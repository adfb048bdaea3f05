"""A copy of a transport's file, from the command line and from code (X9, L5)."""

import os
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from threading import Event, Thread, current_thread, main_thread
from typing import Any

import anyio
import pytest
from anyio import to_thread
from anyio.lowlevel import checkpoint

from flexiflow.extras.durable import (
    Batch,
    Record,
    SqliteTransport,
    TransportUnavailable,
    TransportUnusable,
)
from flexiflow.extras.durable._sqlite import backup as module
from tests.cli.command_line import PATIENCE, run
from tests.cli.stored import bury, dead_letters, event, store, stored

LARGE = b"x" * 4_000_000


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Name a transport in a file that is not there yet, in a folder of its own."""
    (tmp_path / "kept").mkdir()
    return f"sqlite:{tmp_path}/kept/events.db"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Give the path of a copy that is not there yet, in a folder of its own."""
    (tmp_path / "copies").mkdir()
    return tmp_path / "copies" / "copy.db"


def back_up(url: str, file: Path) -> Any:
    """Run the command."""
    return run("backup", "--transport", url, str(file))


def left_in(folder: Path) -> list[str]:
    """Name what is in a folder."""
    return [each.name for each in folder.iterdir()]


def test_a_backup_is_a_transports_file(url: str, copy: Path) -> None:
    """X9: it has the events and dead letters, its owner alone can read it, and nothing else is."""
    bury(url, event("order.placed"))
    store(url, event("order.paid"))
    ran = back_up(url, copy)
    assert (ran.status, ran.output, ran.told) == (0, "", "")
    assert left_in(copy.parent) == [copy.name]
    assert sys.platform == "win32" or copy.stat().st_mode & 0o777 == 0o600
    there = f"sqlite:{copy}"
    assert (stored(there), dead_letters(there)) == (stored(url), dead_letters(url))


async def test_a_backup_is_of_one_moment(url: str, copy: Path) -> None:
    """X9: what is stored while it is copied is in none of it; all before is, from the log, too."""
    transport = SqliteTransport(url.partition(":")[2])
    async with transport.connect() as connection:
        await connection.store(Batch("a", 1, tuple(Record(LARGE) for _ in range(3))))
        begun, go_on = Event(), Event()

        def pause() -> None:
            begun.set()
            assert go_on.wait(PATIENCE)

        async with anyio.create_task_group() as tasks:
            arguments = (transport.path, str(copy), 5, pause)
            tasks.start_soon(to_thread.run_sync, module.back_up, *arguments)
            await to_thread.run_sync(begun.wait)
            await connection.store(Batch("a", 2, (Record(LARGE),)))
            assert copy.name not in left_in(copy.parent)
            go_on.set()
    with closing(sqlite3.connect(copy)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("SELECT count(*) FROM records").fetchall() == [(3,)]


async def test_a_backup_is_made_beside_a_bridge(url: str, copy: Path) -> None:
    """X9: it does no harm to a transport that has the file open in the same process."""
    transport = SqliteTransport(url.partition(":")[2])
    async with transport.connect() as connection:
        for number in range(1, 4):
            await connection.store(Batch("a", number, (Record(b"x"),)))
            file = copy.with_suffix(f".{number}")
            await transport.backup(file)
            with closing(sqlite3.connect(file)) as database:
                query = "SELECT count(*) FROM records"
                assert database.execute(query).fetchall() == [(number,)]


@pytest.mark.parametrize("is_link", [False, True])
def test_a_backup_replaces_nothing(url: str, copy: Path, *, is_link: bool) -> None:
    """X9: what is there stays as it is, also a link that leads nowhere."""
    store(url, event("order.placed"))
    if is_link:
        copy.symlink_to(copy.with_name("nowhere"))
    else:
        copy.write_bytes(b"precious")
    ran = back_up(url, copy)
    assert ran.status == 2
    assert ran.told == f"flexiflow: {str(copy)!r} is there already; a new file would be right\n"
    assert left_in(copy.parent) == [copy.name]
    assert is_link or copy.read_bytes() == b"precious"


def test_a_file_that_comes_meanwhile_is_not_replaced(
    url: str, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X9: also what comes to be there while the copy is made stays."""
    store(url, event("order.placed"))
    whole: Any = module._copy

    def raced(*arguments: Any) -> None:
        whole(*arguments)
        copy.write_bytes(b"precious")

    monkeypatch.setattr(module, "_copy", raced)
    assert back_up(url, copy).status == 2
    assert (left_in(copy.parent), copy.read_bytes()) == ([copy.name], b"precious")


@pytest.mark.parametrize(
    ("transport", "said"),
    [
        ("redis://localhost", "a backup is made of 'sqlite:events.db'; a Redis server has"),
        ("sqlite:nowhere.db", "there is no file '"),
        ("nothing", "a transport's URL must begin with"),
    ],
)
def test_what_can_not_be_backed_up_is_told(transport: str, said: str, copy: Path) -> None:
    """X9: the status is 2, and the line says why."""
    ran = back_up(transport, copy)
    assert ran.status == 2
    assert said in ran.told
    assert left_in(copy.parent) == []


@pytest.mark.parametrize(
    ("statements", "said"),
    [((), "it is empty"), (("CREATE TABLE users (name)",), "of something else, with users")],
)
def test_the_file_of_something_else_is_told(
    url: str, copy: Path, statements: tuple[str, ...], said: str
) -> None:
    """X9: a file that is no transport's is not copied."""
    with closing(sqlite3.connect(url.partition(":")[2])) as database:
        database.execute("PRAGMA journal_mode = WAL")
        for each in statements:
            database.execute(each)
    ran = back_up(url, copy)
    assert (ran.status, said in ran.told, left_in(copy.parent)) == (2, True, [])


def test_a_folder_that_is_not_there_is_told(url: str, copy: Path) -> None:
    """X9: no folder is made, and the message names the file that was asked for."""
    store(url, event("order.placed"))
    ran = back_up(url, file := copy.parent / "no" / "copy.db")
    assert ran.status == 2
    assert ran.told.endswith(f"No such file or directory: {str(file)!r}\n")


async def test_a_copy_that_does_not_fit_leaves_nothing(
    url: str, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X9: where the disk is full there is no half copy."""
    transport = SqliteTransport(url.partition(":")[2])
    connect: Any = sqlite3.connect

    def small(path: str, **options: Any) -> sqlite3.Connection:
        opened: sqlite3.Connection = connect(path, **options)
        if path.endswith(".part"):
            opened.execute("PRAGMA max_page_count = 2")
        return opened

    async with transport.connect() as connection:
        await connection.store(Batch("a", 1, (Record(LARGE),)))
        monkeypatch.setattr(sqlite3, "connect", small)
        with pytest.raises(TransportUnavailable, match="full"):
            await transport.backup(copy)
    assert left_in(copy.parent) == []


@pytest.mark.skipif(sys.platform == "win32", reason="an open file can't be moved there")
async def test_a_file_that_somebody_meddles_with_is_not_copied(
    url: str, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X9: a copy of what nobody else finds is none."""
    transport = SqliteTransport(url.partition(":")[2])
    path = Path(transport.path)

    def move(*_: object) -> None:
        path.rename(path.with_suffix(".old"))

    async with transport.connect():
        pass
    monkeypatch.setattr("anyio.from_thread.check_cancelled", move)
    with pytest.raises(TransportUnusable, match="was deleted, moved or replaced"):
        await transport.backup(copy)
    assert left_in(copy.parent) == []


async def test_a_backup_that_is_cancelled_leaves_nothing(url: str, copy: Path) -> None:
    """X9: neither a copy nor a part of it."""
    transport = SqliteTransport(url.partition(":")[2])
    async with transport.connect() as connection:
        await connection.store(Batch("a", 1, (Record(LARGE),)))
        with anyio.CancelScope() as scope:
            scope.cancel()
            await transport.backup(copy)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(transport.backup, copy)
            while not left_in(copy.parent):
                await checkpoint()
            tasks.cancel_scope.cancel()
    assert left_in(copy.parent) in ([], [copy.name])


async def test_a_copy_whose_task_has_left_is_given_up(
    url: str, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X9: asyncio leaves the thread of a task behind that it cancels; it goes no further."""
    pauses: list[Any] = []

    async def run_sync(_: object, *arguments: object) -> None:
        await checkpoint()
        pauses.append(arguments[-1])

    monkeypatch.setattr("anyio.to_thread.run_sync", run_sync)
    monkeypatch.setattr("anyio.from_thread.check_cancelled", lambda: None)
    await SqliteTransport(url.partition(":")[2]).backup(copy)
    [pause] = pauses
    with pytest.raises(InterruptedError):
        pause()


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent in another way there")
def test_ctrl_c_leaves_no_part_of_a_copy(
    url: str, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L5, X9: the status is 130, and nothing is there, if Ctrl-C comes before it is complete."""
    store(url, *[LARGE] * 2)
    is_left, copying = Event(), list[Thread]()

    def interrupt() -> None:
        copying.append(current_thread())
        signal.pthread_kill(main_thread().ident or 0, signal.SIGINT)
        # The copy goes on only when nobody waits for it any more.
        assert is_left.wait(PATIENCE)

    monkeypatch.setattr("anyio.from_thread.check_cancelled", interrupt)
    monkeypatch.setattr("flexiflow.extras.durable._sqlite.transport.Event", lambda: is_left)
    ran = back_up(url, copy)
    assert (ran.status, ran.output, ran.told) == (130, "", "")
    [thread] = copying
    # It is left behind, and cleans up; at its end, a process waits for it.
    thread.join(PATIENCE)
    assert left_in(copy.parent) == []


@pytest.mark.parametrize("wrong", [None, 1, b"copy.db"])
async def test_a_copys_path_must_be_one(url: str, wrong: Any) -> None:
    """X9: a value that is no path is refused at once."""
    with pytest.raises(TypeError, match=r"file must be a str or a pathlib\.Path, not "):
        await SqliteTransport(url.partition(":")[2]).backup(wrong)


def test_a_file_that_is_in_use_elsewhere_is_backed_up(url: str, copy: Path) -> None:
    """X9: a process of its own copies what another one has not yet put into the file itself."""
    path = url.partition(":")[2]
    store(url, event("order.placed"))

    async def main() -> None:
        async with SqliteTransport(path).connect() as connection:
            await connection.store(Batch("a", 1, (Record(event("order.paid")),)))
            command = [sys.executable, "-m", "flexiflow", "backup", "--transport", url, str(copy)]
            await anyio.run_process(command)

    anyio.run(main)
    assert stored(f"sqlite:{copy}") == ["order.placed", "order.paid"]
    assert os.path.lexists(path)
