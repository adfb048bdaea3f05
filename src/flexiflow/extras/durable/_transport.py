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

A call that failed with `TransportUnavailable` may be repeated with the same arguments. A batch has
a number, by which a transport recognises it (X2); settling again what is settled changes nothing;
and records that were given to a failed `receive` are given again by a later one.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from contextlib import AbstractAsyncContextManager


class Record(NamedTuple):
    """One event, ready to be stored.

    Attributes:
        body: the event in the form of CloudEvents; a transport does not look into it.
        key: selects the partition: records of one key are in the same one; None for any.
        group: the only group that is to handle it, if it was redriven (X3); None for all groups.
    """

    body: bytes
    key: str | None = None
    group: str | None = None


class Batch(NamedTuple):
    """Records that are stored together, once (X2).

    Attributes:
        producer: the name of the producer, unique among all.
        number: 1 for the producer's first batch, and one more for each that follows. A producer
            stores one batch after the other, and repeats one with the same number and records.
        records: the records, one or more.
    """

    producer: str
    number: int
    records: tuple[Record, ...]


class Member(NamedTuple):
    """A worker of a group.

    Attributes:
        group: the group's name.
        consumer: the worker's name; no other live worker of the group has it.
        token: tells it apart from another worker of that name, such as itself before a restart.
        patterns: the patterns of the events that it takes, in the form that `canonical` returns.
        lease: the seconds of silence after which it counts as dead.
        longest_delay: the longest wait of a record, in seconds. A record that would be due later is
            due then, so that a clock that was set back does not prolong a wait (X12).
    """

    group: str
    consumer: str
    token: str
    patterns: tuple[str, ...]
    lease: float
    longest_delay: float = 30.0


class Room(NamedTuple):
    """How much a worker can receive.

    Attributes:
        records: how many records at most; 1 or more.
        size: how many bytes their bodies may have together (X14); at least the transport's
            `max_event_bytes`, so that one record always fits.
        waiting: while this many records of the partition wait, no record that is new to the group
            is given (X12); 1 or more.
        again: how many of the records may be ones that have waited (X12); 0 or more.
    """

    records: int
    size: int = sys.maxsize
    waiting: int = sys.maxsize
    again: int = sys.maxsize


class Delivery(NamedTuple):
    """A record that was given to a worker, and is pending.

    Attributes:
        position: its position in the partition, by which it is settled.
        body: the body as it was stored; of an entry that other software wrote, whatever that holds;
            empty if it is too large to be read.
        group: the group as it was stored.
        attempts: how many attempts to handle it have failed, of all workers.
        deliveries: how many attempts have begun since the last one that ended. To be given the
            record counts as the beginning of the first attempt.
        is_suspect: whether a worker that held it died, or let it go unsettled, after an attempt had
            begun. A record that was returned or postponed with no attempt begun is no suspect, and
            is given with `deliveries` 1 again.
        has_waited: whether it was postponed before. Until it is acknowledged or buried, or waits
            again, no other of the waiting records of its key is given.
        oversize: how many bytes the body has if that is more than `max_event_bytes`, else 0 (X14).
    """

    position: str
    body: bytes
    group: str | None
    attempts: int
    deliveries: int
    is_suspect: bool
    has_waited: bool = False
    oversize: int = 0


class Failure(NamedTuple):
    """Why an event was given up.

    Attributes:
        type: the qualified name of the exception's class.
        message: the exception's message.
        traceback: its traceback, formatted; may be empty.
    """

    type: str
    message: str
    traceback: str


class Acknowledged(NamedTuple):
    """The record was handled, and is no longer pending."""

    position: str


class Noted(NamedTuple):
    """The record is still held, with these counts from now on."""

    position: str
    attempts: int
    deliveries: int


class Returned(NamedTuple):
    """The record is no longer held: any worker, this one too, may be given it, with these counts.

    A record that has waited waits again, and is due at once. Whether other workers may be given it
    before this lease ends is up to the transport.
    """

    position: str
    attempts: int
    deliveries: int


class Buried(NamedTuple):
    """The record is no longer pending, and is a dead letter of its group (X3)."""

    position: str
    attempts: int
    deliveries: int
    failure: Failure


class Postponed(NamedTuple):
    """The record waits, with its body, outside the log, to be given again with these counts (X12).

    While the lease that postponed it lasts, only that lease is given it; after that any is. The
    records of one key that wait by one lease form a line, in the order of their positions.

    Attributes:
        position: see `Delivery`.
        attempts: as in `Delivery`.
        deliveries: as in `Delivery`; 0 if no attempt is under way.
        delay: the seconds until it is due; None to wait in its key's line until the record before
            it is acknowledged or buried. If no record of that key waits, nor one is held that has
            waited, it is due at once.
        key: the event's key, or None.
    """

    position: str
    attempts: int
    deliveries: int
    delay: float | None
    key: str | None


class Followed(NamedTuple):
    """Asks whether records of a key still wait by this lease (X12); `Settled.over` is the answer.

    The first record of the key's line becomes due now, unless another record of the key has a due
    time, or is held after having waited. So asking again changes nothing.
    """

    key: str


