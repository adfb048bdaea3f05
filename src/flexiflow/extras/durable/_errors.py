"""The exceptions of durable delivery; each writes its own message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from flexiflow._cancellation import leaves
from flexiflow._errors import FlexiFlowError
from flexiflow._text import shorten, show

if TYPE_CHECKING:
    from collections.abc import Collection

_LEFT: Final = "its bridge was left"


class TransportError(FlexiFlowError):
    """Base class of errors between a bridge and its transport.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.extras.durable import SqliteTransport, TransportError, open_bridge
        >>> async def main():
        ...     transport = SqliteTransport("no/such/folder/events.db")
        ...     try:
        ...         async with open_bridge(EventBus(), transport, outgoing=["order.*"]):
        ...             pass
        ...     except TransportError as error:
        ...         print(type(error).__name__)
        >>> anyio.run(main)
        TransportUnusable
    """


class TransportUnavailable(TransportError, ConnectionError):
    """The transport can't be reached, or does not answer in time; a later try may succeed (X6).

    Args:
        address: where the transport is, without any secret.
        reason: what was seen.

    Attributes:
        ticket: the ticket of the event that `Bridge.schedule` could not store, or of which it does
            not know whether it is stored; None from all other calls (Y3).

    Example:
        >>> import anyio
        >>> from flexiflow.extras.durable import RedisTransport, TransportUnavailable
        >>> async def main():
        ...     try:
        ...         async with RedisTransport("redis://localhost:1").connect():
        ...             pass
        ...     except TransportUnavailable as error:
        ...         print(error.address)
        >>> anyio.run(main)
        redis://localhost:1/0
    """

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(address, reason)
        self.address = address
        self.reason = reason
        self.ticket: str | None = None

    def __str__(self) -> str:
        """Name the address and what was seen."""
        return f"{self.address} is not available: {self.reason}"


@final
class NotReplicated(TransportUnavailable):
    """An event was stored, but not confirmed by as many replicas as asked for (X6).

    Args:
        address: where the transport is.
        confirmed: how many replicas have it.
        replicas: how many were asked for.

    Example:
        >>> from flexiflow.extras.durable import NotReplicated
        >>> print(NotReplicated("redis://localhost:6379", 1, 2))
        redis://localhost:6379 is not available: 1 of 2 replicas confirmed a write in time
    """

    def __init__(self, address: str, confirmed: int, replicas: int) -> None:
        super().__init__(address, f"{confirmed} of {replicas} replicas confirmed a write in time")
        self.args: tuple[str | int, ...] = (address, confirmed, replicas)


@final
class LogFull(TransportUnavailable):
    """The log holds as many events as it may, and some group has not settled the oldest (X5).

    Args:
        address: where the transport is.
        max_length: how many events the log may hold.

    Example:
        >>> import anyio
        >>> from flexiflow.extras.durable import Batch, LogFull, Member, MemoryTransport, Record
        >>> async def main():
        ...     async with MemoryTransport(max_length=1).connect() as connection:
        ...         member = Member("billing", "worker-1", "token", ("**",), lease=30.0)
        ...         await connection.join(member)
        ...         try:
        ...             for number in (1, 2):
        ...                 await connection.store(Batch("shop-1", number, (Record(b"{}"),)))
        ...         except LogFull:
        ...             print("there was no room for event", number)
        >>> anyio.run(main)
        there was no room for event 2
    """

    def __init__(self, address: str, max_length: int) -> None:
        super().__init__(
            address,
            f"its log is full: of {max_length} events the oldest is not yet settled by every group",
        )
        self.args: tuple[str | int, ...] = (address, max_length)


@final
class ScheduleFull(TransportUnavailable):
    """As many events are scheduled already as the transport takes at a time (Y3).

    Args:
        address: where the transport is.
        max_scheduled: how many events may be scheduled, for each partition.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.extras.durable import MemoryTransport, ScheduleFull, open_bridge
        >>> async def main():
        ...     transport = MemoryTransport(max_scheduled=1)
        ...     async with open_bridge(EventBus(), transport, outgoing=["order.*"]) as bridge:
        ...         try:
        ...             for order in ("A7", "A8"):
        ...                 await bridge.schedule("order.overdue", order, delay=60.0)
        ...         except ScheduleFull:
        ...             print(order, "was not scheduled")
        >>> anyio.run(main)
        A8 was not scheduled
    """

    def __init__(self, address: str, max_scheduled: int) -> None:
        super().__init__(
            address,
            f"{max_scheduled} events are scheduled, as many as may be; wait until one is due, or "
            "give the transport a higher max_scheduled",
        )
        self.args: tuple[str | int, ...] = (address, max_scheduled)


@final
class StartTrimmed(TransportError):
    """Events behind the position where a group was to begin were deleted (Y5).

    Args:
        group: the group.
        partition: the partition.
        position: the position that was given.
        oldest: the position just before the oldest event that is kept.

    Example:
        >>> from flexiflow.extras.durable import StartTrimmed
        >>> print(StartTrimmed("billing", 0, "17", "40").args)
        ('billing', 0, '17', '40')
    """

    def __init__(self, group: str, partition: int, position: str, oldest: str) -> None:
        super().__init__(group, partition, position, oldest)

    def __str__(self) -> str:
        """Name the group and the positions, and what would be right."""
        group, partition, position, oldest = self.args
        return (
            f"the group {group!r} can't begin behind position {position} of partition {partition}: "
            f"events behind it were deleted; {oldest} is the earliest position, and 'oldest' is "
            "always right"
        )


@final
class BridgeClosed(TransportUnavailable):
    """An event was not stored, since its bridge has failed or was left (X10).

    `__cause__` is the exception that ended the bridge. A later try succeeds once a bridge of the
    same bus, transport and outgoing events is open.

    Args:
        address: where the transport is.
        ended_by: the name of the exception that ended the bridge.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.extras.durable import BridgeClosed, MemoryTransport, open_bridge
        >>> async def main():
        ...     bus = EventBus(on_error="raise")
        ...     try:
        ...         async with open_bridge(bus, MemoryTransport(), outgoing=["order.*"]):
        ...             raise ValueError("something is wrong")
        ...     except ValueError:
        ...         pass
        ...     try:
        ...         await bus.publish("order.placed", "A7")
        ...     except BridgeClosed as error:
        ...         print(error.ended_by)
        >>> anyio.run(main)
        ValueError
    """

    def __init__(self, address: str, ended_by: str) -> None:
        super().__init__(address, _LEFT)
        self.args: tuple[str, ...] = (address, ended_by)
        self.ended_by = ended_by

    def __str__(self) -> str:
        """Name what ended the bridge, and what would be right."""
        return (
            f"{super().__str__()} by {self.ended_by}; open one of the same bus, transport and "
            "outgoing events, or call forget() of the one that was left"
        )


def left(address: str, cause: BaseException | None) -> TransportUnavailable:
    """Return the exception for a publish after the bridge has stopped storing events.

    Args:
        address: where the transport is.
        cause: what ended the bridge; None if nothing went wrong.
    """
    if cause is None:
        return TransportUnavailable(address, _LEFT)
    closed = BridgeClosed(address, type(cause).__qualname__)
    closed.__cause__ = cause
    return closed


@final
class TransportUnusable(TransportError):
    """What was found at the address can't serve as a transport; trying again would not help.

    Args:
        address: the address, without any secret.
        reason: what was found, and what would be right.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import anyio
        >>> from flexiflow.extras.durable import SqliteTransport, TransportUnusable
        >>> async def main(folder):
        ...     file = Path(folder, "events.db")
        ...     file.write_text("something else, and not a database of SQLite")
        ...     try:
        ...         async with SqliteTransport(file).connect():
        ...             pass
        ...     except TransportUnusable:
        ...         print("it was left as it is")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     anyio.run(main, folder)
        it was left as it is
    """

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(address, reason)
        self.address = address
        self.reason = reason

    def __str__(self) -> str:
        """Name the address, what was found, and what would be right."""
        return f"{self.address} can't be used: {self.reason}"


@final
class LeaseLost(TransportError):
    """A worker's lease of a partition is gone (X4, X11).

    Either the worker was silent for longer than its lease, and then the partition was leased to
    another worker, or this one held nothing for ten more minutes. Or it released the lease, or its
    group was forgotten, or the log is no longer the one that was leased (X13).

    Args:
        consumer: the worker's name.
        group: its group.
        partition: the partition of the lease.

    Example:
        >>> import anyio
        >>> from flexiflow.extras.durable import LeaseLost, Member, MemoryTransport
        >>> async def main():
        ...     async with MemoryTransport().connect() as connection:
        ...         member = Member("billing", "worker-1", "token", ("**",), lease=30.0)
        ...         await connection.join(member)
        ...         lease = await connection.acquire(member, 0)
        ...         await connection.forget("billing")
        ...         try:
        ...             await lease.renew()
        ...         except LeaseLost as error:
        ...             print(error)
        >>> anyio.run(main)
        'worker-1' of the group 'billing' lost its lease of partition 0
    """

    def __init__(self, consumer: str, group: str, partition: int) -> None:
        super().__init__(consumer, group, partition)

    def __str__(self) -> str:
        """Name the worker, the group, and the partition."""
        consumer, group, partition = self.args
        return f"{consumer!r} of the group {group!r} lost its lease of partition {partition}"


@final
class ConsumerInUse(TransportError):
    """Another worker of that name is alive in the group.

    Args:
        consumer: the name.
        group: the group.

    Example:
        >>> import anyio
        >>> from flexiflow.extras.durable import ConsumerInUse, Member, MemoryTransport
        >>> async def main():
        ...     async with MemoryTransport().connect() as connection:
        ...         try:
        ...             for token in ("first", "second"):
        ...                 member = Member("billing", "worker-1", token, ("**",), lease=30.0)
        ...                 await connection.join(member)
        ...         except ConsumerInUse as error:
        ...             print(error.args)
        >>> anyio.run(main)
        ('worker-1', 'billing')
    """

    def __init__(self, consumer: str, group: str) -> None:
        super().__init__(consumer, group)

    def __str__(self) -> str:
        """Name the consumer that is in use, and what would be right."""
        consumer, group = self.args
        return (
            f"the group {group!r} has a worker named {consumer!r} already, or had one within its "
            "lease; names must differ, and without one a worker gets a name of its own"
        )


@final
class GroupMismatch(TransportError):
    """Neither of two live workers of a group takes all events of the other (X15).

    Args:
        group: the group.
        taken: the patterns of the worker that was there before.
        given: the patterns of the worker that was to join.

    Example:
        >>> import anyio
        >>> from flexiflow.extras.durable import GroupMismatch, Member, MemoryTransport
        >>> async def main():
        ...     async with MemoryTransport().connect() as connection:
        ...         try:
        ...             for name in ("order", "mail"):
        ...                 member = Member("all", name, "token", (f"{name}.*",), lease=30.0)
        ...                 await connection.join(member)
        ...         except GroupMismatch as error:
        ...             print(error.args)
        >>> anyio.run(main)
        ('all', ('order.*',), ('mail.*',))
    """

    def __init__(self, group: str, taken: Collection[str], given: Collection[str]) -> None:
        super().__init__(group, tuple(taken), tuple(given))

    def __str__(self) -> str:
        """Name the patterns of both workers."""
        group, taken, given = self.args
        return (
            f"a worker of the group {group!r} takes {', '.join(map(shorten, taken))}, and this one "
            f"would take {', '.join(map(shorten, given))}: of two workers of a group one must take "
            "all that the other takes"
        )


@final
class NotEncodable(TransportError, ValueError):
    """A payload can't be encoded (X7).

    Args:
        event_name: the event's name.
        reason: what is wrong with its payload.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.extras.durable import MemoryTransport, NotEncodable, open_bridge
        >>> async def main():
        ...     bus = EventBus(on_error="raise")
        ...     async with open_bridge(bus, MemoryTransport(), outgoing=["order.*"]):
        ...         try:
        ...             await bus.publish("order.placed", object())
        ...         except NotEncodable as error:
        ...             print(error.args[0])
        >>> anyio.run(main)
        order.placed
    """

    def __init__(self, event_name: str, reason: str) -> None:
        super().__init__(event_name, reason)

    def __str__(self) -> str:
        """Name the event and what is wrong."""
        event_name, reason = self.args
        return f"the payload of {show(event_name)} can't be stored: {reason}"


@final
class NotDecodable(TransportError, ValueError):
    """A stored payload does not fit its schema (Y1).

    Args:
        event_name: the event's name.
        reason: what is wrong.

    Example:
        >>> from flexiflow.extras.durable import NotDecodable
        >>> print(NotDecodable("order.placed", "it has no 'id'"))
        the payload of 'order.placed' can't be read: it has no 'id'
    """

    def __init__(self, event_name: str, reason: str) -> None:
        super().__init__(event_name, reason)

    def __str__(self) -> str:
        """Name the event and what is wrong."""
        event_name, reason = self.args
        return f"the payload of {show(event_name)} can't be read: {reason}"


@final
class NewerVersion(TransportError):
    """A payload was stored by newer code, in a version that this code does not read (Y1).

    Args:
        event_name: the event's name.
        stored: the version that is stored.
        newest: the newest version that this code reads.

    Example:
        >>> from flexiflow.extras.durable import NewerVersion
        >>> print(NewerVersion("order.placed", stored=3, newest=2).args)
        ('order.placed', 3, 2)
    """

    def __init__(self, event_name: str, stored: int, newest: int) -> None:
        super().__init__(event_name, stored, newest)

    def __str__(self) -> str:
        """Name the event, both versions, and what would be right."""
        event_name, stored, newest = self.args
        return (
            f"the payload of {show(event_name)} is of version {stored}, and this worker's schema "
            f"reads up to version {newest}: a worker with the newer schema must be given it before "
            "all retries are over, by default after eleven minutes"
        )


@final
class TooDeep(TransportError):
    """An event is too deep in a chain of stored events, each published while another was handled.

    It is a dead letter at once, so that a loop across processes ends (Y2).

    Args:
        event_name: the event's name.
        depth: how many stored events the chain has, this one included.
        max_depth: how many it may have.

    Example:
        >>> from flexiflow.extras.durable import TooDeep
        >>> print(TooDeep("order.placed", depth=101, max_depth=100).args)
        ('order.placed', 101, 100)
    """

    def __init__(self, event_name: str, depth: int, max_depth: int) -> None:
        super().__init__(event_name, depth, max_depth)

    def __str__(self) -> str:
        """Name the event, and what would be right."""
        event_name, depth, most = self.args
        return (
            f"{show(event_name)} is event {depth} of a chain in which each was published while the "
            f"one before was handled, and max_depth is {most}: end the loop, or redrive it with a "
            "higher max_depth"
        )


@final
class EventTooLarge(TransportError, ValueError):
    """An event has more bytes than the transport takes (X14).

    Args:
        event_name: the event's name, or what is known of it.
        size: how many bytes it has, encoded.
        max_event_bytes: how many bytes it may have.

    Example:
        >>> import anyio
        >>> from flexiflow.extras.durable import Batch, EventTooLarge, MemoryTransport, Record
        >>> async def main():
        ...     async with MemoryTransport(max_event_bytes=100).connect() as connection:
        ...         try:
        ...             await connection.store(Batch("shop-1", 1, (Record(bytes(101)),)))
        ...         except EventTooLarge as error:
        ...             print(error.args[1:])
        >>> anyio.run(main)
        (101, 100)
    """

    def __init__(self, event_name: str, size: int, max_event_bytes: int) -> None:
        super().__init__(event_name, size, max_event_bytes)

    def __str__(self) -> str:
        """Name the event, its size, and what would be right."""
        event_name, size, most = self.args
        return (
            f"{show(event_name)} has {size} bytes as it is stored, and the transport takes {most}; "
            "max_event_bytes= of the transport allows more, or store where the payload is"
        )


@final
class WorkersDied(TransportError):
    """An event was given up since attempts to handle it began, but none of them ended (X3).

    Args:
        event_name: the event's name.
        deliveries: how many attempts.

    Example:
        >>> from flexiflow.extras.durable import WorkersDied
        >>> print(WorkersDied("order.placed", deliveries=3).args)
        ('order.placed', 3)
    """

    def __init__(self, event_name: str, deliveries: int) -> None:
        super().__init__(event_name, deliveries)

    def __str__(self) -> str:
        """Name the event and the number of attempts."""
        event_name, deliveries = self.args
        return (
            f"{deliveries} attempts to handle {show(event_name)} have begun since one last ended: "
            "the workers died, or were silent and lost it to others"
        )


def no_group(name: str) -> ValueError:
    """Return the exception for a name that no group has."""
    return ValueError(f"there is no group {show(name)}")


def is_an_outage(problem: Exception) -> bool:
    """Return whether a failure is only that of storing events, since the transport is away."""
    return all(isinstance(each, TransportUnavailable) for each in leaves(problem))
