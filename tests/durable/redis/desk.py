"""What the tests of the transport on Redis share."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Final, final

import anyio
from anyio import fail_after, sleep
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.stapled import MultiListener

from flexiflow.extras.durable import (
    Batch,
    Connection,
    Delivery,
    Failure,
    Lease,
    Member,
    Record,
    RedisTransport,
    Room,
    Standing,
)
from tests.helpers import PATIENCE
from tools.redis_server import RedisServer

FAILURE: Final = Failure("builtins.ValueError", "no", "")
PREFIXES: Final = count(1)


def batch(
    number: int,
    *bodies: bytes,
    producer: str = "shop",
    keys: Sequence[str | None] = (),
) -> Batch:
    """Make a batch of bodies, with keys where they are given."""
    padded = [*keys, *[None] * (len(bodies) - len(keys))]
    return Batch(producer, number, tuple(map(Record, bodies, padded)))


def member(
    consumer: str = "ann", group: str = "billing", *, instance: str = "1", lease: float = 60.0
) -> Member:
    """Make a worker."""
    return Member(group, consumer, instance, ("order.*",), lease)


async def lease_of(connection: Connection, who: Member | None = None, partition: int = 0) -> Lease:
    """Join, and lease a partition that is free."""
    who = who or member()
    await connection.join(who)
    lease = await connection.acquire(who, partition)
    assert lease is not None
    return lease


def inside(thing: object) -> dict[str, Any]:
    """Return the attributes of something, private ones among them."""
    return vars(thing)


async def bodies(lease: Lease, limit: int = 100) -> list[bytes]:
    """Receive at once what is there, without its counts."""
    return [each.body for each in await lease.receive(Room(limit))]


async def await_more(lease: Lease, limit: int = 100) -> Sequence[Delivery]:
    """Receive what is there, or what comes next."""
    with fail_after(2 * PATIENCE):
        while not (found := await lease.receive(Room(limit))):
            await lease.wait(PATIENCE)
    return found


async def standing(connection: Connection, lease: Lease) -> Standing:
    """Renew a lease, and see how far its group is."""
    await lease.renew()
    return await connection.standing(vars(lease)["_member"].group)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something that the server does has shown."""
    with fail_after(PATIENCE):
        # By checkpoints this process would compete with the server for a processor.
        while not condition():  # noqa: ASYNC110  a server tells nobody that it changes
            await sleep(0.005)


def is_somebody_waiting(server: RedisServer) -> bool:
    """Tell whether somebody waits for records."""
    return "blocked_clients:1" in server.command("INFO", "clients")


@final
class Keys:
    """The keys of one test, which may be meddled with.

    Args:
        server: where they are.
        prefix: what they begin with.
    """

    def __init__(self, server: RedisServer, prefix: str) -> None:
        self.server = server
        self.prefix = prefix

    @property
    def log(self) -> str:
        """The log of the first partition."""
        return self.name("log")

    def name(self, rest: str, partition: int = 0) -> str:
        """Give the name of a key."""
        return f"{{{self.prefix}:{partition}}}:{rest}"

    def command(self, name: str, rest: str, *words: str | int) -> str:
        """Send a command that has the key right after its name."""
        return self.server.command(*name.split(), self.name(rest), *words)

    def expire(self, lease: Lease, group: str = "billing", span: str = "0 1") -> None:
        """Have the server believe that a lease has run out, or held at another time."""
        base = self.name(f"leases:{group}", lease.partition)
        name = vars(lease)["_right"].name.decode()
        taken = self.server.command("HGET", base, name).split()[-1]
        assert self.server.command("HSET", base, name, f"{span} {taken}") == ":0"


def transport(keys: Keys, **options: Any) -> RedisTransport:
    """Make a transport on the keys of a test."""
    return RedisTransport(keys.server.url, prefix=keys.prefix, **options)


@final
class FakeServer:
    """A server that answers each command as it is told.

    Args:
        listener: where it listens.

    Attributes:
        port: its port.
        answers: what it answers, by the first word of the command, as it is sent; or nothing.
    """

    def __init__(self, listener: MultiListener[SocketStream]) -> None:
        # ruff takes it for a method of Django's.
        self.port: int = listener.extra(SocketAttribute.local_port)  # noqa: S610
        self._listener = listener
        self._scope = anyio.CancelScope()
        self._gone = anyio.Event()
        self.answers: dict[str, str] = {
            "HELLO": "%3\r\n+version\r\n+7.0.15\r\n+proto\r\n:3\r\n+id\r\n:1",
            "PING": "+PONG",
        }

    async def run(self) -> None:
        """Answer all clients, until it is to be gone."""
        with self._scope:
            async with self._listener:
                await self._listener.serve(self.serve)
        self._gone.set()

    async def stop(self) -> None:
        """Be gone."""
        self._scope.cancel()
        await self._gone.wait()

    async def serve(self, client: SocketStream) -> None:
        """Answer one client."""
        async with client:
            try:
                while True:
                    for word in _commands(await client.receive()):
                        if word in self.answers:
                            await client.send(f"{self.answers[word]}\r\n".encode())
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass


def _commands(data: bytes) -> list[str]:
    lines = data.decode(errors="replace").split("\r\n")
    return [
        lines[at + 2].split()[0].upper() for at, line in enumerate(lines) if line.startswith("*")
    ]


@asynccontextmanager
async def fake_server(**answers: str) -> AsyncGenerator[FakeServer]:
    """Run a server that answers as it is told."""
    server = FakeServer(await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0))
    server.answers.update(answers)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.run)
        yield server
        await server.stop()
