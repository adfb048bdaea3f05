"""What the tests of the commands that look at a transport share."""

from collections.abc import Generator
from itertools import count
from pathlib import Path

import pytest

from flexiflow.extras.durable import MemoryTransport, Transport
from tools.redis_server import MISSING, RedisServer, find_server, redis_server

PREFIXES = count()
NAMED = ("flexiflow._cli.connecting.transport_from_url", "tests.cli.stored.transport_from_url")
"""Where a transport is found by its URL."""


@pytest.fixture(scope="package")
def redis() -> Generator[RedisServer]:
    """Run a Redis server, that many tests share: each keeps to a prefix of its own."""
    pytest.importorskip("coredis", reason="coredis is not installed")
    if find_server() is None:
        pytest.skip(MISSING)
    with redis_server() as server:
        yield server


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> str:
    """Let each URL name a transport in memory with two partitions; return a URL."""
    transports: dict[str, Transport] = {}

    def find(url: str) -> Transport:
        return transports.setdefault(url, MemoryTransport(partitions=2))

    for place in NAMED:
        monkeypatch.setattr(place, find)
    return "memory:"


@pytest.fixture(params=["memory", "sqlite", "redis"])
def each_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Name a new transport with two partitions, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path}/events.db?partitions=2"
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis")
        return f"{server.url}?partitions=2&prefix=cli{next(PREFIXES)}"
    named: str = request.getfixturevalue("memory")
    return named
