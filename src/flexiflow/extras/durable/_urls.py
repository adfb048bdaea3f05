"""Transports from URLs, for command lines and configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flexiflow.extras._urls import COUNT, MODE, NUMBER, TEXT, TRUTH, Reader, Scheme
from flexiflow.extras.durable._redis.transport import RedisTransport
from flexiflow.extras.durable._sqlite.transport import SqliteTransport

if TYPE_CHECKING:
    from flexiflow.extras.durable._transport import Transport

_BOTH: Final = {
    "partitions": COUNT,
    "max_length": COUNT,
    "idempotency_window": NUMBER,
    "max_event_bytes": COUNT,
}
_SQLITE: Final = {**_BOTH, "poll_interval": NUMBER, "busy_timeout": NUMBER, "mode": MODE}
_REDIS: Final = {
    **_BOTH,
    "prefix": TEXT,
    "replicas": COUNT,
    "connect_timeout": NUMBER,
    "timeout": NUMBER,
    "cluster": TRUTH,
}


def transport_from_url(url: str) -> Transport:
    """Return the transport that a URL names; nothing is opened yet.

    Args:
        url: `sqlite:events.db`, `sqlite:///absolute/path.db`,
            `redis://[user:password@]host[:port][/database]`, or the same with `rediss` for TLS.
            The transport's options follow a question mark, by name and separated by `&`:
            `?partitions=4&max_length=100000`. Characters with a meaning in URLs, such as `?`, `#`
            and `%`, are written as `%3F`, `%23` and `%25`.

    Raises:
        TypeError: it is no str.
        ValueError: it names no transport, or an option is unknown or out of its range. The message
            never shows a password.

    Example:
        >>> from flexiflow.extras.durable import transport_from_url
        >>> print(type(transport_from_url("sqlite:events.db?partitions=4")).__name__)
        SqliteTransport
    """
    schemes: dict[str, Scheme[Transport]] = {
        "sqlite": Scheme("sqlite:", SqliteTransport, _SQLITE),
        "redis": Scheme("redis://", RedisTransport, _REDIS),
        "rediss": Scheme("rediss://", RedisTransport, _REDIS),
    }
    return Reader("transport", "sqlite:events.db", schemes).read(url)
