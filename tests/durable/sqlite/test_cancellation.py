"""Calls of the SQLite transport that are cancelled, and several that are done in one go."""

import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from flexiflow.extras._sqlite import jobs as jobs_module
from flexiflow.extras._sqlite import opened as opened_module
from flexiflow.extras._sqlite.layout import Layout
from flexiflow.extras._sqlite.opening import open_database
from flexiflow.extras.durable import (
    Batch,
    ConsumerInUse,
    Record,
    Room,
    SqliteTransport,
    TransportUnavailable,
)
from flexiflow.extras.durable._sqlite.groups import groups
from tests.durable.sqlite.files import (
    NEVER,
    PATIENCE,
    batch,
    held_thread,
    leased,
    namesake_of,
    one_lease,
    positions,
    runner_of,
    start_waiting,
    traced,
    worker,
)

pytestmark = pytest.mark.same_everywhere


async def test_cancelled_before_it_began_nothing_is_stored(path: Path) -> None:
    """X1: a store that waits for its turn is withdrawn."""
    async with SqliteTransport(path).connect() as connection:
        async with held_thread(connection), anyio.create_task_group() as tasks:
            tasks.start_soon(connection.store, batch(1, "a"))
            await wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        assert await connection.tail(["0"], 10, 0) == ([], ["0"])


async def test_a_task_that_is_cancelled_as_its_turn_comes_takes_nobody_along(path: Path) -> None:
    """X1: what waits with one that is cancelled just before the thread begins is stored."""
    async with SqliteTransport(path).connect() as connection:
        cancelled = anyio.CancelScope()

        async def withdraw() -> None:
            with cancelled:
                await connection.store(Batch("another", 1, (Record(b"z"),)))

        async with anyio.create_task_group() as tasks:
            # As if a task led the others.
            line = runner_of(connection)._lines.here()
            line.is_led = True
            tasks.start_soon(withdraw)
            await wait_all_tasks_blocked()
            tasks.start_soon(connection.store, batch(1, "a"))
            await wait_all_tasks_blocked()
            line.is_led = False
            line.ended.set()
            line.ended = anyio.Event()
            cancelled.cancel()
        found, _ = await connection.tail(["0"], 10, 0)
        assert [each.body for each in found] == [b"a"]


async def test_what_a_cancelled_call_would_have_got_the_next_one_gets(path: Path) -> None:
    """X1: what was given for a call that has left is given by the next, in order."""
    async with one_lease(path, "a", "b", "c") as (connection, lease):
        begun, go_on = Event(), Event()

        def hold(_: sqlite3.Connection) -> None:
            begun.set()
            assert go_on.wait(PATIENCE)

        runner = runner_of(connection)
        async with anyio.create_task_group() as tasks:
            async with held_thread(connection):
                # In one transaction, once the thread is free; the first one of them leads.
                tasks.start_soon(runner.read, hold)
                await wait_all_tasks_blocked()
                tasks.start_soon(_given, lease, 2)
                await wait_all_tasks_blocked()
            await anyio.to_thread.run_sync(begun.wait)
            tasks.cancel_scope.cancel()
            go_on.set()
        given = [
            await lease.receive(Room(1)),
            await lease.receive(Room(9)),
            await lease.receive(Room(9)),
        ]
        assert [positions(each) for each in given] == [["1"], ["2"], ["3"]]


async def test_what_nobody_took_is_no_suspect_once_its_lease_has_ended(path: Path) -> None:
    """X3: no attempt has begun; but what another worker died of stays suspect."""
    async with one_lease(path, "a", "b") as (connection, lease):
        dead = await leased(connection, worker("b"))
        await dead.receive(Room(1))
        await dead.release()
        await _given(lease, 2)
        await lease.release()
        other = await leased(connection, worker("c"))
        given = await other.receive(Room(9))
        assert [(each.body, each.deliveries, each.is_suspect) for each in given] == [
            (b"a", 1, True),
            (b"b", 1, False),
        ]


async def _given(lease: Any, limit: int) -> None:
    """Do the second half of what `receive` does."""
    await lease._give(Room(limit))


