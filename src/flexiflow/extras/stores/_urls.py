"""Stores from URLs, for command lines and configuration."""

from __future__ import annotations

from typing import Final

from flexiflow._stores import StateStore
from flexiflow.extras._urls import COUNT, MODE, NUMBER, TEXT, Reader, Scheme
from flexiflow.extras.stores._memory import MemoryStateStore
from flexiflow.extras.stores._redis.store import RedisStateStore
from flexiflow.extras.stores._sqlite import SqliteStateStore

_MEMORY: Final = {"history": COUNT}
_SQLITE: Final = {"history": COUNT, "busy_timeout": NUMBER, "mode": MODE}
_REDIS: Final = {
    "history": COUNT,
    "prefix": TEXT,
    "timeout": NUMBER,
    "connect_timeout": NUMBER,
}
_READER: Final = Reader[StateStore](
    "store",
    "sqlite:state.db",
    {
        "memory": Scheme("memory:", MemoryStateStore, _MEMORY),
        "sqlite": Scheme("sqlite:", SqliteStateStore, _SQLITE),
        "redis": Scheme("redis://", RedisStateStore, _REDIS),
        "rediss": Scheme("rediss://", RedisStateStore, _REDIS),
    },
)


def store_from_url(url: str) -> StateStore:
    """Return the store that a URL names; nothing is opened yet.

    Args:
        url: `memory:`, `sqlite:state.db`, `sqlite:///absolute/path.db`,
            `redis://[user:password@]host[:port][/database]`, or the same with `rediss` for TLS.
            The store's options follow a question mark, by name and separated by `&`:
            `?history=4&prefix=shop`. Characters with a meaning in URLs, such as `?`, `#` and `%`,
            are written as `%3F`, `%23` and `%25`.

    Raises:
        TypeError: it is no str.
        ValueError: it names no store, or an option is unknown or out of its range. The message
            never shows a password.

    Example:
        >>> from flexiflow.extras.stores import store_from_url
        >>> print(type(store_from_url("sqlite:orders.db?history=10")).__name__)
        SqliteStateStore
    """
    return _READER.read(url)
