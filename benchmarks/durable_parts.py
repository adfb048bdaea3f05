"""The parts that the measures of durable delivery share: engines, and tasks that publish."""

from __future__ import annotations

import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar, cast

import anyio
from anyio import to_thread

from benchmarks.handlers import EVENT, ORDER
from benchmarks.measuring import LeftOut, Round
from benchmarks.timing import alternate, calibrated, load
from flexiflow.extras.durable import RedisTransport, SqliteTransport
from tools.redis_server import MISSING, find_server, redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from typing import IO, TypeAlias

    from benchmarks.measuring import Effort
    from benchmarks.timing import Side
    from flexiflow import EventBus
    from flexiflow.extras.durable import Transport

    Opened: TypeAlias = AbstractAsyncContextManager[Side]
    Engine: TypeAlias = Callable[[], AbstractContextManager[Callable[..., Transport]]]

_Item = TypeVar("_Item")

TASKS: Final = 100
"""The number of tasks that publish at the same time."""

BODY: Final = (
    b'{"specversion":"1.0","id":"0123456789abcdef0123456789abcdef-1000","source":"flexiflow",'
    b'"type":"order.placed","time":"2026-01-01T00:00:00.000000Z",'
    b'"datacontenttype":"application/json","depth":1,"data":{"order":"A7"}}'
)
"""An event as a bridge encodes it."""


_LOT: Final = 500
"""The size of a lot; a round has several lots, since a few events would be stored one by one."""

# A round must write many times, to a disk or to another process.
_LONGER: Final = 25


class Server(NamedTuple):
    """A Redis server, and coredis.

    Attributes:
        port: the port on which it listens.
        coredis: the package.
    """

    port: int
    coredis: Any

    @property
    def url(self) -> str:
        """The server's URL."""
        return f"redis://127.0.0.1:{self.port}"

    def client(self) -> Any:
        """Return a client of coredis's own, to be entered."""
        return self.coredis.Redis(host="127.0.0.1", port=self.port)

    def transport(self, **options: Any) -> Transport:
        """Return a transport on this server."""
        return RedisTransport(self.url, **options)


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


@contextmanager
def printed_by(module: str, *arguments: str) -> Generator[Callable[[], Awaitable[float]]]:
    """Run a module as a process, and yield what waits for the next number that it prints."""
    command = [sys.executable, "-m", module, *arguments]
    # Leaving the block closes the worker's input, which ends the worker.
    with subprocess.Popen(  # noqa: S603  this interpreter, and a module of our own
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        output = cast("IO[bytes]", process.stdout)

        async def read() -> float:
            return float(await to_thread.run_sync(output.readline))

        yield read


async def pipeline(client: Any, number: int) -> None:
    """Add so many events to the stream `bare` at once, with a client of coredis."""
    async with client.pipeline(transaction=False) as commands:
        for _ in range(number):
            commands.xadd("bare", {"event": BODY})


async def both(effort: Effort, ours: Opened, theirs: Opened) -> list[Round]:
    """Measure two sides, each of which works in lots."""
    async with AsyncExitStack() as stack:
        sides = [await stack.enter_async_context(each) for each in (ours, theirs)]
        seconds = effort.seconds * _LONGER
        # Wall time, since most of it is spent outside this process.
        probes = [await calibrated(_in_lots(side), seconds, perf_counter) for side in sides]
        rounds = await alternate(effort.heavy_rounds, *probes)
    return [Round(one / _LOT, other / _LOT) for one, other in rounds]


def _in_lots(side: Side) -> Side:
    async def lots(calls: int) -> None:
        await side(calls * _LOT)

    return lots


class Desk(Generic[_Item]):
    """Commits together what tasks have brought meanwhile, each of which waits for the commit.

    Args:
        write: makes what a task brings.
        commit: commits what several have brought.
    """

    def __init__(
        self,
        write: Callable[[], _Item],
        commit: Callable[[Sequence[_Item]], Awaitable[object]],
    ) -> None:
        self._write = write
        self._commit = commit
        self._came = anyio.Event()
        self._waiting: list[tuple[_Item, anyio.Event]] = []

    async def store(self) -> None:
        """Bring something, and wait until it is committed."""
        done = anyio.Event()
        self._waiting.append((self._write(), done))
        self._came.set()
        await done.wait()

    async def run(self) -> None:
        """Commit what comes, until this is cancelled."""
        while True:
            await self._came.wait()
            self._came, some, self._waiting = anyio.Event(), self._waiting, []
            await self._commit([item for item, _ in some])
            for _, done in some:
                done.set()
