"""The store in an SQLite file: when it is open, what shares a commit, what survives (K2)."""

from __future__ import annotations

import gc
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import asynccontextmanager
from threading import Event
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import wait_all_tasks_blocked

from flexiflow import StateConflict
from flexiflow.extras._sqlite import jobs
from flexiflow.extras.stores import SqliteStateStore
from tests.stores.stores import PATIENCE, database_of, run_sql, saved

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

# Saves, and ends as programs do, without closing anything.
SAVE = """
import os, sys, anyio
from flexiflow.extras.stores import SqliteStateStore

store = SqliteStateStore(sys.argv[1])

async def main():
    for name in "abc":
        await store.save(name, "new", {"n": 1}, expected=0)
    if sys.argv[2:]:
        os._exit(0)

anyio.run(main)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file that is not there yet."""
    return tmp_path / "state.db"


@asynccontextmanager
async def held_thread(store: SqliteStateStore) -> AsyncGenerator[Event]:
    """Keep the thread busy with a job, until the event is set; at the end it is."""
    begun, go_on = Event(), Event()

    def hold(_: sqlite3.Connection) -> None:
        begun.set()
        assert go_on.wait(PATIENCE)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store._jobs.read, hold)
        await anyio.to_thread.run_sync(begun.wait)
        try:
            yield go_on
        finally:
            go_on.set()


def is_open(database: sqlite3.Connection) -> bool:
    """Return whether a connection is open."""
    try:
        database.execute("SELECT 1")
    except sqlite3.ProgrammingError:
        return False
    return True


# When it is open.


async def test_the_first_call_opens_the_file(path: Path) -> None:
    """K2: making a store touches no file; the first call opens it."""
    store = SqliteStateStore(str(path))
    assert not path.exists()
    assert await store.load("a") is None
    assert path.exists()
    assert store.path == os.path.realpath(path)


async def test_the_last_exit_closes_it(path: Path) -> None:
    """K2: the last exit closes a store that was entered several times; a call opens it again."""
    store = SqliteStateStore(path)
    async with store as entered:
        assert entered is store
        async with store:
            await saved(store, "a")
        database = database_of(store)
        assert is_open(database)
    assert not is_open(database)
    assert await store.load("a") is not None


async def test_what_was_closed_is_opened_again(path: Path) -> None:
    """K2: `close` may be called at any time, and twice; nothing is lost."""
    store = SqliteStateStore(path)
    store.close()
    await saved(store, "a")
    database = database_of(store)
    store.close()
    store.close()
    assert not is_open(database)
    assert [path.name] == [each.name for each in path.parent.iterdir()]
    assert await store.load("a") is not None


async def test_leaving_what_was_never_used_does_nothing(path: Path) -> None:
    """K2: a block that is left after the store was closed by hand does nothing."""
    store = SqliteStateStore(path)
    async with store:
        store.close()
    assert await store.load("a") is None


async def test_a_store_that_is_freed_is_closed(path: Path) -> None:
    """K2: a store that is freed closes its connection; else Python would complain."""
    store = SqliteStateStore(path)
    await saved(store, "a")
    database = database_of(store)
    del store
    gc.collect()
    assert not is_open(database)


async def test_a_store_that_is_freed_while_it_works_is_closed_after_that(path: Path) -> None:
    """K2: the garbage collector may free it in the very thread that works."""
    store = SqliteStateStore(path)
    await saved(store, "a")
    database, seen = database_of(store), list[bool]()

    def work(_: sqlite3.Connection) -> None:
        # As the store's finalizer does.
        store._jobs.abandon()
        seen.append(is_open(database))

    await store._jobs.write(work)
    assert (seen, is_open(database)) == ([True], False)


@pytest.mark.unmeasured
@pytest.mark.parametrize("how", [(), ("killed",)], ids=["as programs do", "at once"])
def test_what_was_saved_survives_the_process(path: Path, how: tuple[str, ...]) -> None:
    """K3: what was saved survives the process, however it ends; nothing is printed."""
    command = [sys.executable, "-W", "error", "-c", SAVE, str(path), *how]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (ran.stdout, ran.stderr) == ("", "")
    assert path.with_name("state.db-wal").exists() == bool(how)
    assert run_sql(path, "SELECT name, state, data FROM states ORDER BY name") == [
        (name, "new", '{"n":1}') for name in "abc"
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such modes")
async def test_a_new_file_is_its_owners(tmp_path: Path) -> None:
    """K2: what is stored is nobody else's business, unless `mode` says so."""
    for name, mode in (("a", 0o600), ("b", 0o640)):
        async with SqliteStateStore(tmp_path / name, mode=mode):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ({"path": 3}, TypeError, r"path must be a str or a pathlib\.Path, not 3"),
        ({"path": ":memory:"}, ValueError, r"MemoryStateStore\(\) keeps states in memory"),
        ({"path": "a\0"}, ValueError, "path must have no null character"),
        ({"busy_timeout": -1}, ValueError, "busy_timeout must be a finite number of seconds"),
        ({"busy_timeout": float("inf")}, ValueError, "busy_timeout must be a finite number"),
        ({"mode": 0o400}, ValueError, "mode must be permissions from 0o600 to 0o777"),
    ],
)
def test_bad_arguments_are_refused(given: dict[str, Any], kind: type[Exception], said: str) -> None:
    """K2: a wrong argument is refused before there is a file."""
    with pytest.raises(kind, match=said):
        SqliteStateStore(given.pop("path", "state.db"), **given)