async def test_leaving_waits_for_what_is_being_done(path: Path) -> None:
    """X1: a batch that is being stored when all is cancelled is stored, or not at all."""
    with anyio.CancelScope() as scope:
        async with (
            SqliteTransport(path).connect() as connection,
            held_thread(connection) as go_on,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(connection.store, batch(1, "a"))
            await wait_all_tasks_blocked()
            scope.cancel()
            go_on.set()
    async with SqliteTransport(path).connect() as connection:
        assert await connection.tail(["0"], 10, 0) == ([], ["0"])


async def test_cancelled_while_opening_it_is_closed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X1: no connection is left behind, however opening ends."""
    opened: list[sqlite3.Connection] = []
    begun, go_on = Event(), Event()

    def slow(layout: Layout) -> sqlite3.Connection:
        begun.set()
        assert go_on.wait(PATIENCE)
        opened.append(open_database(layout))
        return opened[0]

    monkeypatch.setattr(opened_module, "open_database", slow)

    async def connect() -> None:
        async with SqliteTransport(path).connect():
            await checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(connect)
        await anyio.to_thread.run_sync(begun.wait)
        tasks.cancel_scope.cancel()
        go_on.set()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened[0].execute("SELECT 1")


async def test_a_task_that_asyncio_cancels_leaves_no_thread_on_the_connection(
    path: Path, backend_name: str
) -> None:
    """X1: the next job waits for the thread that a cancelled task has left."""
    if backend_name != "asyncio":
        pytest.skip("only asyncio cancels a task through a shield")
    import asyncio  # noqa: PLC0415

    async with SqliteTransport(path).connect() as connection:
        begun, go_on = Event(), Event()

        def hold(db: sqlite3.Connection) -> None:
            begun.set()
            assert go_on.wait(PATIENCE)
            db.execute("INSERT INTO groups (name) VALUES ('held')")

        runner = runner_of(connection)
        task = asyncio.create_task(runner.write(hold))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        await asyncio.wait([task])
        after = asyncio.create_task(runner.read(groups))
        await wait_all_tasks_blocked()
        go_on.set()
        assert (task.cancelled(), await after) == (True, ["held"])


# Several jobs at once.


async def test_one_job_that_fails_does_not_hinder_the_others(path: Path) -> None:
    """X6: jobs that share a transaction fail and succeed on their own."""
    async with one_lease(path, "a") as (connection, lease):
        results: list[Any] = []

        async def lose() -> None:
            with pytest.raises(ConsumerInUse):
                await connection.join(namesake_of(worker()))
            results.append("refused")

        async with held_thread(connection) as go_on, anyio.create_task_group() as tasks:
            tasks.start_soon(lose)
            tasks.start_soon(connection.store, batch(2, "b"))
            await wait_all_tasks_blocked()
            go_on.set()
        assert (results, positions(await lease.receive(Room(9)))) == (["refused"], ["1", "2"])


@pytest.mark.parametrize(("pace", "commits"), [(0.01, 1), (0.02, 2), (1, 4)])
async def test_a_transaction_that_lasts_takes_no_more_jobs(
    path: Path, monkeypatch: pytest.MonkeyPatch, pace: float, commits: int
) -> None:
    """X9: so that other processes, which wait for the file, can write in between."""
    async with SqliteTransport(path).connect() as connection:
        await connection.store(batch(1, "a"))
        ticks = count()
        monkeypatch.setattr(jobs_module, "monotonic", lambda: next(ticks) * pace)
        async with (
            traced(connection) as transactions,
            held_thread(connection) as go_on,
            anyio.create_task_group() as tasks,
        ):
            for each in "bcde":
                tasks.start_soon(connection.store, batch(1, each, producer=each))
            await wait_all_tasks_blocked()
            go_on.set()
        assert len(transactions) == commits
        assert len((await connection.tail(["0"], 10, 0))[0]) == 5


async def test_jobs_that_fail_together_have_an_exception_each(path: Path) -> None:
    """X6: a task that raises one adds its own traceback and context to it."""
    problems: list[Exception] = []
    async with SqliteTransport(path, busy_timeout=0).connect() as connection:

        async def store(number: int) -> None:
            with pytest.raises(
                TransportUnavailable, match=r"\.db is not available: .*database is locked"
            ) as info:
                await connection.store(batch(number, "a"))
            problems.append(info.value)

        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with held_thread(connection) as go_on, anyio.create_task_group() as tasks:
                tasks.start_soon(store, 1)
                tasks.start_soon(store, 2)
                await wait_all_tasks_blocked()
                go_on.set()
        first, second = problems
        assert first is not second


async def test_a_receive_that_was_cancelled_before_it_looked_hides_nothing(path: Path) -> None:
    """X1: what came before it is not slept through."""
    async with SqliteTransport(path, poll_interval=NEVER).connect() as connection:
        lease = await leased(connection, worker())
        assert not await lease.receive(Room(1))
        await connection.store(batch(1, "a"))
        with anyio.CancelScope() as scope:
            scope.cancel()
            await lease.receive(Room(1))
        with anyio.fail_after(PATIENCE):
            await lease.wait(NEVER)
        assert len(await lease.receive(Room(1))) == 1


async def test_what_a_cancelled_receive_is_given_late_fits_the_next_room(path: Path) -> None:
    """X14: a call returns no more than it has room for, also after one with more room."""
    begun, go_on = Event(), Event()

    def hold(_: sqlite3.Connection) -> None:
        begun.set()
        go_on.wait(PATIENCE)

    async with one_lease(path, "a", "b") as (connection, lease):
        runner = runner_of(connection)
        given: list[Any] = []
        scope = anyio.CancelScope()

        async def receive() -> None:
            with scope:
                await lease.receive(Room(1))

        async with anyio.create_task_group() as tasks:
            async with held_thread(connection):
                # Both are done in one batch, by the first of them.
                tasks.start_soon(runner.write, hold)
                await wait_all_tasks_blocked()
                tasks.start_soon(receive)
                await wait_all_tasks_blocked()
            await anyio.to_thread.run_sync(begun.wait, PATIENCE)
            scope.cancel()
            await wait_all_tasks_blocked()
            await start_waiting(tasks, given, lambda: lease.receive(Room(1)))
            go_on.set()
        assert [len(each) for each in given] == [1]
