"""Saving states by tasks in an SQLite store, against ready bytes on a bare thread."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import anyio

from benchmarks import bare_sqlite
from benchmarks.durable_parts import TASKS, both
from benchmarks.measuring import Measure
from flexiflow.extras.stores import SqliteStateStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from benchmarks.measuring import Effort, Round
    from benchmarks.timing import Side

_SNAPSHOT: Final = {"order": "A7", "total": 12.5, "items": 3}


def measures(backend: str) -> Iterator[Measure]:
    """Yield the measures of this module."""
    yield Measure(
        figure=f"a state saved in SQLite, {TASKS} tasks",
        against=f"{TASKS} tasks on a bare thread that commits bytes that are there",
        backend=backend,
        at_most=1.43,
        run=partial(_in_sqlite, backend),
    )


def _in_sqlite(backend: str, effort: Effort) -> list[Round]:
    with TemporaryDirectory() as folder:
        ours = _store(Path(folder, "ours.db"))
        theirs = bare_sqlite.storing(Path(folder, "theirs.db"), bare_sqlite.ready)
        return anyio.run(both, effort, ours, theirs, backend=backend)


@asynccontextmanager
async def _store(path: Path) -> AsyncGenerator[Side]:
    versions: dict[str, int] = {}
    async with SqliteStateStore(path) as store:

        async def work(name: str, left: Iterator[Any]) -> None:
            # Each task saves one component, again and again.
            version = versions.get(name, 0)
            for _ in left:
                version = await store.save(name, "paid", _SNAPSHOT, expected=version)
            versions[name] = version

        async def side(calls: int) -> None:
            left = iter(range(calls))
            async with anyio.create_task_group() as tasks:
                for number in range(TASKS):
                    tasks.start_soon(work, f"order-{number}", left)

        yield side