# Commits.


async def test_many_saves_share_a_commit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """K2: the saves of many tasks share a commit, which makes them quick."""
    # A transaction that lasts takes no more jobs, so on a slow machine there are more commits.
    monkeypatch.setattr(jobs, "monotonic", lambda: 0.0)
    store, statements = SqliteStateStore(path), list[str]()
    await saved(store, "first")
    async with held_thread(store) as go_on, anyio.create_task_group() as tasks:
        database_of(store).set_trace_callback(statements.append)
        for number in range(50):
            tasks.start_soon(saved, store, f"order-{number}")
        await wait_all_tasks_blocked()
        go_on.set()
    assert statements.count("COMMIT") == 2
    assert len(run_sql(path, "SELECT name FROM states")) == 51


async def test_a_conflict_repeats_nothing(path: Path) -> None:
    """K2: the other saves in the commit of one that conflicts neither fail nor are done again."""
    store, statements, problems = SqliteStateStore(path), list[str](), list[Exception]()
    await saved(store, "a", "b")

    async def refused() -> None:
        with pytest.raises(StateConflict) as info:
            await store.save("b", "paid", None, expected=9)
        problems.append(info.value)

    async with held_thread(store) as go_on, anyio.create_task_group() as tasks:
        tasks.start_soon(refused)
        for name in "cde":
            tasks.start_soon(saved, store, name)
        await wait_all_tasks_blocked()
        database_of(store).set_trace_callback(statements.append)
        go_on.set()
    assert (len(problems), statements.count("ROLLBACK")) == (1, 0)
    assert sum(each.startswith("INSERT INTO states") for each in statements) == 3


async def test_a_history_that_was_not_kept_is_no_gap(path: Path) -> None:
    """K2: former versions are the last ones, as far as they are there."""
    keeping, other = SqliteStateStore(path, history=3), SqliteStateStore(path)
    version = (await saved(keeping, "a"))[0]
    for store in (keeping, keeping, other, keeping):
        version = await store.save("a", "next", None, expected=version)
    assert [each.version for each in await keeping.versions("a")] == [5, 4, 2]
    assert [each.version for each in await other.versions("a")] == [5]
    assert len(run_sql(path, "SELECT version FROM former")) == 2


async def test_a_save_that_is_cancelled_late_is_done(path: Path) -> None:
    """K3: it is not known at first, but for the next call of anybody it is done."""
    store = SqliteStateStore(path)
    await saved(store, "a")
    begun, go_on = Event(), Event()

    def hold(_: sqlite3.Connection) -> None:
        begun.set()
        assert go_on.wait(PATIENCE)

    async with anyio.create_task_group() as tasks:
        async with held_thread(store):
            # In one transaction, once the thread is free; the first one of them leads.
            tasks.start_soon(store._jobs.write, hold)
            await wait_all_tasks_blocked()
            tasks.start_soon(saved, store, "b")
            await wait_all_tasks_blocked()
        await anyio.to_thread.run_sync(begun.wait)
        tasks.cancel_scope.cancel()
        go_on.set()
    assert await store.load("b") is not None


async def test_two_loops_at_the_same_time_share_a_store(path: Path, backend_name: str) -> None:
    """K2: each in a thread of its own; nobody waits for the other's loop."""
    store = SqliteStateStore(path)

    async def save(name: str) -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(saved, store, f"{name}{number}")

    def run(name: str) -> None:
        anyio.run(save, name, backend=backend_name)

    async with anyio.create_task_group() as tasks:
        for name in ("a", "b"):
            tasks.start_soon(anyio.to_thread.run_sync, run, name)
        tasks.start_soon(save, "c")
    assert len(await store.due(0, 99)) == 0
    assert len(run_sql(path, "SELECT name FROM states")) == 60
