"""Files that can't be used, and what is done to one that is open (K2, X9)."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flexiflow.extras.durable import SqliteTransport, TransportUnusable
from flexiflow.extras.stores import SqliteStateStore, StoreUnavailable, StoreUnusable
from tests.stores.stores import PATIENCE, database_of, run_sql, saved

if TYPE_CHECKING:
    from collections.abc import Callable

no_windows = pytest.mark.skipif(
    sys.platform == "win32", reason="open files can't be meddled with there"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file that is not there yet, in a folder of its own."""
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder / "state.db"


def text(path: Path) -> None:
    """Write a text."""
    path.write_text("no database " * 100, encoding="utf-8")


def database(path: Path) -> None:
    """Make the database of another program."""
    run_sql(path, "CREATE TABLE songs (title)", "INSERT INTO songs VALUES ('La Paloma')")


def marked(path: Path) -> None:
    """Make an empty database of another program."""
    run_sql(path, "PRAGMA application_id = 7")


def newer(path: Path) -> None:
    """Make what a newer release makes."""
    run_sql(path, "CREATE TABLE states (a)", f"PRAGMA application_id = {0x466C7853}")
    run_sql(path, "PRAGMA user_version = 2")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (text, "file is not a database"),
        (database, "it is the database of something else, with songs; a file of its own would be"),
        (marked, "it is the database of something else"),
        (newer, "its layout is version 2, and this release knows version 1; a newer release"),
        (Path.mkdir, "unable to open database file"),
    ],
)
async def test_what_others_wrote_is_left_alone(
    path: Path, make: Callable[[Path], None], said: str
) -> None:
    """K2: the message says what was found, and nothing is written."""
    make(path)
    before = path.read_bytes() if path.is_file() else None
    store = SqliteStateStore(path)
    for _ in range(2):
        with pytest.raises(StoreUnusable, match=said):
            await saved(store, "a")
    with pytest.raises(StoreUnusable, match=said):
        async with store:
            raise AssertionError
    assert before == (path.read_bytes() if path.is_file() else None)


async def test_a_transport_and_a_store_have_a_file_each(path: Path) -> None:
    """K2: neither takes the other's for its own."""
    transport = SqliteTransport(path)
    async with transport.connect():
        pass
    with pytest.raises(
        StoreUnusable,
        match=r"\.db can't be used: .*it is the file of an SqliteTransport; a file of its",
    ):
        await saved(SqliteStateStore(path), "a")
    path.unlink()
    await saved(SqliteStateStore(path), "a")
    with pytest.raises(
        TransportUnusable,
        match=r"\.db can't be used: .*it is the database of something else, with f",
    ):
        async with transport.connect():
            raise AssertionError


async def test_what_others_wrote_into_a_row_is_told(path: Path) -> None:
    """K2: it is not taken for what was saved, and others are loaded all the same."""
    store = SqliteStateStore(path)
    await saved(store, "a", "b")
    run_sql(path, "UPDATE states SET data = '[1]' WHERE name = 'a'")
    for call in (store.load, store.versions):
        with pytest.raises(
            StoreUnusable,
            match=r"\.db can't be used: .*data stored of component 'a' is not what a store",
        ):
            await call("a")
    assert await store.load("b") is not None


async def test_an_empty_file_is_taken(path: Path) -> None:
    """K2: an empty file becomes a store, as it becomes a database for SQLite."""
    path.touch()
    await saved(SqliteStateStore(path), "a")


async def test_once_there_is_a_folder_the_store_goes_on(path: Path) -> None:
    """K2: once the missing folder is there, the same store works."""
    store = SqliteStateStore(path)
    path.parent.rmdir()
    with pytest.raises(StoreUnusable, match=r"\.db can't be used: .*unable to open database file"):
        await saved(store, "a")
    path.parent.mkdir()
    assert await saved(store, "a") == [1]


async def test_once_a_lock_is_gone_the_store_goes_on(path: Path) -> None:
    """K2: locked for longer than `busy_timeout`, also while it is opened; nothing is changed."""
    await saved(SqliteStateStore(path), "a")
    store = SqliteStateStore(path, busy_timeout=0)
    for name in "bc":
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(
                StoreUnavailable, match=r"\.db is not available: .*database is locked"
            ):
                await saved(store, name)
        assert await store.load(name) is None
        await saved(store, name)