Settling: TypeAlias = Acknowledged | Noted | Returned | Buried | Postponed
"""The outcome of a record."""

Outcome: TypeAlias = Settling | Followed


class Settled(NamedTuple):
    """The answer to `Lease.settle`.

    Attributes:
        lost: the positions of records whose outcomes were not written, since another lease holds
            them by now.
        over: the keys of `Followed` of which no record waits by this lease any more.
    """

    lost: Sequence[str] = ()
    over: Sequence[str] = ()


class DeadLetter(NamedTuple):
    """An event that a group has given up.

    Attributes:
        id: the id by which it is redriven; unique in its group.
        body: the event as it was stored.
        failure: why it was given up.
        attempts: how many attempts failed.
        deliveries: how many attempts had begun since the last one that ended.
        time: when it was given up, in seconds since 1970.
    """

    id: str
    body: bytes
    failure: Failure
    attempts: int
    deliveries: int
    time: float


class Standing(NamedTuple):
    """How far a group is, over all partitions or in one.

    Attributes:
        pending: how many records were given to workers and are not settled, not counting those that
            wait.
        lag: how many records were stored and not yet given to any worker.
        missed: how many were lost, or deleted before the group had settled them (X6, X13).
        dead: how many dead letters it has.
        waiting: how many records wait for their next attempt, or for others of their key (X12).
    """

    pending: int
    lag: int
    missed: int
    dead: int
    waiting: int = 0


class Stored(NamedTuple):
    """A record as `Connection.tail` returns it.

    Attributes:
        partition: the partition that it is in.
        position: its position there.
        body: as in `Record`; if it has more than `max_event_bytes`, any part from its beginning, or
            nothing (X14).
        group: as in `Record`.
    """

    partition: int
    position: str
    body: bytes
    group: str | None


class Lease(Protocol):
    """The right to be given the records of one partition.

    A lease that has run out goes on working, and may be renewed, as long as no other lease was
    given what it holds: a record, or, where a partition is leased to one worker at a time, the
    partition (X11).

    Every method raises `TransportUnavailable` after a bounded wait, with nothing lost: it may be
    called again with the same arguments. Every method raises `LeaseLost` once the lease is gone:
    it was released, its group was forgotten, its partition was leased exclusively to another
    worker, it ran out `KEPT_FOR` seconds ago and holds nothing, or the log is no longer the one
    that was leased (X13). No method is called by two tasks at once; `receive` and `wait` are called
    while others run.
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
        """The keys of which records waited in the partition when it was leased to one worker (X12).

        Empty if all workers of a group share a log.
        """
        ...

    async def receive(self, room: Room) -> Sequence[Delivery]:
        """Return records for this worker, without waiting for any.

        First come records that workers without a lease have left, then up to `room.again` records
        that have waited and are due, and then, in order, records that are new to the group. A
        member whose patterns are not those that the group takes receives nothing (X15).

        Returns:
            The records, possibly none. What a call that was cancelled or failed would have
            returned, a later call by this lease returns, or after `release` one by another lease.
        """
        ...

    async def wait(self, seconds: float) -> None:
        """Wait until there may be something to receive, or `seconds` have passed.

        Returns at once if something came after the last `receive` had looked.
        """
        ...

    async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
        """Write the outcomes of records that are held: all of them, or none.

        To settle again what is settled changes nothing.

        If another lease holds a record by now, its outcome is not written. What is written is that
        an attempt has ended: the attempts of the record become at least the outcome's, and its
        deliveries at most 1. If the outcome was `Acknowledged`, and the other lease lets the record
        go unsettled, it is settled then; if it was the first of its key's line, the next one is due
        (X11). The same is written for a lease whose partition was leased exclusively to another
        worker, and then `LeaseLost` is raised. Nothing is written if the group was forgotten since,
        even if there is a new one of that name.
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


class Connection(Protocol):
    """An open transport; its methods raise `TransportUnavailable` after a bounded wait."""

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

    async def join(self, member: Member) -> Sequence[str]:
        """Become a member of a group, or stay one; the first member creates the group.

        A new group is given the records that were stored before it, as far as they are kept. The
        group takes the patterns that include those of all its live members. Once this has returned,
        members with smaller patterns receive nothing: they stand by (X15).

        Returns:
            The names of the live consumers with the patterns that the group takes, sorted; among
            them the member's own, unless it has to stand by.

        Raises:
            ConsumerInUse: a live member has the same name and another token.
            GroupMismatch: the patterns neither include those of another live member, nor are
                included in them; the member has not joined.
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
        """Return the names of all groups that have ever had a member, sorted."""
        ...

    async def forget(self, group: str) -> None:
        """Delete a group with its dead letters, so that the log need not keep records for it."""
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
    """Where events outlive a process; passed to `open_bridge`."""

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        """Open a connection; several may be open at a time.

        Raises:
            TransportUnavailable: the transport can't be reached within a bounded time.
            TransportUnusable: what was found there is no such transport.
        """
        ...
