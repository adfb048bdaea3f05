"""What the tests of the SQLite transport share: a clock, members, and what is done to a file."""

from __future__ import annotations

import os
import sqlite3
from contextlib import asynccontextmanager, closing
from threading import Event
from typing import TYPE_CHECKING, Any, cast

import anyio
from anyio import wait_all_tasks_blocked

from flexiflow.extras.durable import Batch, Failure, Member, Record, SqliteTransport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from pathlib import Path

    from anyio.abc import TaskGroup

    from flexiflow.extras._sqlite.jobs import JobRunner
    from flexiflow.extras.durable import Connection, Lease

PATIENCE = 60
"""Seconds after which a test that waits has failed."""

NEVER = 3600
"""Seconds that no test waits for."""

FAILURE = Failure("builtins.ValueError", "no such luck", "")


class Clock:
    """The machine's clock, set by a test."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def batch(number: int, *bodies: str, producer: str = "p", key: str | None = None) -> Batch:
    """Make a batch."""
    return Batch(producer, number, tuple(Record(body.encode(), key) for body in bodies))


def worker(consumer: str = "a", group: str = "g", *patterns: str) -> Member:
    """Make a member, whose token is its name's, and whose lease is 10 s."""
    return Member(group, consumer, f"token of {consumer}", patterns or ("*",), 10)


async def leased(connection: Connection, member: Member, partition: int = 0) -> Lease:
    """Join, and lease a partition."""
    await connection.join(member)
    lease = await connection.acquire(member, partition)
    assert lease is not None
    return lease


@asynccontextmanager
async def one_lease(
    path: Path, *bodies: str, **options: Any
) -> AsyncGenerator[tuple[Connection, Lease]]:
    """Open a file, store something, and lease the first log."""
    transport = SqliteTransport(path, poll_interval=NEVER, **options)
    async with transport.connect() as connection:
        if bodies:
            await connection.store(batch(1, *bodies))
        yield connection, await leased(connection, worker())


def positions(given: Any) -> list[str]:
    """Give the positions of what was given."""
    return [each.position for each in given]


def run_sql(path: Path, *statements: str) -> list[Any]:
    """Do something to a file behind the transport's back; give the rows of the last statement."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        rows: list[Any] = []
        for statement in statements:
            rows = connection.execute(statement).fetchall()
        return rows


def real_path(path: Path) -> str:
    """Return the path that messages show, without symbolic links."""
    return os.path.realpath(path)


def runner_of(connection: Connection) -> JobRunner:
    """Give what a connection does its jobs with."""
    runner: JobRunner = cast("Any", connection).jobs
    return runner


@asynccontextmanager
async def traced(connection: Connection) -> AsyncGenerator[list[list[str]]]:
    """Give the statements of the transactions that write, of those done in the block."""
    transactions: list[list[str]] = []

    def note(statement: str) -> None:
        if statement == "BEGIN IMMEDIATE":
            transactions.append([])
        elif transactions:
            transactions[-1].append(statement)

    await runner_of(connection).read(lambda db: db.set_trace_callback(note))
    yield transactions
    await runner_of(connection).read(lambda db: db.set_trace_callback(None))


@asynccontextmanager
async def held_thread(connection: Connection) -> AsyncGenerator[Event]:
    """Keep the thread busy with a job, until the event is set; at the end it is."""
    begun, go_on = Event(), Event()

    def hold(_: sqlite3.Connection) -> None:
        begun.set()
        assert go_on.wait(PATIENCE)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(runner_of(connection).read, hold)
        await anyio.to_thread.run_sync(begun.wait)
        try:
            yield go_on
        finally:
            go_on.set()


async def start_waiting(
    tasks: TaskGroup, results: list[Any], call: Callable[[], Awaitable[object]]
) -> None:
    """Start a call that waits, and put its result in a list."""

    async def run() -> None:
        results.append(await call())

    tasks.start_soon(run)
    await wait_all_tasks_blocked()


def namesake_of(member: Member) -> Member:
    """Make another member of that name."""
    return Member(member.group, member.consumer, "another", member.patterns, member.lease)
