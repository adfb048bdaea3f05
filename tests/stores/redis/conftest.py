"""What the tests of the store on Redis are given: a server, and keys of their own."""

from collections.abc import Generator

import pytest

from tests.stores.redis.keys import PREFIXES, Keys
from tools.redis_server import MISSING, RedisServer, find_server, redis_server


@pytest.fixture(scope="session")
def server() -> Generator[RedisServer]:
    """Run a Redis server that many tests share: each keeps to a prefix of its own."""
    if find_server() is None:
        pytest.skip(MISSING)
    with redis_server() as server:
        yield server


@pytest.fixture
def keys(server: RedisServer) -> Keys:
    """Return keys of the test's own."""
    return Keys(server, f"test{next(PREFIXES)}")


@pytest.fixture
def frail() -> Generator[Keys]:
    """Run a server of the test's own, which may be killed."""
    if find_server() is None:
        pytest.skip(MISSING)
    with redis_server(appendfsync="always") as server:
        yield Keys(server, "frail")
