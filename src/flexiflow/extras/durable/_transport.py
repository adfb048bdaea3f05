"""What a bridge asks of a transport: a log that outlives the process, and groups that read it.

A transport keeps *records* in one or more *partitions*, each a log in the order of storing. A
*group* reads every record of every partition; its *workers* share them. A record that was given to
a worker is *pending* until it is *settled*. A worker holds a *lease*. Once that has run out, others
may be given what it holds; until they are, it goes on holding it (X11). A record that is to be
tried again later *waits* outside the log (X12). Positions in a log are dense, so that a group can
tell what is missing.
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
        patterns: the names of the events that the group takes, as `canonical` gives them.
        lease: after how many seconds of silence it counts as dead.
        longest_delay: for how many seconds a record waits at the most. What would be due later is
            due then: a clock that was set back does not prolong a wait (X12).
    """

    group: str
    consumer: str
    token: str
    patterns: tuple[str, ...]
    lease: float
    longest_delay: float = 30.0


class Room(NamedTuple):
    """What a worker can take in.

    Attributes:
        records: how many records at most; 1 or more.
        size: how many bytes their bodies may have together (X14). It is at least the transport's
            `max_event_bytes`, so that one always fits.
        waiting: no record that is new to the group is given while so many of the partition wait
            (X12); 1 or more.
        again: how many of the records may be such as have waited (X12); 0 or more.
    """

    records: int
    size: int = sys.maxsize
    waiting: int = sys.maxsize
    again: int = sys.maxsize


class Delivery(NamedTuple):
    """A record that was given to a worker, and is pending.

    Attributes:
        position: where it is in its partition; what it is settled by.
        body: as it was stored; of an entry that something else wrote, whatever it holds; empty
            where it is too large to be read.
        group: as it was stored.
        attempts: how many attempts to handle it have failed, of all workers.
        deliveries: how many attempts have begun since the last one that ended. The first delivery
            counts as one that has begun.
        is_suspect: whether a worker that held it died, or let it go unsettled, after an attempt had
            begun. One that was returned or postponed with no attempt begun is given with
            `deliveries` 1 again.
        has_waited: whether it was postponed before it was given. Of the records of its key that
            wait, no other is given until it is acknowledged or buried, or waits again.
        oversize: of a body with more bytes than `max_event_bytes`, how many it has; else 0 (X14).
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
    """It is held no more: any worker, this one too, may be given it, with these counts.

    One that has waited waits again, due at once; whether others may be given it before this lease
    ends is open.
    """

    position: str
    attempts: int
    deliveries: int


class Buried(NamedTuple):
    """It is pending no more, and a dead letter of its group (X3)."""

    position: str
    attempts: int
    deliveries: int
    failure: Failure


class Postponed(NamedTuple):
    """It waits, with its body, outside the log, and is given again with these counts (X12).

    While the lease that postponed it lasts, that one is given it, else any. Records with a key
    that wait by one lease form a line, in the order of their positions.

    Attributes:
        position: see `Delivery`.
        attempts: as in `Delivery`.
        deliveries: as in `Delivery`; 0 where no attempt is under way.
        delay: after how many seconds it is due; None to wait in its key's line until the one before
            it is acknowledged or buried. Where nothing of that key waits or is held that has
            waited, it is due at once.
        key: the event's key, or None.
    """

    position: str
    attempts: int
    deliveries: int
    delay: float | None
    key: str | None


class Followed(NamedTuple):
    """Ask whether anything of a key waits still by this lease (X12); `Settled.over` tells.

    The first record of the key's line is due now, unless another one of the key that has waited is
    due some time, or is held: so to say it again changes nothing.
    """

    key: str


Outcome: TypeAlias = Acknowledged | Noted | Returned | Buried | Postponed | Followed


class Settled(NamedTuple):
    """The answer to `Lease.settle`.

    Attributes:
        lost: the positions of outcomes that were not written down, since another lease holds the
            record by now.
        over: the keys of `Followed` of which nothing waits any more by this lease.
    """

    lost: Sequence[str] = ()
    over: Sequence[str] = ()


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
        pending: how many records were given to workers, and are not settled; without those that
            wait.
        lag: how many were stored and not yet given to any.
        missed: how many were lost, or deleted before the group had settled them (X6, X13).
        dead: how many dead letters there are.
        waiting: how many wait for their next attempt, or for others of their key (X12).
    """

    pending: int
    lag: int
    missed: int
    dead: int
    waiting: int = 0


