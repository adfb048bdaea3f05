"""Scheduled events: handing them out beside many others, and how late that is."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from random import uniform
from tempfile import TemporaryDirectory
from time import perf_counter, time
from typing import TYPE_CHECKING, Final, cast
from uuid import uuid4

import anyio
from anyio import to_thread

from benchmarks.durable_parts import BODY, printed_by, redis
from benchmarks.measuring import Measure, Round
from benchmarks.timing import alternate
from flexiflow.extras.durable import (
    Acknowledged,
    Member,
    Record,
    Room,
    SqliteTransport,
    transport_from_url,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
    from contextlib import AbstractContextManager
    from typing import TypeAlias

    from benchmarks.durable_parts import Server
    from benchmarks.measuring import Effort
    from benchmarks.timing import Probe
    from flexiflow.extras.durable import Connection, Lease, Transport

    # Schedules so many events, due from a time on.
    Fill: TypeAlias = Callable[[int, float], Awaitable[object]]
    # Makes a transport that has room for so many scheduled events.
    Make: TypeAlias = Callable[[int], tuple[Transport, Fill]]

_MANY: Final = 1_000_000
_QUICK_MANY: Final = 100_000
_FEW: Final = 1_000

_DUE: Final = 1_000
"""How many events are due in a round."""

_AT_ONCE: Final = 100

_LATER: Final = 5e9
"""When the others are due; in more than a century."""

_INTERVAL: Final = 0.05
"""Seconds between looks of a worker for what other processes have done: the default."""

_SOON: Final = 0.2

_MEMBER: Final = Member("workers", "worker", "token", ("*",), 600.0)

_FILL_FILE: Final = (
    "WITH RECURSIVE turns (turn) AS"
    " (SELECT 1 UNION ALL SELECT turn + 1 FROM turns WHERE turn < :count)"
    " INSERT INTO scheduled (ticket, partition, due, body)"
    " SELECT printf('%s-0-%032x', :name, turn), 0, :due + turn, :body FROM turns"
)

_FILL_SERVER: Final = """
local record, due = cmsgpack.pack({w = 600000, e = ARGV[1]}), tonumber(ARGV[5])
for turn = tonumber(ARGV[3]), tonumber(ARGV[4]) do
  local ticket = ARGV[2] .. '-0-' .. string.format('%032x', turn)
  redis.call('ZADD', KEYS[1], string.format('%.17g', due + turn), ticket)
  redis.call('HSET', KEYS[2], ticket, record)
