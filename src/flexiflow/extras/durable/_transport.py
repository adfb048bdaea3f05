"""What a bridge asks of a transport: logs that outlive the process, and groups that read them.

A transport stores *records*, one for each event, in one or more *partitions*. A partition is a log:
its records are in the order of storing. Their positions are dense, so that a missing record shows.

A *group* reads every record of every partition; its *workers* share them. A worker receives by a
*lease* of a partition, whose *fencing token* is greater than those of all leases before. Either the
workers of a group share one log, and each has a lease of it, or leases are *exclusive*: each
partition is leased to one worker of the group at a time (X4).

A record that was *given* to a worker is *pending* until it is *settled*: acknowledged, or buried as
a dead letter. Instead of settling it the worker may return it, for any worker to be given, or
postpone it. A postponed record *waits*, with its body, outside the log, and is given again when it
is due. Records of one key may wait in a *line*, of which only the first is due (X12).

In each group at most one lease holds a record. A lease that has *run out*, because it was not
renewed in time, goes on holding its records until they are given to others (X11). After that its
worker may only report that an attempt has ended, so that it does not count as the worker's death.

A record may also be *scheduled*: then it is stored in its log when its time has come by the
transport's clock, before anything that is stored or given later (Y3). Until then nothing but its
ticket can name it.

A call that failed with `TransportUnavailable` may be repeated with the same arguments. A batch has
a number, by which a transport recognises it (X2), and a scheduled record its ticket (Y3); settling
again what is settled changes nothing; and records that were given to a failed `receive` are given
again by a later one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from flexiflow.extras.durable._lease import Lease
    from flexiflow.extras.durable._records import (
        Batch,
        DeadLetter,
        Member,
        Record,
        Replayed,
        ScheduledRecord,
        Start,
        Stored,
    )
    from flexiflow.extras.durable._surveys import Standing, Survey


class Connection(Protocol):
    """An open transport; its methods raise `TransportUnavailable` after a bounded wait.

    Example:
        >>> import anyio
        >>> from flexiflow.extras.durable import Batch, MemoryTransport, Record
        >>> async def main():
        ...     async with MemoryTransport().connect() as connection:
        ...         await connection.store(Batch("shop-1", 1, (Record(b"{}", key="A7"),)))
        ...         [stored], positions = await connection.tail(("0",), limit=10, wait=0.0)
        ...         print(stored.body)
        >>> anyio.run(main)
        b'{}'
    """

    @property
    def address(self) -> str:
        """Where the transport is, without any secret."""
        ...

    @property
    def partitions(self) -> int:
        """How many partitions there are; 1 or more."""
        ...

    @property
    def is_exclusive(self) -> bool:
        """Whether only one worker of a group at a time may lease a partition (X4)."""
        ...

    @property
    def max_length(self) -> int:
        """How many records a log may hold, and so the most of a batch; 1 or more."""
        ...

    @property
    def max_event_bytes(self) -> int:
        """How many bytes the body of a record may have; 1 or more (X14)."""
        ...

    async def store(self, batch: Batch) -> None:
        """Store all records of a batch, in order and durably, or raise.

        A batch whose number is not above that of the producer's last one is stored already, and is
        not stored again. A producer is remembered for at least the transport's `idempotency_window`
        after its last batch (X2).

        Raises:
            LogFull: nothing was stored. With several partitions some records may have been, if
                others filled one of the partitions meanwhile.
            EventTooLarge: a body has more bytes than `max_event_bytes`; nothing was stored.
        """
        ...

    async def produced(self, producer: str) -> int:
        """Return the number of a producer's last batch; 0 if it is not known, or not any more."""
        ...

    def new_ticket(self, key: str | None) -> str:
        """Return a new ticket, for a record with this key; unique among all (Y3).

        It is of letters, digits and hyphens. It tells the transport, that is the file or the prefix
        on the server, from all others except copies of it, and says which partition the record will
        be in: the one of the key, or any.
        """
        ...

    async def schedule(
        self, ticket: str, record: Record, *, at: float | None = None, delay: float | None = None
    ) -> None:
        """Store a record durably, to be put into its log later (Y3).

        When its time has come it takes its place at the end of the log, also where the log holds
        `max_length` records already. A ticket that was used is not used again: the call does
        nothing. Tickets are remembered for at least the transport's `idempotency_window` after
        their records were put into a log or cancelled.

        Args:
            ticket: made by `new_ticket` of this transport, for the record's key.
            record: the record; it has no group.
            at: its time, in seconds since 1970; this or `delay` is None.
            delay: in how many seconds from now, by the transport's clock; 0 or more.

        Raises:
            ScheduleFull: the partition has as many of them as it may; nothing was stored.
            EventTooLarge: the body has more bytes than `max_event_bytes`; nothing was stored.
            ValueError: the ticket is of another transport.
        """
        ...

    async def cancel(self, ticket: str) -> bool:
        """Delete a scheduled record; return whether that was in time (Y3).

        Returns:
            True if the record was deleted, now or by an earlier call, and was in no log; False if
            it was put into its log, or nothing is known of the ticket.

        Raises:
            ValueError: the ticket is of another transport.
        """
        ...

    async def scheduled(
        self, *, after: ScheduledRecord | None = None, limit: int = 100
    ) -> Sequence[ScheduledRecord]:
        """Return scheduled records, in the order of their times, then of their tickets (Y3).

        Args:
            after: the record after which to begin; it need not be there any more. None to begin
                with the first.
            limit: how many at most.

        Returns:
            The records; empty only if there are none after that, fewer than `limit` also if they
            are large.
        """
        ...

    async def join(self, member: Member) -> Sequence[str]:
        """Become a member of a group, or stay one; the first member creates the group.

        A new group begins in each partition where its first member says (`Member.start`), and keeps
        to that also where the server forgets it (Y5).

        The group takes the patterns that include those of all its live members. Once this has
        returned, members with smaller patterns receive nothing: they stand by (X15).

        Returns:
            The names of the live consumers with the patterns that the group takes, sorted; among
            them the member's own, unless it has to stand by.

        Raises:
            ConsumerInUse: a live member has the same name and another token.
            GroupMismatch: the patterns neither include those of another live member, nor are
                included in them; the member has not joined.
            ValueError: the group is new, and `start` is no `Start`, or is not a position for each
                partition, or one is no position of this transport, or is not there yet.
            StartTrimmed: the group is new, and records behind such a position were deleted.
        """
        ...

    async def leave(self, member: Member) -> None:
        """Stop being a member; does nothing if it is none."""
        ...

    async def acquire(self, member: Member, partition: int) -> Lease | None:
        """Lease a partition, for `member.lease` seconds; None if it can't be had now."""
        ...

    async def standing(self, group: str) -> Standing:
        """Return how far a group is, over all partitions; zeros if there is no such group."""
        ...

    async def groups(self) -> Sequence[str]:
        """Return the names of the groups that `survey` tells of, sorted; this costs far less."""
        ...

    async def forget(self, group: str) -> None:
        """Delete a group with its dead letters, so that the log need not keep records for it."""
        ...

    async def replay(self, group: str, since: Start) -> Replayed:
        """Make a group begin again, or go on from a later place (Y5).

        All its leases end. In each partition, the records after the new place are given anew: they
        are dropped from the pending and the waiting records, and from the dead letters. Records
        before the new place stay as they are; those that were not given yet are passed over. A
        redriven record is a copy, and counts as being where its original is: if the original is
        given anew, the copy is dropped or passed over, in whatever state it is; otherwise the copy
        stays as it is. Records that were deleted meanwhile do not count as missed.

        Repeating the call after a failure may be one more replay, and changes nothing else.

        Raises:
            ValueError: there is no such group; or `since` is no `Start`, or is not a position for
                each partition, or one is no position of this transport, or is not there yet.
        """
        ...

    async def survey(self) -> Survey:
        """Return what a person wants to see of the transport (Y6)."""
        ...

    async def dead_letters(
        self, group: str, *, after: str | None = None, limit: int = 100
    ) -> Sequence[DeadLetter]:
        """Return dead letters of a group, the oldest first.

        Args:
            group: the group.
            after: the id after which to begin; None to begin with the oldest.
            limit: how many at most.

        Returns:
            The dead letters; empty only if there are none after that id, fewer than `limit` also if
            they are large.

        Raises:
            ValueError: `after` can't be an id of this transport.
        """
        ...

    async def redrive(self, group: str, ids: Sequence[str]) -> int:
        """Store dead letters anew, for their group alone, and delete them; both in one step (X3).

        Ids of no dead letter are ignored.

        Returns:
            How many of them existed.
        """
        ...

    async def discard(self, group: str, ids: Sequence[str]) -> int:
        """Delete dead letters for good (Y6); ids of no dead letter are ignored.

        Returns:
            How many of them existed.
        """
        ...

    async def tail(
        self, after: Sequence[str] | None, limit: int, wait: float
    ) -> tuple[Sequence[Stored], Sequence[str]]:
        """Return stored records, without being a group.

        Args:
            after: for each partition the position after which to begin; None to begin with the next
                record that is stored.
            limit: how many records of each partition at most.
            wait: how many seconds to wait for the first record.

        Returns:
            The records, and the positions to go on from.
        """
        ...


class Transport(Protocol):
    """Where events outlive a process; passed to `open_bridge`.

    Example:
        >>> from flexiflow.extras.durable import MemoryTransport, Transport, transport_from_url
        >>> def choose(url: str | None) -> Transport:
        ...     return MemoryTransport() if url is None else transport_from_url(url)
        >>> print(type(choose(None)).__name__)
        MemoryTransport
    """

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        """Open a connection; several may be open at a time.

        Raises:
            TransportUnavailable: the transport can't be reached within a bounded time.
            TransportUnusable: what was found there is no such transport.
        """
        ...
