"""Saving the states of components by many tasks, against the bare engine."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import anyio

from benchmarks.durable_parts import TASKS, Desk, both, by_tasks, redis
from benchmarks.handlers import ORDER
from benchmarks.measuring import Measure
from flexiflow.extras.stores import RedisStateStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator

    from benchmarks.durable_parts import Opened, Server
    from benchmarks.measuring import Effort, Round
    from benchmarks.timing import Side
    from flexiflow.extras.stores import StateStore

_STATE: Final = "paid"


def measures(backend: str) -> Iterator[Measure]:
    """Yield the measures of this module."""
    for against, pipelines in PIPELINES.items():
        yield Measure(
            figure=f"a state saved in Redis, {TASKS} tasks",
            against=against,
            backend=backend,
            at_most=1.25,
            run=partial(_in_redis, backend, pipelines),
        )


def _in_redis(backend: str, pipelines: Callable[[Server], Opened], effort: Effort) -> list[Round]:
    with redis() as server:
        ours, theirs = _store(RedisStateStore(server.url)), pipelines(server)
        return anyio.run(both, effort, ours, theirs, backend=backend)


@asynccontextmanager
async def _store(store: RedisStateStore) -> AsyncGenerator[Side]:
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

    def written(self) -> tuple[str, dict[str, str | int]]:
        """Return the next key and its fields."""
        number = next(self._numbers)
        data = json.dumps(ORDER)
        return f"bare-{number % TASKS}", {
            "version": number, "state": _STATE, "data": data, "due": "",
        }  # fmt: skip

    async def commit(self, items: Iterable[tuple[str, dict[str, str | int]]]) -> None:
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


PIPELINES: Final[dict[str, Callable[[Server], Opened]]] = {
    f"{TASKS} tasks that share bare pipelines of HSET": _by_tasks,
    f"bare pipelines of {TASKS} HSET": _by_one,
}
"""The bare sides, and how each is opened."""
