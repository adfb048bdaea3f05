"""Waiting until there may be more to give to a lease, by a connection of its own."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Final, NamedTuple, final

import anyio
from anyio.lowlevel import checkpoint

from flexiflow.extras._redis.replies import Broken, Refused

if TYPE_CHECKING:
    from flexiflow.extras._redis.client import Wire
    from flexiflow.extras._redis.url import Server
    from flexiflow.extras.durable._redis.network import Network

# The longest wait in one go, in seconds: then `receive` looks for leases that have run out.
_TURN: Final = 1.0


class Seen(NamedTuple):
    """What the last `receive` saw, from which `wait` goes on.

    Attributes:
        given: the id up to which records were given.
        wakes: the id of the last wake of the group.
        sooner: the id of the last entry about a record that is due before all others.
        turn: the number of this lease's last settling before it.
        watches: whether the next record that is stored could be given.
        until: when there will be more to give, at the latest.
    """

    given: bytes
    wakes: bytes
    sooner: bytes
    turn: int
    watches: bool
    until: float


@final
class Waiter:
    """Waits for a lease.

    Args:
        network: the servers.
        partition: the partition.
        group: the group.
        name: the name of the lease on its server.
    """

    def __init__(self, network: Network, partition: int, group: str, name: bytes) -> None:
        self._network = network
        self._partition = partition
        self._group = group
        self._name = name
        self._opened: tuple[Wire, Server] | None = None

    async def wait(self, seen: Seen | None, seconds: float) -> None:
        """Wait until there may be more to give, at most so many seconds.

        Args:
            seen: what the last `receive` saw; None if there was none.
            seconds: how many seconds.
        """
        left = min(seconds, _TURN, seen.until - anyio.current_time()) if seen is not None else 0
        if seen is None or left <= 0:
            await checkpoint()
            return
        if self._opened is None or not self._opened[0].is_alive:
            self._opened = await self._network.open(self._partition)
        wire, server = self._opened
        # 0 would mean for ever.
        block = max(ceil(left * 1000), 1)
        is_over = False
        try:
            await wire.call(
                [("XREAD", "COUNT", 1, "BLOCK", block, "STREAMS", *self._streams(seen))],
                left + self._network.seconds,
            )
            is_over = True
        except (Broken, Refused) as error:
            raise self._network.explain(error, server) from error
        finally:
            if not is_over:
                self.close()

    def _streams(self, seen: Seen) -> list[str | bytes]:
        """Return the streams to wait for, followed by the ids after which to read them."""
        base, group = self._network.base(self._partition), self._group
        streams: dict[str | bytes, str | bytes] = {
            f"{base}:w:{group}": seen.wakes,
            f"{base}:sooner": seen.sooner,
            f"{base}:turn:{group}:".encode() + self._name: f"{seen.turn}-0",
        }
        if seen.watches:
            streams[f"{base}:log"] = seen.given
        return [*streams, *streams.values()]

    def close(self) -> None:
        """Close the connection."""
        if self._opened is not None:
            self._opened[0].close()
            self._opened = None