class Stored(NamedTuple):
    """A record as whoever looks on sees it.

    Attributes:
        partition: where it is.
        position: its place there.
        body: as in `Record`; of one with more than `max_event_bytes` any part from its beginning,
            or nothing (X14).
        group: as in `Record`.
    """

    partition: int
    position: str
    body: bytes
    group: str | None


class Lease(Protocol):
    """The right to be given the records of one partition.

    A lease that has run out goes on working, and may be renewed, as long as no other lease was
    given what it holds: a record, or where a partition is leased to one worker at a time, the
    partition (X11).

    Every method raises `TransportUnavailable` after a bounded wait, with nothing lost: it may be
    called again with the same arguments. Every method raises `LeaseLost` once the lease is gone:
    it was released, its group was forgotten, its partition was leased to another alone, it ran out
    `KEPT_FOR` seconds ago and holds nothing, or the log is not the one any more that it was a lease
    of (X13). Methods are called by one task at a time each, `receive` and `wait` while others run.
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

        Empty where all workers of a group share a log.
        """
        ...

    async def receive(self, room: Room) -> Sequence[Delivery]:
        """Be given records, without waiting for any.

        First come those that workers without a lease have left, then those that have waited and are
        due, so many of them as `room.again` says, and then, in order, those that are new to the
        group. Nothing is given to a member whose patterns are not those that the group takes (X15).

        Returns:
            None or more. What a call that was cancelled or failed would have returned, a later one
            of this lease does, or after `release` that of another.
        """
        ...

    async def wait(self, seconds: float) -> None:
        """Wait until there may be something to receive, for so many seconds at the most.

        Whatever came after the last `receive` had looked is not slept through.
        """
        ...

    async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
        """Write down what became of records that are held: all, or none.

        To settle again what is settled changes nothing. Of a record that another lease holds by
        now no outcome is written down, but that an attempt has ended: of its counts the attempts
        are at least the outcome's, and the deliveries at most 1. If it was acknowledged, and the
        other lease lets it go unsettled, it is settled then, and the next of its key's line is due
        if it was the first (X11). So much is written down of a lease, too, whose partition was
        leased to another alone; then `LeaseLost` is raised. Nothing is of a group that was
        forgotten since, even if there is one of that name again.
        """
        ...

    async def renew(self, positions: Sequence[str] = ()) -> Sequence[str]:
        """Hold the lease for as many seconds again.

        Args:
            positions: of records that it holds, as far as its worker knows.

        Returns:
            Those of them that it does not hold any more.
        """
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

    @property
    def max_event_bytes(self) -> int:
        """How many bytes the body of a record may have; 1 or more (X14)."""
        ...

    async def store(self, batch: Batch) -> None:
        """Store all records, in order, durably, or raise.

        A batch whose number is not above that of the producer's last one is stored already, and is
        not stored again, for at least the transport's `idempotency_window` after it (X2).

        Raises:
            LogFull: nothing was stored by this call; with several partitions some may have been,
                where others filled one of them meanwhile.
            EventTooLarge: a body has more bytes than `max_event_bytes`; nothing was stored.
        """
        ...

    async def join(self, member: Member) -> Sequence[str]:
        """Become a member of a group, or go on being one; a group is made by its first member.

        A new group is given what was stored before it. When this has returned, nothing is given to
        a member that is alive and whose patterns include less than those of another one (X15).

        Returns:
            the names of the consumers that are alive and take what the group takes, which are the
            patterns that include all others, sorted; its own, unless it has to stand by.

        Raises:
            ConsumerInUse: another one of that name, with another token, is alive.
            GroupMismatch: its patterns neither include those of another one that is alive, nor are
                included by them; it is no member then.
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

        Returns:
            None only where there are none after that. Fewer than asked for where they are large.

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
