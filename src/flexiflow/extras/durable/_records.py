"""What a bridge and a transport pass to each other; `_transport` explains the words."""

from __future__ import annotations

import sys
from typing import Literal, NamedTuple, TypeAlias


class Record(NamedTuple):
    """One event, ready to be stored.

    Attributes:
        body: the event in the form of CloudEvents; a transport does not look into it.
        key: selects the partition: records of one key are in the same one; None for any.
        group: the only group that is to handle it, if it was redriven (X3); None for all groups.

    Example:
        >>> from flexiflow.extras.durable import Record
        >>> print(Record(b"{}", key="A7"))
        Record(body=b'{}', key='A7', group=None)
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
        is_lasting: whether the producer is remembered for ever, and not only for the transport's
            `idempotency_window` after its last batch (Y4).

    Example:
        >>> from flexiflow.extras.durable import Batch, Record
        >>> batch = Batch("shop-1", 1, (Record(b"{}"), Record(b"{}")))
        >>> print(batch.number, len(batch.records))
        1 2
    """

    producer: str
    number: int
    records: tuple[Record, ...]
    is_lasting: bool = False


Start: TypeAlias = Literal["oldest", "new"] | float | tuple[str, ...]
"""Where a group begins (Y5).

With the oldest record that is kept; with the next one that is stored; with the first one that was
stored at a time or later, in seconds since 1970 by the transport's clock; or behind a position in
each partition, in their order, as `Connection.tail` returns them.

For a time, the first such record in the order of the log counts, also if the clock was set back
since and later records have earlier times. A record whose time is not known, since an earlier
release or other software has stored it, counts as late, so that none is skipped that may be wanted.
If there is no such record, the group begins with the next one that is stored.
"""


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
        start: where the group begins if this is its first member; ignored if there is a group.

    Example:
        >>> from flexiflow.extras.durable import Member
        >>> member = Member("billing", "worker-1", "a token", ("order.*",), lease=30.0)
        >>> print(member.group, member.start)
        billing oldest
    """

    group: str
    consumer: str
    token: str
    patterns: tuple[str, ...]
    lease: float
    longest_delay: float = 30.0
    start: Start = "oldest"


class Room(NamedTuple):
    """How much a worker can receive.

    Attributes:
        records: how many records at most; 1 or more.
        size: how many bytes their bodies may have together (X14); at least the transport's
            `max_event_bytes`, so that one record always fits.
        waiting: while this many records of the partition wait, no record that is new to the group
            is given (X12); 1 or more.
        again: how many of the records may be ones that have waited (X12); 0 or more.

    Example:
        >>> from flexiflow.extras.durable import Room
        >>> print(Room(records=100, size=4_000_000).records)
        100
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

    Example:
        >>> import anyio
        >>> from flexiflow.extras.durable import Batch, Member, MemoryTransport, Record, Room
        >>> async def main():
        ...     async with MemoryTransport().connect() as connection:
        ...         await connection.store(Batch("shop-1", 1, (Record(b"{}"),)))
        ...         member = Member("billing", "worker-1", "token", ("**",), lease=30.0)
        ...         await connection.join(member)
        ...         lease = await connection.acquire(member, 0)
        ...         for delivery in await lease.receive(Room(10)):
        ...             print(delivery.position, delivery.body, delivery.deliveries)
        >>> anyio.run(main)
        1 b'{}' 1
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

    Example:
        >>> from flexiflow.extras.durable import Buried, Failure
        >>> failure = Failure("builtins.ValueError", "negative total", "")
        >>> print(Buried("17", attempts=1, deliveries=1, failure=failure).failure.message)
        negative total
    """

    type: str
    message: str
    traceback: str


class DeadLetter(NamedTuple):
    """An event that a group has given up.

    Attributes:
        id: the id by which it is redriven; unique in its group.
        body: the event as it was stored.
        failure: why it was given up.
        attempts: how many attempts failed.
        deliveries: how many attempts had begun since the last one that ended.
        time: when it was given up, in seconds since 1970.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.extras.durable import MemoryTransport, open_bridge
        >>> async def main():
        ...     bus, transport = EventBus(), MemoryTransport()
        ...     await bus.subscribe("order.placed", "billing", lambda order: 1 / 0)
        ...     async with open_bridge(
        ...         bus, transport, incoming=["order.*"], group="billing", max_attempts=1
        ...     ) as bridge:
        ...         await bridge.schedule("order.placed", "A7", delay=0)
        ...         while not bridge.statistics().dead:
        ...             await anyio.sleep(0.001)
        ...         [letter] = await bridge.dead_letters()
        ...     print(letter.failure.message, letter.attempts)
        >>> anyio.run(main)
        division by zero 1
    """

    id: str
    body: bytes
    failure: Failure
    attempts: int
    deliveries: int
    time: float


class Stored(NamedTuple):
    """A record as `Connection.tail` returns it.

    Attributes:
        partition: the partition that it is in.
        position: its position there.
        body: as in `Record`; if it has more than `max_event_bytes`, any part from its beginning, or
            nothing (X14).
        group: as in `Record`.
        time: when it was stored in the log, in seconds since 1970 by the transport's clock; None if
            that is not known: an earlier release, or other software, has stored it (Y5).

    Example:
        >>> import anyio
        >>> from flexiflow.extras.durable import Batch, MemoryTransport, Record
        >>> async def main():
        ...     async with MemoryTransport().connect() as connection:
        ...         await connection.store(Batch("shop-1", 1, (Record(b"{}"),)))
        ...         [stored], _ = await connection.tail(("0",), limit=10, wait=0.0)
        ...         print(stored.partition, stored.position, stored.body)
        >>> anyio.run(main)
        0 1 b'{}'
    """

    partition: int
    position: str
    body: bytes
    group: str | None
    time: float | None = None


class ScheduledRecord(NamedTuple):
    """A record that is stored in its log when its time has come (Y3).

    Attributes:
        ticket: names it; made by `Connection.new_ticket`.
        partition: the partition that it will be in.
        due: its time, in seconds since 1970 by the transport's clock.
        record: the record.

    Example:
        >>> import anyio
        >>> from flexiflow.extras.durable import MemoryTransport, Record
        >>> async def main():
        ...     async with MemoryTransport().connect() as connection:
        ...         await connection.schedule(connection.new_ticket(None), Record(b"{}"), at=4e9)
        ...         for scheduled in await connection.scheduled():
        ...             print(scheduled.due, scheduled.record.body)
        >>> anyio.run(main)
        4000000000.0 b'{}'
    """

    ticket: str
    partition: int
    due: float
    record: Record


class Replayed(NamedTuple):
    """What `Connection.replay` did (Y5).

    Attributes:
        after: for each partition the position behind which the group begins again.
        is_complete: whether all records that were stored after the given place or time are still
            kept. If not, the group begins again with the oldest that are kept, and the deleted
            ones do not count as missed.

    Example:
        >>> import anyio
        >>> from flexiflow.extras.durable import Member, MemoryTransport
        >>> async def main():
        ...     async with MemoryTransport().connect() as connection:
        ...         member = Member("billing", "worker-1", "token", ("**",), lease=30.0)
        ...         await connection.join(member)
        ...         print(await connection.replay("billing", "oldest"))
        >>> anyio.run(main)
        Replayed(after=('0',), is_complete=True)
    """

    after: tuple[str, ...]
    is_complete: bool
