"""What the tests of commands put into a transport and look up there."""

import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from secrets import token_hex

import anyio

from flexiflow.extras.durable import (
    Batch,
    Buried,
    DeadLetter,
    Failure,
    Member,
    Record,
    Room,
    Survey,
    transport_from_url,
)

FAILURE = Failure("CardRefused", "600 is more than 500", 'Traceback:\n  "x.py"\x1b[31m\nRefused\n')


def event(name: str, number: int = 0) -> bytes:
    """Make an event as it is stored."""
    event = {"specversion": "1.0", "id": str(number), "source": "tests", "type": name}
    return json.dumps(event | {"data": {"order": number}}).encode()


def store(url: str, *bodies: bytes) -> None:
    """Store events; with none, only make the transport."""

    async def main() -> None:
        async with transport_from_url(url).connect() as connection:
            if bodies:
                await connection.store(Batch(token_hex(), 1, tuple(map(Record, bodies))))

    anyio.run(main)


def bury(url: str, *bodies: bytes, failure: Failure = FAILURE) -> None:
    """Store events, and let the group `billing` give them up."""
    store(url, *bodies)

    async def main() -> None:
        member = Member("billing", "worker", "token", ("**",), 60.0)
        async with transport_from_url(url).connect() as connection:
            await connection.join(member)
            for partition in range(connection.partitions):
                lease = await connection.acquire(member, partition)
                assert lease is not None
                given = await lease.receive(Room(len(bodies) + 1))
                await lease.settle([Buried(each.position, 3, 1, failure) for each in given])
                await lease.release()
            await connection.leave(member)

    anyio.run(main)


def schedule(url: str, *bodies: bytes, key: str | None = None, delay: float = 3600.0) -> list[str]:
    """Schedule events, each an hour after the one before; return their tickets."""

    async def main() -> list[str]:
        tickets: list[str] = []
        async with transport_from_url(url).connect() as connection:
            for number, body in enumerate(bodies):
                tickets.append(connection.new_ticket(key))
                await connection.schedule(
                    tickets[-1], Record(body, key), delay=delay + 3600 * number
                )
        return tickets

    return anyio.run(main)


def survey(url: str) -> Survey:
    """Look at a transport."""

    async def main() -> Survey:
        async with transport_from_url(url).connect() as connection:
            return await connection.survey()

    return anyio.run(main)


@contextmanager
def at_work(url: str, *bodies: bytes, group: str = "billing") -> Generator[None]:
    """Store events, and let a live member of a group have all of them in hand; it gives up one."""

    async def begin() -> None:
        async with transport_from_url(url).connect() as connection:
            await connection.join(member)
            for partition in range(connection.partitions):
                lease = await connection.acquire(member, partition)
                assert lease is not None
                given = await lease.receive(Room(len(bodies) + 1))
                await lease.settle([Buried(each.position, 3, 1, FAILURE) for each in given[:1]])

    member = Member(group, "worker", "token", ("order.*",), 60.0)
    store(url, *bodies)
    anyio.run(begin)
    yield


def dead_letters(url: str) -> Sequence[DeadLetter]:
    """Look up what the group has given up."""

    async def main() -> Sequence[DeadLetter]:
        async with transport_from_url(url).connect() as connection:
            return await connection.dead_letters("billing", limit=1_000)

    return anyio.run(main)


def stored(url: str) -> list[str]:
    """Name the events that are stored, from the first one on."""

    async def main() -> list[str]:
        async with transport_from_url(url).connect() as connection:
            found, _ = await connection.tail(["0"] * connection.partitions, 1_000, 0)
            return [json.loads(each.body)["type"] for each in found]

    return anyio.run(main)
