"""Scheduled events: handing them out beside many others, and how late that is."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import asynccontextmanager, closing
from functools import partial
from random import uniform
from tempfile import TemporaryDirectory
from time import perf_counter, time
from typing import TYPE_CHECKING, Final, cast
from uuid import uuid4

import anyio
from anyio import to_thread

from benchmarks.durable_parts import BODY
from benchmarks.measuring import Measure, Round
from benchmarks.timing import alternate
from flexiflow.extras.durable import Acknowledged, Member, Record, Room, SqliteTransport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
    from typing import IO

    from benchmarks.measuring import Effort
    from flexiflow.extras.durable import Connection, Lease

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

_FILL: Final = (
    "WITH RECURSIVE turns (turn) AS"
    " (SELECT 1 UNION ALL SELECT turn + 1 FROM turns WHERE turn < :count)"
    " INSERT INTO scheduled (ticket, partition, due, body)"
    " SELECT printf('%s-0-%032x', :name, turn), 0, :due + turn, :body FROM turns"
)


def measures(backend: str) -> Iterator[Measure]:
    """Yield the measures of this module."""
    yield Measure(
        figure=f"{_DUE:,} due events handed out by SQLite, {_MANY:,} being scheduled for later",
        against=f"the same with {_FEW:,}",
        backend=backend,
        at_most=1.2,
        run=partial(_handed_out, backend),
    )
    yield Measure(
        figure="from the time of a scheduled event to another process that has it, through SQLite",
        against=f"the {_INTERVAL * 1000:.0f} ms between two looks",
        backend=backend,
        at_most=2,
        run=partial(_late, backend),
    )


def _handed_out(backend: str, effort: Effort) -> list[Round]:
    many = _QUICK_MANY if effort.quick else _MANY
    return anyio.run(_both, effort.heavy_rounds, many, backend=backend)


async def _both(rounds: int, many: int) -> list[Round]:
    async with _scheduled(many) as ours, _scheduled(_FEW) as theirs:
        return await alternate(rounds, ours, theirs)


@asynccontextmanager
async def _scheduled(others: int) -> AsyncGenerator[Callable[[], Awaitable[float]]]:
    """Yield what hands out events that are due, beside so many others."""
    with TemporaryDirectory() as folder:
        transport = SqliteTransport(f"{folder}/events.db", max_scheduled=others + _DUE)
        async with transport.connect() as connection:
            _fill(transport.path, others, _LATER)
            lease = await _leased(connection)

            async def hand_out() -> float:
                _fill(transport.path, _DUE, 0)
                begun, left = perf_counter(), _DUE
                while left:
                    given = await lease.receive(Room(_AT_ONCE))
                    await lease.settle([Acknowledged(each.position) for each in given])
                    left -= len(given)
                return perf_counter() - begun

            yield hand_out


def _fill(path: str, count: int, due: float) -> None:
    # By hand, since to schedule a million events one by one takes minutes.
    values = {"count": count, "name": uuid4().hex, "due": due, "body": BODY}
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(_FILL, values)


async def _leased(connection: Connection) -> Lease:
    await connection.join(_MEMBER)
    return cast("Lease", await connection.acquire(_MEMBER, 0))


def _late(backend: str, effort: Effort) -> list[Round]:
    with TemporaryDirectory() as folder:
        path = f"{folder}/events.db"
        command = [sys.executable, "-m", "benchmarks.durable_schedules", backend, path]
        # Leaving the block closes the worker's input, which ends the worker.
        with subprocess.Popen(  # noqa: S603  this interpreter, and this module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as worker:
            output = cast("IO[bytes]", worker.stdout)
            return anyio.run(_schedule, path, effort.rounds, output, backend=backend)


async def _schedule(path: str, rounds: int, output: IO[bytes]) -> list[Round]:
    async with SqliteTransport(path).connect() as connection:

        async def late(delay: float) -> float:
            at = time() + delay
            await connection.schedule(connection.new_ticket(None), Record(BODY), at=at)
            return float(await to_thread.run_sync(output.readline)) - at

        await late(0)
        # Some are due before the worker looks again, others after it has seen them.
        delays = [uniform(0, _SOON) for _ in range(rounds)]  # noqa: S311  not for secrets
        return [Round(await late(delay), _INTERVAL) for delay in delays]


async def _work(path: str) -> None:
    """Print the time at which each event is received, until standard input ends."""
    async with SqliteTransport(path).connect() as connection, anyio.create_task_group() as tasks:
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
