"""What the tests of commands put into a transport and look up there."""

import json
from collections.abc import Sequence
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
    transport_from_url,
)

FAILURE = Failure("CardRefused", "600 is more than 500", 'Traceback:\n  "x.py"\x1b[31m\nRefused\n')


def event(name: str, number: int = 0) -> bytes:
    """Make an event as it is stored."""
    event = {"specversion": "1.0", "id": str(number), "source": "tests", "type": name}
    return json.dumps(event | {"data": {"order": number}}).encode()


def store(url: str, *bodies: bytes) -> None:
    """Store events."""

    async def main() -> None:
        async with transport_from_url(url).connect() as connection:
            await connection.store(Batch(token_hex(), 1, tuple(map(Record, bodies))))

    anyio.run(main)


def bury(url: str, *bodies: bytes, failure: Failure = FAILURE) -> None:
    """Store events, and let the group `billing` give them up."""
    store(url, *bodies)

    async def main() -> None:
        member = Member("billing", "worker", "token", ("**",), 60.0)
        async with transport_from_url(url).connect() as connection:
            await connection.join(member)
            lease = await connection.acquire(member, 0)
            assert lease is not None
            given = await lease.receive(Room(len(bodies)))
            await lease.settle([Buried(each.position, 3, 1, failure) for each in given])
            await lease.release()
            await connection.leave(member)

    anyio.run(main)


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
            found, _ = await connection.tail(["0"], 1_000, 0)
            return [json.loads(each.body)["type"] for each in found]

    return anyio.run(main)
