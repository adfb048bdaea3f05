"""Saving the states of components by many tasks, against the bare engine."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import anyio

from benchmarks import bare_sqlite
from benchmarks.durable_parts import TASKS, Desk, both, by_tasks, redis
from benchmarks.handlers import ORDER
from benchmarks.measuring import Measure
from flexiflow.extras.stores import RedisStateStore, SqliteStateStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
    from typing import TypeAlias

    from benchmarks.durable_parts import Opened, Server
    from benchmarks.measuring import Effort, Round
    from benchmarks.timing import Side
    from flexiflow.extras.stores import StateStore

    _Fields: TypeAlias = dict[str, str | int]

    Saving: TypeAlias = Callable[[RedisStateStore | SqliteStateStore], Opened]
    """Opens a store, and makes the side whose tasks save in it."""

_STATE: Final = "paid"


def measures(backend: str) -> Iterator[Measure]:
    """Yield the measures of this module."""
    yield from measures_of_saving(backend, "a state saved", _saving, at_most_in_sqlite=1.43)


def measures_of_saving(
    backend: str, what: str, saving: Saving, *, at_most_in_sqlite: float
) -> Iterator[Measure]:
    """Yield the measures of something that saves states, in each kind of store.

    Args:
        backend: the backend on which it runs.
        what: what is done once in a call, for the figure's name.
        saving: makes the side that does it.
        at_most_in_sqlite: the target in SQLite.
    """
    yield Measure(
        figure=f"{what} in SQLite, {TASKS} tasks",
        against=f"{TASKS} tasks on a bare thread that commits bytes that are there",
        backend=backend,
        at_most=at_most_in_sqlite,
        run=partial(_in_sqlite, backend, saving),
    )
    for against, pipelines in _PIPELINES.items():
        yield Measure(
            figure=f"{what} in Redis, {TASKS} tasks",
            against=against,
            backend=backend,
            at_most=1.25,
            run=partial(_in_redis, backend, saving, pipelines),
        )


def _in_sqlite(backend: str, saving: Saving, effort: Effort) -> list[Round]:
    with TemporaryDirectory() as folder:
        ours = saving(SqliteStateStore(Path(folder, "ours.db")))
        theirs = bare_sqlite.storing(Path(folder, "theirs.db"), bare_sqlite.ready)
        return anyio.run(both, effort, ours, theirs, backend=backend)


def _in_redis(
    backend: str, saving: Saving, pipelines: Callable[[Server], Opened], effort: Effort
) -> list[Round]:
    with redis() as server:
        ours, theirs = saving(RedisStateStore(server.url)), pipelines(server)
        return anyio.run(both, effort, ours, theirs, backend=backend)


@asynccontextmanager
async def _saving(store: RedisStateStore | SqliteStateStore) -> AsyncGenerator[Side]:
    async with store:
        free = [_Component(store, f"order-{number}") for number in range(TASKS)]

        async def save() -> None:
            # A component belongs to one task at a time.
            component = free.pop()
            await component.save()
            free.append(component)

        yield by_tasks(save)


class _Component:
    """A component that saves its state again and again."""

    def __init__(self, store: StateStore, name: str) -> None:
        self._store = store
        self._name = name
        self._version = 0

    async def save(self) -> None:
        """Save the state as the next version."""
        self._version = await self._store.save(self._name, _STATE, ORDER, expected=self._version)


class _Bare:
    """Writes a hash for each state, with a client of coredis, and compares nothing."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._numbers = count()

    def written(self) -> tuple[str, _Fields]:
        """Return the next key and its fields."""
        number, data = next(self._numbers), json.dumps(ORDER)
        fields: _Fields = {"version": number, "state": _STATE, "data": data, "due": ""}
        return f"bare-{number % TASKS}", fields

    async def commit(self, items: Iterable[tuple[str, _Fields]]) -> None:
        """Write some in one pipeline."""
        async with self._client.pipeline(transaction=False) as commands:
            for name, fields in items:
                commands.hset(name, fields)

    async def write(self, number: int) -> None:
        """Write so many in pipelines, without any other task."""
        for begin in range(0, number, TASKS):
            await self.commit(self.written() for _ in range(min(TASKS, number - begin)))


@asynccontextmanager
async def _by_tasks(server: Server) -> AsyncGenerator[Side]:
    async with server.client() as client, anyio.create_task_group() as tasks:
        bare = _Bare(client)
        desk = Desk(bare.written, bare.commit)
        tasks.start_soon(desk.run)
        yield by_tasks(desk.store)
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def _by_one(server: Server) -> AsyncGenerator[Side]:
    async with server.client() as client:
        yield _Bare(client).write


_PIPELINES: Final[dict[str, Callable[[Server], Opened]]] = {
    f"{TASKS} tasks that share bare pipelines of HSET": _by_tasks,
    f"bare pipelines of {TASKS} HSET": _by_one,
}
"""The bare sides, and how each is opened."""
