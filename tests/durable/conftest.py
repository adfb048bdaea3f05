"""What the tests of the transports are given: a Redis server, keys of their own, and a file."""

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.durable.redis.desk import PREFIXES, Keys
from tools.redis_server import MISSING, RedisServer, find_server, redis_server


@pytest.fixture(scope="session")
def redis() -> Generator[RedisServer]:
    """Run a Redis server, that many tests share: each keeps to a prefix of its own."""
    if find_server() is None:
        pytest.skip(MISSING)
    with redis_server() as server:
        yield server


@pytest.fixture
def keys(redis: RedisServer) -> Keys:
    """Give a test keys of its own."""
    return Keys(redis, f"test{next(PREFIXES)}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file of SQLite's that is not there yet."""
    return tmp_path / "events.db"
