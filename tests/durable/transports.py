"""The transports that the suite of all transports is run on, and what goes with each."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from flexiflow.extras.durable import (
    Batch,
    MemoryTransport,
    Record,
    RedisTransport,
    SqliteTransport,
)
from flexiflow.extras.durable._sqlite.schema import first_of
from tools.redis_server import MISSING, find_server, redis_server

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager

    from flexiflow.extras.durable import Transport


LARGE = 1_000_000
"""How many bytes an outsider's event may have."""


class Tried(NamedTuple):
    """A transport to try.

    Attributes:
        factory: makes one.
        terms: what `check_transport` is told of it.
    """

    factory: Callable[..., Any]
    terms: dict[str, Any]


async def damage_memory(transport: Any, partition: int, position: str) -> None:
    """Delete a record behind the back of the transport in memory."""
    del transport._state.logs[partition].records[int(position)]


@contextmanager
def memory() -> Generator[Tried]:
    """Give the transport in memory, in virtual time."""
    yield Tried(
        MemoryTransport,
        {
            "damage": damage_memory,
            "insert": insert_memory,
            "lease": None,
            "examples": 10,
            "scale": 0.01,
        },
    )


async def insert_memory(transport: Any, partition: int, body: bytes) -> None:
    """Store a body behind the back of the transport in memory."""
    transport._state.logs[partition].append(Record(body))


async def damage_sqlite(transport: Any, partition: int, position: str) -> None:
    """Delete a record by a connection that is not the transport's."""
    with closing(sqlite3.connect(transport._path, timeout=10)) as db, db:
        row = first_of(partition) + int(position)
        assert db.execute("DELETE FROM records WHERE id = ?", (row,)).rowcount == 1


async def insert_by(transport: Transport, body: bytes) -> None:
    """Store a body by another transport for the same log, which takes larger ones."""
    async with transport.connect() as connection:
        await connection.store(Batch(token_hex(), 1, (Record(body),)))


async def insert_sqlite(transport: Any, partition: int, body: bytes) -> None:
    """Store a body by another process' transport, of whatever size."""
    assert partition == 0
    await insert_by(SqliteTransport(transport._path, max_event_bytes=LARGE), body)


@contextmanager
def sqlite() -> Generator[Tried]:
    """Give transports in files, each in one of its own; there is nothing to restart."""
    numbers = count()
    with tempfile.TemporaryDirectory(prefix="kit") as folder:

        def make(**options: Any) -> SqliteTransport:
            return SqliteTransport(Path(folder, f"{next(numbers)}.db"), **options)

        hooks = {"damage": damage_sqlite, "insert": insert_sqlite}
        yield Tried(make, {**hooks, "lease": 0.5, "examples": 2, "scale": 0.01})


@contextmanager
def redis() -> Generator[Tried]:
    """Give transports on a server of their own, each with a prefix of its own."""
    numbers = count()
    # By default the server may lose the last second when it is killed, of which no clause tells.
    with redis_server(appendfsync="always") as server:

        def make(**options: Any) -> RedisTransport:
            return RedisTransport(server.url, prefix=f"kit{next(numbers)}", **options)

        async def restart(_: Any) -> None:
            server.restart()

        async def damage(transport: Any, partition: int, position: str) -> None:
            log = f"{{{transport._prefix}:{partition}}}:log"
            assert server.command("XDEL", log, position) == ":1"

        async def insert(transport: Any, partition: int, body: bytes) -> None:
            assert partition == 0
            prefix = transport._prefix
            await insert_by(RedisTransport(server.url, prefix=prefix, max_event_bytes=LARGE), body)

        async def empty(_: Any) -> None:
            server.forget()
            server.start()

        hooks = {"restart": restart, "damage": damage, "insert": insert, "empty": empty}
        yield Tried(make, {**hooks, "lease": 0.5, "examples": 2, "scale": 0.01})


TRANSPORTS: list[Callable[[], AbstractContextManager[Tried]]] = [memory, sqlite, redis]
"""What opens each of them."""

NEEDS = {
    "redis": pytest.mark.skipif(find_server() is None, reason=MISSING),
}
"""What is left out where something is missing."""


def each_transport() -> list[Any]:
    """Give the parameters of a test that is run with each."""
    return [
        pytest.param(
            opened,
            id=opened.__name__,
            marks=[pytest.mark.once, *filter(None, [NEEDS.get(opened.__name__)])],
        )
        for opened in TRANSPORTS
    ]
