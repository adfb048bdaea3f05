"""A bare connection to SQLite, whose thread does together what many tasks ask for."""

from __future__ import annotations

import json
import sqlite3
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, TypeVar

from anyio import CapacityLimiter, create_task_group, to_thread

from benchmarks.durable_parts import BODY, Desk, by_tasks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
    from pathlib import Path

    from benchmarks.timing import Side

_Item = TypeVar("_Item")


def ready() -> bytes:
    """Return bytes that are there."""
    return BODY


@asynccontextmanager
async def storing(path: Path, write: Callable[[], bytes]) -> AsyncGenerator[Side]:
    """Open a side whose tasks store bytes, each of them durably before its task goes on.

    Args:
        path: a file that is created.
        write: makes the bytes, in the task.
    """

    def insert(bare: sqlite3.Connection, bodies: Sequence[bytes]) -> None:
        bare.execute("BEGIN IMMEDIATE")
        rows = [(body,) for body in bodies]
        bare.executemany("INSERT INTO events (body) VALUES (?)", rows)
        bare.execute("COMMIT")

    with closing(_open(path)) as bare:
        bare.execute("PRAGMA journal_mode = WAL")
        bare.execute("PRAGMA synchronous = FULL")
        bare.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, body BLOB)")
        async with _by_tasks(bare, write, insert) as side:
            yield side


@asynccontextmanager
async def loading(path: Path, names: Iterable[str]) -> AsyncGenerator[Side]:
    """Open a side whose tasks load what a `SqliteStateStore` has stored, and decode it.

    Args:
        path: the store's file.
        names: the names of the components, one after another.
    """
    wanted = (_Wanted(name) for name in names)

    def select(bare: sqlite3.Connection, some: Sequence[_Wanted]) -> None:
        bare.execute("BEGIN")
        for each in some:
            query = "SELECT version, state, data, due FROM states WHERE name = ?"
            version, state, data, due = bare.execute(query, (each.name,)).fetchone()
            each.found = version, state, json.loads(data), due
        bare.execute("COMMIT")

    with closing(_open(path)) as bare:
        async with _by_tasks(bare, lambda: next(wanted), select) as side:
            yield side


class _Wanted:
    """A component to load, and what is stored of it."""

    __slots__ = ("found", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.found: tuple[object, ...] = ()


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


@asynccontextmanager
async def _by_tasks(
    bare: sqlite3.Connection,
    make: Callable[[], _Item],
    work: Callable[[sqlite3.Connection, Sequence[_Item]], None],
) -> AsyncGenerator[Side]:
    limiter = CapacityLimiter(1)

    async def in_thread(items: Sequence[_Item]) -> None:
        await to_thread.run_sync(work, bare, items, limiter=limiter)

    async with create_task_group() as tasks:
        desk = Desk(make, in_thread)
        tasks.start_soon(desk.run)
        yield by_tasks(desk.store)
        tasks.cancel_scope.cancel()
