"""The parts that the measures of durable delivery share: engines, and tasks that publish."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import anyio

from benchmarks.handlers import EVENT, ORDER
from benchmarks.measuring import LeftOut
from benchmarks.timing import load
from flexiflow.extras.durable import RedisTransport, SqliteTransport
from tools.redis_server import MISSING, find_server, redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
    from contextlib import AbstractContextManager
    from typing import TypeAlias

    from benchmarks.timing import Side
    from flexiflow import EventBus
    from flexiflow.extras.durable import Transport

    Engine: TypeAlias = Callable[[], AbstractContextManager[Callable[..., Transport]]]

TASKS: Final = 100
"""The number of tasks that publish at the same time."""

BODY: Final = (
    b'{"specversion":"1.0","id":"0123456789abcdef0123456789abcdef-1000","source":"flexiflow",'
    b'"type":"order.placed","time":"2026-01-01T00:00:00.000000Z",'
    b'"datacontenttype":"application/json","data":{"order":"A7"}}'
)
"""An event as a bridge encodes it."""


class Server(NamedTuple):
    """A Redis server, and coredis.

    Attributes:
        port: the port on which it listens.
        coredis: the package.
    """

    port: int
    coredis: Any

    def client(self) -> Any:
        """Return a client of coredis's own, to be entered."""
        return self.coredis.Redis(host="127.0.0.1", port=self.port)

    def transport(self, **options: Any) -> Transport:
        """Return a transport on this server."""
        return RedisTransport(f"redis://127.0.0.1:{self.port}", **options)


@contextmanager
def redis() -> Generator[Server]:
    """Run a server.

    Raises:
        LeftOut: there is no server, or coredis is missing.
    """
    coredis = load("coredis")
    if find_server() is None:
        raise LeftOut(MISSING)
    with redis_server() as server:
        yield Server(server.port, coredis)


@contextmanager
def in_redis() -> Generator[Callable[..., Transport]]:
    """Yield a function that makes transports on a server of their own."""
    with redis() as server:
        yield server.transport


@contextmanager
def in_sqlite() -> Generator[Callable[..., Transport]]:
    """Yield a function that makes transports in a file of their own."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "events.db")

        def transport(**options: Any) -> Transport:
            return SqliteTransport(path, **options)

        yield transport


ENGINES: Final[dict[str, Engine]] = {"SQLite": in_sqlite, "Redis": in_redis}


def by_tasks(publish: Callable[[], Awaitable[object]]) -> Side:
    """Return a side in which several tasks publish, each one event after another."""

    async def side(calls: int) -> None:
        left = iter(range(calls))

        async def work() -> None:
            for _ in left:
                await publish()

        async with anyio.create_task_group() as tasks:
            for _ in range(TASKS):
                tasks.start_soon(work)

    return side


async def fill(bus: EventBus, number: int) -> None:
    """Publish so many events by several tasks."""

    async def publish() -> None:
        await bus.publish(EVENT, ORDER)

    await by_tasks(publish)(number)


class Arrivals:
    """A handler that sets an event when the last of some events arrives."""

    def __init__(self, expected: int) -> None:
        self._numbers = count(1)
        self._expected = expected
        self.done = anyio.Event()

    async def handler(self, _data: object) -> None:
        """Count an event."""
        if next(self._numbers) == self._expected:
            self.done.set()


@asynccontextmanager
async def subscribed(
    bus: EventBus, handler: Callable[[Any], Awaitable[None]]
) -> AsyncGenerator[None]:
    """Subscribe a handler to the benchmark's event within the block."""
    subscription = await bus.subscribe(EVENT, "watch", handler)
    try:
        yield
    finally:
        bus.unsubscribe(subscription)


async def pipeline(client: Any, number: int) -> None:
    """Add so many events to the stream `bare` at once, with a client of coredis."""
    async with client.pipeline(transaction=False) as commands:
        for _ in range(number):
            commands.xadd("bare", {"event": BODY})
