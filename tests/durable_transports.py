"""The transports that the suite of all transports is run on, and what goes with each."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from flexiflow.extras.durable import MemoryTransport, RedisTransport
from tests.redis_server import MISSING, find_server, redis_server

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager


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
    del transport._logs[partition].records[int(position)]


@contextmanager
def memory() -> Generator[Tried]:
    """Give the transport in memory, in virtual time."""
    yield Tried(
        MemoryTransport, {"damage": damage_memory, "lease": None, "examples": 30, "scale": 0.02}
    )


@contextmanager
def redis() -> Generator[Tried]:
    """Give transports on a server of their own, each with a prefix of its own."""
    numbers = count()
    with redis_server() as server:

        def make(partitions: int | None = None, max_length: int = 1_000_000) -> RedisTransport:
            prefix = f"kit{next(numbers)}"
            return RedisTransport(
                server.url, prefix=prefix, partitions=partitions, max_length=max_length
            )

        async def restart(transport: RedisTransport) -> None:
            server.restart()

        yield Tried(make, {"restart": restart, "lease": 0.5, "examples": 3, "scale": 0.01})


TRANSPORTS: list[Callable[[], AbstractContextManager[Tried]]] = [memory, redis]
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
            marks=[pytest.mark.same_everywhere, *filter(None, [NEEDS.get(opened.__name__)])],
        )
        for opened in TRANSPORTS
    ]
