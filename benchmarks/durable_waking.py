"""The time until a stored event wakes the worker that waits for it."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from functools import partial
from random import uniform
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio import to_thread

from benchmarks.durable_parts import BODY, in_sqlite, printed_by, redis, subscribed
from benchmarks.handlers import EVENT, ORDER
from benchmarks.measuring import Measure, Round
from benchmarks.timing import alternate
from flexiflow import EventBus
from flexiflow.extras.durable import SqliteTransport, open_bridge

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from typing import TypeAlias

    from benchmarks.durable_parts import Server
    from benchmarks.measuring import Effort
    from flexiflow.extras.durable import Transport

    Waking: TypeAlias = Callable[[], Awaitable[float]]

_WAKINGS: Final = 11
"""Wakings in a round, of which the median counts."""

_PAUSE: Final = 0.01
"""Seconds after which a woken worker waits again."""

_INTERVAL: Final = 0.05
"""Seconds between polls of SQLite for events that other processes have stored: the default."""

_NEVER: Final = 60.0


def measures(backend: str) -> Iterator[Measure]:
    """Yield the measures of this module."""
    yield Measure(
        figure="from a publish to a handler, through Redis",
        against="from an XADD to a blocked read",
        backend=backend,
        at_most=3,
        run=partial(_redis, backend),
    )
    yield Measure(
        figure="from a publish to a handler in the same process, through SQLite",
        against="the publish alone",
        backend=backend,
        at_most=3,
        run=partial(_sqlite, backend),
    )
    yield Measure(
        figure="from a publish to a handler in another process, through SQLite",
        against=f"the {_INTERVAL * 1000:.0f} ms between two looks",
        backend=backend,
        at_most=1,
        run=partial(_processes, backend),
    )


def _redis(backend: str, effort: Effort) -> list[Round]:
    with redis() as server:
        ours, theirs = _handled(server.transport()), _blocked(server)
        return anyio.run(_both, effort.heavy_rounds, ours, theirs, backend=backend)


def _sqlite(backend: str, effort: Effort) -> list[Round]:
    with in_sqlite() as make, in_sqlite() as make_other:
        # A worker that is not woken would poll very late.
        ours, theirs = _handled(make(poll_interval=_NEVER)), _stored(make_other())
        return anyio.run(_both, effort.heavy_rounds, ours, theirs, backend=backend)


async def _both(
    rounds: int,
    ours: AbstractAsyncContextManager[Waking],
    theirs: AbstractAsyncContextManager[Waking],
) -> list[Round]:
    async with ours as one, theirs as other:
        return await alternate(rounds, partial(_median_of, one), partial(_median_of, other))


async def _median_of(waking: Waking) -> float:
    taken: list[float] = []
    for _ in range(_WAKINGS):
        await anyio.sleep(_PAUSE)
        taken.append(await waking())
    return median(taken)


@asynccontextmanager
async def _handled(transport: Transport) -> AsyncGenerator[Waking]:
    shop, worker = EventBus(), EventBus()
    arrived = anyio.Event()
    at = 0.0

    async def handle(_data: object) -> None:
        nonlocal at
        at = perf_counter()
        arrived.set()

    async def publish() -> float:
        nonlocal arrived
        arrived = anyio.Event()
        begun = perf_counter()
        await shop.publish(EVENT, ORDER)
        await arrived.wait()
        return at - begun

    async with (
        subscribed(worker, handle),
        open_bridge(shop, transport, outgoing=[EVENT]),
        open_bridge(worker, transport, incoming=[EVENT], group="workers"),
    ):
        # The worker has joined by then.
        await publish()
        yield publish


@asynccontextmanager
async def _stored(transport: Transport) -> AsyncGenerator[Waking]:
    bus = EventBus()

    async def publish() -> float:
        begun = perf_counter()
        await bus.publish(EVENT, ORDER)
        return perf_counter() - begun

    async with open_bridge(bus, transport, outgoing=[EVENT]):
        yield publish


@asynccontextmanager
async def _blocked(server: Server) -> AsyncGenerator[Waking]:
    """Yield a waking in which one connection waits for an entry that another one adds."""
    async with server.client() as sender, server.client() as reader:
        await sender.xgroup_create("bare", "group", "0", mkstream=True)

        async def wake() -> float:
            at = 0.0

            async def read() -> None:
                nonlocal at
                await reader.xreadgroup("group", "worker", {"bare": ">"}, count=100, block=10_000)
                at = perf_counter()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                await anyio.sleep(_PAUSE)
                begun = perf_counter()
                await sender.xadd("bare", {"event": BODY})
            return at - begun

        yield wake


def _processes(backend: str, effort: Effort) -> list[Round]:
    with TemporaryDirectory() as folder:
        path = f"{folder}/events.db"
        with printed_by(__name__, backend, path) as arrived:
            return anyio.run(_publish, path, effort.heavy_rounds, arrived, backend=backend)


async def _publish(path: str, rounds: int, arrived: Waking) -> list[Round]:
    bus = EventBus()

    async def publish() -> float:
        # Publish at any time between two polls.
        await anyio.sleep(uniform(0, _INTERVAL))  # noqa: S311  not for secrets
        begun = monotonic()
        await bus.publish(EVENT, ORDER)
        return await arrived() - begun

    async with open_bridge(bus, SqliteTransport(path), outgoing=[EVENT]):
        await publish()
        return [Round(await _median_of(publish), _INTERVAL) for _ in range(rounds)]


async def _work(path: str) -> None:
    """Print the time at which each event arrives, until standard input ends."""
    bus = EventBus()

    async def handle(_data: Any) -> None:
        # This clock is the same for all processes.
        sys.stdout.write(f"{monotonic()}\n")
        sys.stdout.flush()

    async with (
        subscribed(bus, handle),
        open_bridge(bus, SqliteTransport(path), incoming=[EVENT], group="workers"),
    ):
        await to_thread.run_sync(sys.stdin.read)


if __name__ == "__main__":
    anyio.run(_work, sys.argv[2], backend=sys.argv[1])
