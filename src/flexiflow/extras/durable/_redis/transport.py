"""A transport on Redis Streams, for processes on several machines.

All that is done to a partition is done by one Lua script on the server, so that it is done entirely
or not at all. `RedisConnection` and `RedisLease` call the scripts by the `Network`, which finds the
server of a partition, opens connections (`Wires`), and sees whether a server has lost something
(`Epochs`).
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, final

from flexiflow._arguments import check_finite, check_int
from flexiflow.extras._redis.lines import open_wires
from flexiflow.extras._redis.url import check_prefix, parse_url
from flexiflow.extras.durable._logs import MAX_EVENT_BYTES, MAX_SCHEDULED, check_limits
from flexiflow.extras.durable._redis.connection import RedisConnection
from flexiflow.extras.durable._redis.epochs import Epochs
from flexiflow.extras.durable._redis.network import Network

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from flexiflow.extras.durable._transport import Connection


@final
class RedisTransport:
    """A transport on Redis Streams: needs Redis 6.2 or later, and the extra `redis`.

    Args:
        url: `redis://[user:password@]host[:port][/database]`, or `rediss://` for TLS.
        partitions: how many logs there are, 1 to 65,536, each read by one worker of a group at
            a time (X4); None for one log that all workers of a group share. The same for all users
            of a prefix.
        max_length: how many records a log may hold, 1 to 10**12. Records that every group has
            settled are deleted when there is no room for new ones (X5).
        idempotency_window: for how many seconds after its last batch a producer is remembered (X2),
            and the ticket of a scheduled event after that was put into its log or cancelled (Y3).
        max_event_bytes: how many bytes an event may have as stored, 1 to 10**12; the same for all
            users of a prefix (X14).
        max_scheduled: how many events may be scheduled at a time, 1 to 10**12; for each log (Y3).
        prefix: what the transport's keys begin with; letters, digits and `._:-`.
        replicas: how many replicas must confirm what is stored (X6).
        connect_timeout: for how many seconds to try to connect, and as long again to log in.
        timeout: for how many seconds to wait for an answer.
        cluster: whether the server is a node of a cluster.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: an invalid URL, or a number out of its range. A password is not shown.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.extras.durable import RedisTransport, TransportUnavailable, open_bridge
        >>> transport = RedisTransport("redis://localhost:1", partitions=8, connect_timeout=1.0)
        >>> async def main():
        ...     try:
        ...         async with open_bridge(EventBus(), transport, outgoing=["order.*"]):
        ...             pass
        ...     except TransportUnavailable as error:
        ...         print(error.address)
        >>> anyio.run(main)
        redis://localhost:1/0
    """

    # So many by contract; a user gives one or two of them.
    def __init__(  # noqa: PLR0913
        self,
        url: str,
        *,
        partitions: int | None = None,
        max_length: int = 1_000_000,
        idempotency_window: float = 600.0,
        max_event_bytes: int = MAX_EVENT_BYTES,
        max_scheduled: int = MAX_SCHEDULED,
        prefix: str = "flexiflow",
        replicas: int = 0,
        connect_timeout: float = 5.0,
        timeout: float = 5.0,
        cluster: bool = False,
    ) -> None:
        self._server = parse_url(url)
        self._limits = check_limits(
            partitions=partitions,
            max_length=max_length,
            idempotency_window=idempotency_window,
            max_event_bytes=max_event_bytes,
            max_scheduled=max_scheduled,
        )
        self._replicas = check_int("replicas", replicas, "0 or more", least=0)
        self._timeout = check_finite("timeout", timeout)
        self._prefix = check_prefix(prefix)
        self._connect_timeout = check_finite("connect_timeout", connect_timeout)
        if cluster and self._server.database != 0:
            raise ValueError("a cluster has the database 0 only: leave it out of the URL")
        self._cluster = cluster

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Connection]:
        """Open a connection.

        Raises:
            ModuleNotFoundError: the extra `redis` is not installed.
            TransportUnavailable: the server can't be reached, or does not answer in time.
            TransportUnusable: the server refuses the login or is too old, or its keys have another
                layout.
        """
        async with open_wires(self._server, self._connect_timeout, "RedisTransport") as wires:
            network = Network(
                wires,
                self._server,
                Epochs(self._server.address, self._prefix, self._limits.partitions),
                prefix=self._prefix,
                seconds=self._timeout,
                is_cluster=self._cluster,
            )
            connection = RedisConnection(network, self._limits, self._replicas)
            await connection.open()
            yield connection
