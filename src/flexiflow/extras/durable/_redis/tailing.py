"""Looking at stored records on Redis servers, without a group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

import anyio

from flexiflow.extras.durable._logs import PAGE_BYTES
from flexiflow.extras.durable._records import Stored
from flexiflow.extras.durable._redis.entries import fields
from flexiflow.extras.durable._redis.scripts import TAIL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexiflow.extras.durable._redis.network import Network

# The seconds between looks.
_GLANCE: Final = 0.05


@final
class Tailing:
    """Looks at stored records.

    Args:
        network: the servers.
        partitions: how many partitions there are.
        max_event_bytes: how many bytes an event may have.
    """

    def __init__(self, network: Network, partitions: int, max_event_bytes: int) -> None:
        self._network = network
        self._partitions = partitions
        self._max_event_bytes = max_event_bytes
        # The partition at which the next look begins, so that each has its turn.
        self._first = 0

    async def read(
        self, after: Sequence[str] | None, limit: int, wait: float
    ) -> tuple[Sequence[Stored], Sequence[str]]:
        """Return stored records, and the positions behind them; see `Connection.tail`."""
        positions = [""] * self._partitions
        if after is not None:
            # A stream takes "0" as "0-0", but the script compares both parts.
            positions = [each if "-" in each else f"{each}-0" for each in after]
        found: list[Stored] = []
        await self._read(positions, limit, found)
        with anyio.move_on_after(wait):
            while not found:
                await anyio.sleep(_GLANCE)
                await self._read(positions, limit, found)
        return found, positions

    async def _read(self, positions: list[str], limit: int, found: list[Stored]) -> None:
        most = self._max_event_bytes
        room = max(PAGE_BYTES, most)
        for each in range(self._first, self._first + self._partitions):
            partition = each % self._partitions
            _, entries, last, room = await self._network.run(
                partition, TAIL, positions[partition], limit, room, most
            )
            found += [_stored(partition, *each) for each in entries]
            positions[partition] = last.decode()
            if not room:
                self._first = (partition + bool(entries)) % self._partitions
                return


def _stored(partition: int, position: bytes, entry: list[bytes]) -> Stored:
    return Stored(partition, position.decode(), *fields(entry))