end
"""

_AT_A_CALL: Final = 20_000
"""How many events a server schedules before it does anything else."""


def measures(backend: str) -> Iterator[Measure]:
    """Yield the measures of this module."""
    for name, place in _PLACES.items():
        yield Measure(
            figure=f"{_DUE:,} due events handed out by {name}, {_MANY:,} being scheduled for later",
            against=f"the same with {_FEW:,}",
            backend=backend,
            at_most=1.2,
            run=partial(_handed_out, backend, place),
        )
    for name, url in _URLS.items():
        yield Measure(
            figure=f"from the time of a scheduled event to another process that has it, by {name}",
            against=f"the {_INTERVAL * 1000:.0f} ms between two looks at a file",
            backend=backend,
            at_most=2,
            run=partial(_late, backend, url),
        )


@contextmanager
def _in_sqlite() -> Generator[Make]:
    with TemporaryDirectory() as folder:

        def make(room: int) -> tuple[Transport, Fill]:
            transport = SqliteTransport(f"{folder}/{room}.db", max_scheduled=room)
            return transport, partial(_fill_file, transport.path)

        yield make


async def _fill_file(path: str, count: int, due: float) -> None:
    # By hand, since to schedule a million events one by one takes minutes.
    values = {"count": count, "name": uuid4().hex, "due": due, "body": BODY}
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(_FILL_FILE, values)


@contextmanager
def _in_redis() -> Generator[Make]:
    with redis() as server:

        def make(room: int) -> tuple[Transport, Fill]:
            prefix = f"room-{room}"
            transport = server.transport(prefix=prefix, max_scheduled=room, timeout=60.0)
            return transport, partial(_fill_server, server, prefix)

        yield make


async def _fill_server(server: Server, prefix: str, count: int, due: float) -> None:
    keys, name = [f"{{{prefix}:0}}:later", f"{{{prefix}:0}}:sealed"], uuid4().hex
    async with server.client() as client:
        # It would still write a million events to its file while the rounds are measured.
        await client.config_set({"appendonly": "no"})
        for begin in range(0, count, _AT_A_CALL):
            end = min(begin + _AT_A_CALL, count)
            await client.eval(_FILL_SERVER, keys, [BODY, name, begin + 1, end, due])


_PLACES: Final[dict[str, Callable[[], AbstractContextManager[Make]]]] = {
    "SQLite": _in_sqlite,
    "Redis": _in_redis,
}


def _handed_out(
    backend: str, place: Callable[[], AbstractContextManager[Make]], effort: Effort
) -> list[Round]:
    many = _QUICK_MANY if effort.quick else _MANY
    with place() as make:
        return anyio.run(_both, effort.heavy_rounds, make, many, backend=backend)


async def _both(rounds: int, make: Make, many: int) -> list[Round]:
    async with _scheduled(make, many) as ours, _scheduled(make, _FEW) as theirs:
        return await alternate(rounds, ours, theirs)


@asynccontextmanager
async def _scheduled(make: Make, others: int) -> AsyncGenerator[Probe]:
    """Yield what hands out events that are due, beside so many others."""
    transport, fill = make(others + _DUE)
    async with transport.connect() as connection:
        await fill(others, _LATER)
        lease = await _leased(connection)

        async def hand_out() -> float:
            await fill(_DUE, 0)
            begun, left = perf_counter(), _DUE
            while left:
                given = await lease.receive(Room(_AT_ONCE))
                await lease.settle([Acknowledged(each.position) for each in given])
                left -= len(given)
            return perf_counter() - begun

        yield hand_out


async def _leased(connection: Connection) -> Lease:
    await connection.join(_MEMBER)
    return cast("Lease", await connection.acquire(_MEMBER, 0))


@contextmanager
def _sqlite_url() -> Generator[str]:
    with TemporaryDirectory() as folder:
        yield f"sqlite:{folder}/events.db"


@contextmanager
def _redis_url() -> Generator[str]:
    with redis() as server:
        yield server.url


_URLS: Final[dict[str, Callable[[], AbstractContextManager[str]]]] = {
    "SQLite": _sqlite_url,
    "Redis": _redis_url,
}


def _late(
    backend: str, place: Callable[[], AbstractContextManager[str]], effort: Effort
) -> list[Round]:
    with place() as url, printed_by(__name__, backend, url) as received:
        return anyio.run(_schedule, url, effort.rounds, received, backend=backend)


async def _schedule(url: str, rounds: int, received: Callable[[], Awaitable[float]]) -> list[Round]:
    async with transport_from_url(url).connect() as connection:

        async def late(delay: float) -> float:
            at = time() + delay
            await connection.schedule(connection.new_ticket(None), Record(BODY), at=at)
            return await received() - at

        await late(0)
        # Some are due before the worker looks again, others after it has seen them.
        delays = [uniform(0, _SOON) for _ in range(rounds)]  # noqa: S311  not for secrets
        return [Round(await late(delay), _INTERVAL) for delay in delays]


async def _work(url: str) -> None:
    """Print the time at which each event is received, until standard input ends."""
    async with transport_from_url(url).connect() as connection, anyio.create_task_group() as tasks:
        lease = await _leased(connection)

        async def receive() -> None:
            while True:
                for each in await lease.receive(Room(1)):
                    sys.stdout.write(f"{time()}\n")
                    sys.stdout.flush()
                    await lease.settle([Acknowledged(each.position)])
                await lease.wait(_SOON)

        tasks.start_soon(receive)
        await to_thread.run_sync(sys.stdin.read)
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(_work, sys.argv[2], backend=sys.argv[1])
