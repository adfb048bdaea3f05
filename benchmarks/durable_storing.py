"""Storing by tasks through a bridge, against batches stored by the bare engine."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import anyio

from benchmarks import bare_sqlite
from benchmarks.durable_parts import TASKS, both, by_tasks, pipeline, redis
from benchmarks.handlers import EVENT, ORDER
from benchmarks.measuring import Measure
from flexiflow import EventBus
from flexiflow.extras.durable import SqliteTransport, open_bridge

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from benchmarks.durable_parts import Server
    from benchmarks.measuring import Effort, Round
    from benchmarks.timing import Side
    from flexiflow.extras.durable import Transport

_PIPELINES: Final = (TASKS, 500)
"""Commands that go out at once: one for each task, and as many as a pipeline takes at most."""


def _written() -> bytes:
    return json.dumps({"id": uuid4().hex, "type": EVENT, "data": ORDER}).encode()


_THREADS: Final = {
    "bytes that are there": (bare_sqlite.ready, 1.43),
    "events that they write as JSON": (_written, 1.15),
}
"""The events that a bare thread's tasks store, how they make them, and the target against that."""


def measures(backend: str) -> Iterator[Measure]:
    """Yield the measures of this module."""
    for bare, (write, at_most) in _THREADS.items():
        yield Measure(
            figure=f"an event stored in SQLite through a bridge, {TASKS} tasks",
            against=f"{TASKS} tasks on a bare thread that commits {bare}",
            backend=backend,
            at_most=at_most,
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
        theirs = bare_sqlite.storing(Path(folder, "theirs.db"), write)
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
async def _pipelines(server: Server, size: int) -> AsyncGenerator[Side]:
    async with server.client() as client:

        async def store(calls: int) -> None:
            for begin in range(0, calls, size):
                await pipeline(client, min(size, calls - begin))

        yield store