async def test_once_there_is_room_the_store_goes_on(path: Path) -> None:
    """K2: on a full disk nothing is changed, and what is smaller is saved."""
    store = SqliteStateStore(path)
    [version] = await saved(store, "a")
    database_of(store).execute("PRAGMA max_page_count = 1")
    large = {"text": "x" * 100_000}
    with pytest.raises(StoreUnavailable, match=r"state\.db is not available: .* full"):
        await store.save("a", "paid", large, expected=version)
    found = await store.load("a")
    assert found is not None
    assert (found.version, found.state) == (version, "new")
    database_of(store).execute("PRAGMA max_page_count = 1000000")
    assert await store.save("a", "paid", large, expected=version) == version + 1


async def test_once_a_file_can_be_written_the_store_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K2: a store that can only be read is of no use."""
    path.touch()
    connect: Any = sqlite3.connect

    def read_only(path: str, **options: Any) -> sqlite3.Connection:
        opened: sqlite3.Connection = connect(path.replace("=rw", "=ro"), **options)
        return opened

    store = SqliteStateStore(path)
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", read_only)
        with pytest.raises(
            StoreUnusable, match=r"\.db can't be used: .*attempt to write a readonly database"
        ):
            await saved(store, "a")
    await saved(store, "a")


@no_windows
async def test_a_link_that_leads_nowhere_is_not_followed(path: Path) -> None:
    """X9: it may lead anywhere."""
    path.symlink_to(path.with_name("elsewhere.db"))
    store = SqliteStateStore(path)
    with pytest.raises(
        StoreUnusable, match=r"\.db can't be used: .*a symbolic link is there that leads nowhere"
    ):
        await saved(store, "a")
    assert not path.exists()
    path.unlink()
    await saved(store, "a")


def remove(path: Path) -> None:
    """Remove a file."""
    path.unlink()


def replace(path: Path) -> None:
    """Put another file in the place of one."""
    path.rename(path.with_suffix(".old"))
    path.touch()


def remove_log(path: Path) -> None:
    """Remove what SQLite keeps beside it."""
    path.with_name("state.db-wal").unlink()


def copy(path: Path) -> None:
    """Copy a file by hand."""
    shutil.copy(path, path.with_suffix(".copy"))


@no_windows
@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (remove, "the file was deleted, moved or replaced while it was open"),
        (replace, "the file was deleted, moved or replaced while it was open"),
        (remove_log, "deleted, moved or replaced while it was open"),
        pytest.param(
            copy,
            "by other means while it was open",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows locks"),
        ),
    ],
)
async def test_nothing_is_confirmed_once_somebody_has_meddled(
    path: Path, harm: Callable[[Path], None], said: str
) -> None:
    """X9: until the store is closed; then it takes what is there."""
    store = SqliteStateStore(path)
    await saved(store, "a")
    harm(path)
    for name in "bc":
        with pytest.raises(StoreUnusable, match=said):
            await saved(store, name)
    with pytest.raises(StoreUnusable, match=said):
        await store.load("a")
    store.close()
    await saved(store, "d")
    assert (await store.load("a") is None) == (harm in {remove, replace})


# Forks.

FORK = """
import json, os, sys, anyio
from flexiflow.extras.stores import SqliteStateStore

opened, other = (SqliteStateStore(each) for each in sys.argv[1:3])

async def save(store, name):
    try:
        return await store.save(name, "new", None, expected=0)
    except Exception as problem:
        return str(problem)

anyio.run(save, opened, "before")
reading, writing = os.pipe()
if os.fork() == 0:
    told = [anyio.run(save, each, "in the child") for each in (opened, other)]
    # Neither does it wait to be closed.
    opened.close()
    other.close()
    os.write(writing, json.dumps(told).encode())
    sys.exit()
os.wait()
told = [anyio.run(save, each, "in the parent") for each in (opened, other)]
print(json.dumps([json.loads(os.read(reading, 9999)), told]))
"""


@pytest.mark.unmeasured
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_child_uses_what_was_not_open(tmp_path: Path) -> None:
    """X9: what was open is the parent's, which goes on; what was not may be used by both."""
    files = [str(tmp_path / name) for name in ("opened.db", "other.db")]
    command = [sys.executable, "-W", "ignore", "-c", FORK, *files]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    (refused, own), told = json.loads(ran.stdout)
    assert "can't be used: this process was forked from the one that opened it" in refused
    assert (own, told) == (1, [1, 1])
    assert run_sql(files[0], "SELECT name FROM states") == [("before",), ("in the parent",)]


async def test_a_child_forgets_what_the_parent_has_queued(path: Path) -> None:
    """X9: the parent does it."""
    store = SqliteStateStore(path)
    runner = store._jobs
    runner._waiting.append(object())  # type: ignore[arg-type]
    runner.pause()
    runner.start_over()
    await saved(store, "a")
    assert run_sql(path, "SELECT name FROM states") == [("a",)]
