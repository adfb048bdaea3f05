"""Storing by tasks through a bridge, against batches stored by the bare engine."""

from __future__ import annotations

import json
import sqlite3
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import anyio
from anyio import CapacityLimiter, create_task_group, to_thread

from benchmarks.durable_parts import BODY, TASKS, Desk, both, by_tasks, pipeline, redis
from benchmarks.handlers import EVENT, ORDER
from benchmarks.measuring import Measure
from flexiflow import EventBus
from flexiflow.extras.durable import SqliteTransport, open_bridge

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

    from benchmarks.durable_parts import Server
    from benchmarks.measuring import Effort, Round
    from benchmarks.timing import Side
    from flexiflow.extras.durable import Transport

_PIPELINES: Final = (TASKS, 500)
"""Commands that go out at once: one for each task, and as many as a pipeline takes at most."""


def _ready() -> bytes:
    return BODY


def _written() -> bytes:
    return json.dumps({"id": uuid4().hex, "type": EVENT, "data": ORDER}).encode()


_THREADS: Final = {"bytes that are there": _ready, "events that they write as JSON": _written}
"""The events that a bare thread's tasks store, and how they make them."""


def measures(backend: str) -> Iterator[Measure]:
    """Yield the measures of this module."""
    for bare, write in _THREADS.items():
        yield Measure(
            figure=f"an event stored in SQLite through a bridge, {TASKS} tasks",
            against=f"{TASKS} tasks on a bare thread that commits {bare}",
            backend=backend,
            at_most=1.43,
            run=partial(_in_sqlite, backend, write),
        )
    for size in _PIPELINES:
        yield Measure(
            figure=f"an event stored in Redis through a bridge, {TASKS} tasks",
            against=f"bare XADD in pipelines of {size}",
            backend=backend,
            at_most=1,
            run=partial(_in_redis, backend, size),
        )


def _in_sqlite(backend: str, write: Callable[[], bytes], effort: Effort) -> list[Round]:
    with TemporaryDirectory() as folder:
        ours = _bridge(SqliteTransport(Path(folder, "ours.db")))
        theirs = _thread(Path(folder, "theirs.db"), write)
        return anyio.run(both, effort, ours, theirs, backend=backend)


def _in_redis(backend: str, size: int, effort: Effort) -> list[Round]:
    with redis() as server:
        ours, theirs = _bridge(server.transport()), _pipelines(server, size)
        return anyio.run(both, effort, ours, theirs, backend=backend)


@asynccontextmanager
async def _bridge(transport: Transport) -> AsyncGenerator[Side]:
    bus = EventBus()
    async with open_bridge(bus, transport, outgoing=[EVENT]):
        yield by_tasks(partial(bus.publish, EVENT, ORDER))


@asynccontextmanager
async def _thread(path: Path, write: Callable[[], bytes]) -> AsyncGenerator[Side]:
    limiter = CapacityLimiter(1)
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

        async with create_task_group() as tasks:
            desk = Desk(write, commit)
            tasks.start_soon(desk.run)
            yield by_tasks(desk.store)
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def _pipelines(server: Server, size: int) -> AsyncGenerator[Side]:
    async with server.client() as client:

        async def store(calls: int) -> None:
            for begin in range(0, calls, size):
                await pipeline(client, min(size, calls - begin))

        yield store
