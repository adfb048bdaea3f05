"""What a bridge asks of a transport: a log that outlives the process, and groups that read it.

A transport keeps *records* in one or more *partitions*, each a log in the order of storing. A
*group* reads every record of every partition; its *workers* share them. What a worker was given is
*pending* until it is *settled*. A worker holds a *lease*, and what it holds is given to others
once the lease has run out. Positions in a log are dense, so that a group can tell what is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager


class Record(NamedTuple):
    """One event, ready to be stored.

    Attributes:
        body: the event in the form of CloudEvents; a transport does not look into it.
        key: picks the partition, so that records of one key share one; None for any.
        group: the only group that is to handle it, where it was redriven (X3); None for all.
    """

    body: bytes
    key: str | None = None
    group: str | None = None


class Batch(NamedTuple):
    """Records that are stored together, once (X2).

    Attributes:
        producer: who stores them, as no other does.
        number: 1 for the producer's first batch, and one more for each that follows. It stores
            them one after another, and tries one again with the same number and records.
        records: one or more.
    """

    producer: str
    number: int
    records: tuple[Record, ...]


class Member(NamedTuple):
    """A worker of a group.

    Attributes:
        group: the group's name.
        consumer: the worker's name; no other that is alive has it.
        token: tells it from a namesake, as one that was there before a restart.
        patterns: the names of the events that the group takes.
        lease: after how many seconds of silence it counts as dead.
    """

    group: str
    consumer: str
    token: str
    patterns: tuple[str, ...]
    lease: float


class Delivery(NamedTuple):
    """A record that was given to a worker, and is pending.

    Attributes:
        position: where it is in its partition; what it is settled by.
        body: as it was stored; of an entry that something else wrote, whatever it holds.
        group: as it was stored.
        attempts: how many attempts to handle it have failed, of all workers.
        deliveries: how many attempts have begun since the last one that ended. The first delivery
            counts as one that has begun.
        is_suspect: whether a worker that held it died, or let it go unsettled, after an attempt had
            begun. One that was returned with no attempt begun is given with `deliveries` 1 again.
    """

    position: str
    body: bytes
    group: str | None
    attempts: int
    deliveries: int
    is_suspect: bool


class Failure(NamedTuple):
    """Why an event was given up.

    Attributes:
        type: the qualified name of the exception's class.
        message: what it said.
        traceback: its traceback, formatted; may be empty.
    """

    type: str
    message: str
    traceback: str


class Acknowledged(NamedTuple):
    """It was handled: it is pending no more."""

    position: str


class Noted(NamedTuple):
    """It goes on being held, and these are its counts from now on."""

    position: str
    attempts: int
    deliveries: int


class Returned(NamedTuple):
    """It is held no more: any worker, this one too, may be given it, with these counts."""

    position: str
    attempts: int
    deliveries: int


class Buried(NamedTuple):
    """It is pending no more, and a dead letter of its group (X3)."""

    position: str
    attempts: int
    deliveries: int
    failure: Failure


Outcome: TypeAlias = Acknowledged | Noted | Returned | Buried


class DeadLetter(NamedTuple):
    """An event that a group has given up.

    Attributes:
        id: what it is redriven by; unique in its group.
        body: the event, as it was stored.
        failure: why.
        attempts: how many attempts failed.
        deliveries: how many attempts had begun since the last one that ended.
        time: when, in seconds since the epoch.
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
        pending: how many records were given to workers, and are not settled.
        lag: how many were stored and not yet given to any.
        missed: how many were deleted before the group had settled them (X6).
        dead: how many dead letters there are.
    """

    pending: int
    lag: int
    missed: int
    dead: int


class Stored(NamedTuple):
    """A record as whoever looks on sees it.

    Attributes:
        partition: where it is.
        position: its place there.
        body: as in `Record`.
        group: as in `Record`.
    """

    partition: int
    position: str
    body: bytes
    group: str | None


class Lease(Protocol):
    """The right to be given the records of one partition.

    Every method raises `TransportUnavailable` after a bounded wait, with nothing lost: it may be
    called again with the same arguments. Every method raises `LeaseLost` once the lease has run out
    or was given to another; what was held is another's then. Methods are called by one task at a
    time each, `receive` while others run.
    """

    @property
    def partition(self) -> int:
        """The partition."""
        ...

    @property
    def token(self) -> int:
        """A fencing token: greater than that of each earlier lease of the partition (X4)."""
        ...

    async def receive(self, limit: int, wait: float) -> Sequence[Delivery]:
        """Be given records, in order: first those that workers without a lease have left.

        Args:
            limit: how many at most; 1 or more.
            wait: for how many seconds to wait for the first one.

        Returns:
            None or more. What a call that was cancelled or failed would have returned, a later one
            of this lease does, or after `release` that of another.
        """
        ...

    async def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Write down what became of records that are held: all, or none.

        To settle again what is settled changes nothing.
        """
        ...

    async def renew(self) -> Standing:
        """Hold the lease for as many seconds again, and tell how far the group is there."""
        ...

    async def release(self) -> None:
        """End the lease; what is still held may be given to others at once, with its counts."""
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
        """Whether one worker of a group at a time may lease a partition (X4)."""
        ...

    @property
    def max_length(self) -> int:
        """How many records a log may hold; a batch has at most so many. 1 or more."""
        ...

    async def store(self, batch: Batch) -> None:
        """Store all records, in order, durably, or raise.

        A batch whose number is not above that of the producer's last one is stored already, and is
        not stored again, for at least the transport's `idempotency_window` after it (X2).

        Raises:
            LogFull: nothing was stored by this call; with several partitions some may have been,
                where others filled one of them meanwhile.
        """
        ...

    async def join(self, member: Member) -> Sequence[str]:
        """Become a member of a group, or go on being one; a group is made by its first member.

        A new group is given what was stored before it.

        Returns:
            the names of the consumers that are alive, sorted, its own among them.

        Raises:
            ConsumerInUse: another one of that name, with another token, is alive.
            GroupMismatch: the others that are alive take other patterns.
        """
        ...

    async def leave(self, member: Member) -> None:
        """Be a member no more; harmless where it is none."""
        ...

    async def acquire(self, member: Member, partition: int) -> Lease | None:
        """Lease a partition, for the member's seconds; None where it is another's."""
        ...

    async def standing(self, group: str) -> Standing:
        """Tell how far a group is, over all partitions; zeros where there is none."""
        ...

    async def groups(self) -> Sequence[str]:
        """Name the groups that have ever had a member, sorted."""
        ...

    async def forget(self, group: str) -> None:
        """Delete a group, with its dead letters; so that the log need keep nothing for it."""
        ...

    async def dead_letters(
        self, group: str, *, after: str | None = None, limit: int = 100
    ) -> Sequence[DeadLetter]:
        """List dead letters of a group, the oldest first.

        Args:
            group: the group.
            after: the id of the last one that is not wanted; None to begin with the first.
            limit: how many at most.

        Raises:
            ValueError: `after` can't be an id of this transport's.
        """
        ...

    async def redrive(self, group: str, ids: Sequence[str]) -> int:
        """Store dead letters anew, for their group alone, and delete them; each at once (X3).

        What is no id of any is passed over.

        Returns:
            how many of them there were.
        """
        ...

    async def tail(
        self, after: Sequence[str] | None, limit: int, wait: float
    ) -> tuple[Sequence[Stored], Sequence[str]]:
        """Look on, without being a group.

        Args:
            after: a position for each partition; None to begin with what is stored next.
            limit: how many records of each partition at most.
            wait: for how many seconds to wait for the first one.

        Returns:
            the records, and the positions to go on from.
        """
        ...


class Transport(Protocol):
    """Where events outlive a process: what `open_bridge` is given."""

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        """Open it; several connections may be open at a time.

        Raises:
            TransportUnavailable: it can't be reached within a bounded time.
            TransportUnusable: what is there is no such transport.
        """
        ...
