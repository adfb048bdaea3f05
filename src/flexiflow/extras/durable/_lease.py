"""What a worker asks of a transport; `_transport` explains the words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from flexiflow.extras.durable._outcomes import Outcome, Settled
    from flexiflow.extras.durable._records import Delivery, Room


class Lease(Protocol):
    """The right to be given the records of one partition.

    A lease that has run out goes on working, and may be renewed, as long as no other lease was
    given what it holds: a record, or, where a partition is leased to one worker at a time, the
    partition (X11).

    Every method raises `TransportUnavailable` after a bounded wait, with nothing lost: it may be
    called again with the same arguments. Every method raises `LeaseLost` once the lease is gone:
    it was released, its group was forgotten or has begun again (Y5), its partition was leased
    exclusively to another worker, it ran out `KEPT_FOR` seconds ago and holds nothing, or the log
    is no longer the one that was leased (X13). No method is called by two tasks at once; `receive`
    and `wait` are called while others run.

    Example:
        >>> import anyio
        >>> from flexiflow.extras.durable import Acknowledged, Member, MemoryTransport, Room
        >>> async def main():
        ...     async with MemoryTransport().connect() as connection:
        ...         member = Member("billing", "worker-1", "token", ("**",), lease=30.0)
        ...         await connection.join(member)
        ...         lease = await connection.acquire(member, 0)
        ...         for delivery in await lease.receive(Room(10)):
        ...             await lease.settle([Acknowledged(delivery.position)])
        ...         print(lease.partition, lease.token)
        >>> anyio.run(main)
        0 1
    """

    @property
    def partition(self) -> int:
        """The partition."""
        ...

    @property
    def token(self) -> int:
        """A fencing token: greater than that of each earlier lease of the partition (X4)."""
        ...

    @property
    def lines(self) -> Collection[str]:
        """The keys whose records waited in the partition when it was leased to one worker (X12).

        Empty if all workers of a group share a log.
        """
        ...

    @property
    def replay(self) -> int:
        """The number of the group's replay when this was leased (Y5).

        It grows with each replay, and with each new group of that name, also if that was forgotten
        meanwhile; to compare, not to count.
        """
        ...

    async def receive(self, room: Room) -> Sequence[Delivery]:
        """Return records for this worker, without waiting for any.

        First come records that workers without a lease have left, then up to `room.again` records
        that have waited and are due, and then, in order, records that are new to the group. A
        member whose patterns are not those that the group takes receives nothing (X15).

        Returns:
            The records, possibly none. If a call is cancelled or fails, its records are returned by
            a later call by this lease, or after `release` by another lease.
        """
        ...

    async def wait(self, seconds: float) -> None:
        """Wait until there may be something to receive, or `seconds` have passed.

        Returns at once if something came after the last `receive` had looked.
        """
        ...

    async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
        """Write the outcomes of records that are held: all of them, or none.

        Settling a record again changes nothing.

        If another lease holds a record by now, its outcome is not written, but only that an attempt
        has ended: the attempts of the record become at least the outcome's, and its deliveries at
        most 1. If the outcome was `Acknowledged`, and the other lease lets the record
        go unsettled, it is settled then; if it was the first of its key's line, the next one is due
        (X11). The same is written for a lease whose partition was leased exclusively to another
        worker, and then `LeaseLost` is raised. Nothing is written if the group was forgotten since,
        even if there is a new one of that name, or has begun again (Y5).
        """
        ...

    async def renew(self, positions: Sequence[str] = ()) -> Sequence[str]:
        """Make the lease last its full time from now on.

        Args:
            positions: the positions of records that it holds, as far as its worker knows.

        Returns:
            Those of them that it does not hold any more.
        """
        ...

    async def release(self) -> None:
        """End the lease; what it still holds may be given to others at once, with its counts."""
        ...
