"""Sees in a worker's process what its bridges begin to handle, and what they have settled (P7)."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, cast, final

from flexiflow.extras.durable import (
    Acknowledged,
    Buried,
    LeaseLost,
    MemoryTransport,
    Postponed,
    Returned,
)
from flexiflow.extras.durable._bridge.held import handing_on
from flexiflow.testing._crashing.journal import BEGAN, IN_MEMORY, LET_GO, SETTLED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from flexiflow import Event, EventBus
    from flexiflow.extras.durable import Connection, Lease, Member, Outcome, Settled, Transport
    from flexiflow.testing._crashing.journal import Journal


_ENDS: Final = (Acknowledged, Buried, Postponed, Returned)
"""The outcomes of attempts that have ended."""


@final
class Witness:
    """Writes down what the bridges of a process do; an instrument of their buses.

    Args:
        journal: where it is written.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        # By identity; they are kept, so that no other has the same.
        self._begun: dict[int, object] = {}

    def watch(self, bus: EventBus, transport: Transport, connection: Connection) -> Connection:
        """Watch a bridge that is being opened, and return what it is to use as its connection.

        Raises:
            ValueError: its transport keeps nothing.
        """
        is_lost = isinstance(transport, MemoryTransport)
        if is_lost:
            self._journal.tell(IN_MEMORY)
            raise ValueError("a MemoryTransport is lost with its process")
        bus.add_instrument(self)
        return cast("Connection", WatchedConnection(connection, self._journal))

    def publishing(self, _event: Event[Any], /) -> AbstractContextManager[object]:
        """Write down that the handling of a stored event begins, before any handler is called."""
        held = handing_on.get()
        if held is not None and held.scope is not None and id(held) not in self._begun:
            # Further publishes in the same attempt come from its handlers.
            self._begun[id(held)] = held
            cast("WatchedLease", held.origin.lease).begin(held.position, held.name)
        return nullcontext()


@final
class WatchedConnection:
    """A connection whose leases are watched; all else passes through."""

    def __init__(self, connection: Connection, journal: Journal) -> None:
        self._connection = connection
        self._journal = journal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def acquire(self, member: Member, partition: int) -> WatchedLease | None:
        """Lease a partition."""
        lease = await self._connection.acquire(member, partition)
        prefix = f"{self._connection.address} group {member.group}"
        return None if lease is None else WatchedLease(lease, prefix, self._journal)


@final
class WatchedLease:
    """A lease of which it is written down when attempts begin and end.

    An attempt has ended once the transport has confirmed its outcome, or the event is another
    lease's by now.
    """

    def __init__(self, lease: Lease, prefix: str, journal: Journal) -> None:
        self._lease = lease
        self._prefix = prefix
        self._journal = journal
        self._begun: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lease, name)

    def begin(self, position: str, name: str) -> None:
        """Write down that an attempt begins."""
        self._begun.add(position)
        self._journal.tell(BEGAN, [self._key(position), name])

    async def renew(self, positions: Sequence[str] = ()) -> Sequence[str]:
        """Renew the lease; what others hold by now may be handled by them."""
        lost = await self._lease.renew(positions)
        for position in lost:
            self._end(LET_GO, position)
        return lost

    async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
        """Write outcomes."""
        ended = [each for each in outcomes if isinstance(each, _ENDS)]
        try:
            settled = await self._lease.settle(outcomes)
        except LeaseLost:
            for each in ended:
                self._end(LET_GO, each.position)
            raise
        for each in ended:
            is_over = isinstance(each, Acknowledged | Buried) and each.position not in settled.lost
            self._end(SETTLED if is_over else LET_GO, each.position)
        return settled

    def _end(self, what: str, position: str) -> None:
        # What was never begun here, as what was only given back, is not of interest.
        if position in self._begun:
            self._begun.discard(position)
            self._journal.tell(what, self._key(position))

    def _key(self, position: str) -> str:
        """Return what names an event; it has another name after a replay of its group."""
        replay = f" replay {self._lease.replay}" if self._lease.replay else ""
        return f"{self._prefix}{replay} partition {self._lease.partition} position {position}"
