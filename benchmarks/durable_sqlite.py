"""Durable delivery in a file: against a bare thread that commits what has come up meanwhile."""

from __future__ import annotations

import sqlite3
from contextlib import asynccontextmanager, closing
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Final, TypeAlias

import anyio
from anyio import CapacityLimiter, create_task_group, to_thread

from benchmarks.measuring import Measure
from benchmarks.timing import alternate, calibrated
from flexiflow.extras.durable import Batch, Record, SqliteTransport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence

    from benchmarks.measuring import Effort, Round, Run
    from benchmarks.timing import Side

    Commit: TypeAlias = Callable[[Sequence[bytes]], Awaitable[object]]

_TASKS: Final = 100
_MOST: Final = 500

# A round has to write to the disk many times.
_LONGER: Final = 25

_BODY: Final = (
    b'{"specversion":"1.0","id":"0123456789abcdef","source":"shop","type":"order.placed",'
    b'"time":"2026-01-01T00:00:00Z","datacontenttype":"application/json","data":{"order":4711}}'
)


def measures(backend: str) -> Iterator[Measure]:
    """Give the measures of this module."""
    yield Measure(
        figure=f"an event stored in SQLite, {_TASKS} tasks",
        against="a bare thread that commits batches",
        backend=backend,
        at_most=1 / 0.7,
        run=_run(backend),
    )


def _run(backend: str) -> Run:
    async def main(effort: Effort) -> list[Round]:
        with TemporaryDirectory() as folder:
            async with _transport(Path(folder)) as commit, _thread(Path(folder)) as bare:
                seconds = effort.seconds * _LONGER
                # Most of the time is the disk's, not the processor's.
                ours = await calibrated(_tasks(commit), seconds, perf_counter)
                theirs = await calibrated(_tasks(bare), seconds, perf_counter)
                return await alternate(effort.heavy_rounds, ours, theirs)

    return lambda effort: anyio.run(main, effort, backend=backend)


@asynccontextmanager
async def _transport(folder: Path) -> AsyncGenerator[Commit]:
    numbers = count(1)
    async with SqliteTransport(folder / "ours.db").connect() as connection:

        async def commit(bodies: Sequence[bytes]) -> None:
            records = tuple([Record(body) for body in bodies])
            await connection.store(Batch("producer", next(numbers), records))

        yield commit


@asynccontextmanager
async def _thread(folder: Path) -> AsyncGenerator[Commit]:
    path, limiter = folder / "theirs.db", CapacityLimiter(1)
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as bare:
        bare.execute("PRAGMA journal_mode = WAL")
        bare.execute("PRAGMA synchronous = FULL")
        bare.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, body BLOB)")

        def insert(bodies: Sequence[bytes]) -> None:
            bare.execute("BEGIN IMMEDIATE")
            rows = [(body,) for body in bodies]
            bare.executemany("INSERT INTO events (body) VALUES (?)", rows)
            bare.execute("COMMIT")

        async def commit(bodies: Sequence[bytes]) -> None:
            await to_thread.run_sync(insert, bodies, limiter=limiter)

        yield commit


def _tasks(commit: Commit) -> Side:
    """Let tasks store so many events, each waiting for its own, all that wait in one batch."""

    async def side(calls: int) -> None:
        left = iter(range(calls))
        waiting: list[tuple[bytes, anyio.Event]] = []
        came = anyio.Event()

        async def publish() -> None:
            for _ in left:
                done = anyio.Event()
                waiting.append((_BODY, done))
                came.set()
                await done.wait()

        async def store() -> None:
            nonlocal came, waiting
            while True:
                await came.wait()
                came, some, waiting = anyio.Event(), waiting[:_MOST], waiting[_MOST:]
                await commit([body for body, _ in some])
                for _, done in some:
                    done.set()

        async with create_task_group() as tasks:
            tasks.start_soon(store)
            async with create_task_group() as publishers:
                for _ in range(_TASKS):
                    publishers.start_soon(publish)
            tasks.cancel_scope.cancel()

    return side
