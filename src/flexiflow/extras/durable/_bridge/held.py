"""An event that this worker holds, and what a handler may know about it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar, final

if TYPE_CHECKING:
    from anyio import CancelScope

    from flexiflow._bus import EventBus
    from flexiflow.extras.durable._bridge.cloudevents import CloudEvent
    from flexiflow.extras.durable._errors import NewerVersion, NotDecodable
    from flexiflow.extras.durable._lease import Lease
    from flexiflow.extras.durable._records import Delivery
    from flexiflow.extras.durable._transport import Transport

IntakeT = TypeVar("IntakeT")


class Origin(NamedTuple):
    """Where events come from, and where they are published.

    Attributes:
        bus: the bus on which they are published.
        transport: the transport that they come from.
        lease: the lease by which they were received.
        group: the group whose lease it is.
    """

    bus: EventBus
    transport: Transport
    lease: Lease
    group: str


class CurrentDelivery(NamedTuple):
    """The stored event that a bridge is publishing, as `current_delivery` shows it to a handler.

    Attributes:
        id: the event's id, the same at each attempt; unique together with `source`.
        source: the publisher's name.
        name: the event's name.
        time: when it was published, in the form of RFC 3339, or None.
        key: the event's key, or None; the events of one key are handled in order (X4).
        attempt: the number of this attempt, from 1 on; attempts that a crash ended don't count.
        partition: the partition of the transport that the event is in.
        position: its position in that partition.
        token: the fencing token of the worker's lease; a later worker has a greater one (X4).
        group: the group whose worker handles the event.
        replay: a number that grows with each replay of the group, and with each new group of that
            name; to compare, not to count (Y5).
        depth: how many stored events the chain has up to this one, each published while the one
            before was handled; 1 for the first (Y2).

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.extras.durable import MemoryTransport, current_delivery, open_bridge
        >>> async def main():
        ...     bus, transport, done = EventBus(), MemoryTransport(), anyio.Event()
        ...     def pack(order):
        ...         delivery = current_delivery()
        ...         print(delivery.name, delivery.group, delivery.depth)
        ...         done.set()
        ...     await bus.subscribe("order.placed", "warehouse", pack)
        ...     async with open_bridge(bus, transport, incoming=["order.*"], group="all") as bridge:
        ...         await bridge.schedule("order.placed", "A7", delay=0)
        ...         await done.wait()
        >>> anyio.run(main)
        order.placed all 1
    """

    id: str
    source: str
    name: str
    time: str | None
    key: str | None
    attempt: int
    partition: int
    position: str
    token: int
    group: str
    replay: int
    depth: int


@final
class Held(Generic[IntakeT]):
    """An event that was given to this worker and is not settled.

    Args:
        intake: the intake that holds it.
        origin: where it comes from.
        event: the event.
        delivery: how it was given.

    Attributes:
        attempts: how many attempts have failed.
        deliveries: how many attempts have begun since the last one that ended, as the transport
            knows it.
        is_suspect: whether its last worker may have died of it.
        is_counted: whether `deliveries` includes this worker's attempt.
        scope: of the task that handles it; None if no handler of it is running.
        has_waited: whether it waited at the transport before it was given (X12).
        size: how many bytes it has as stored.
        seen_by: the places of bridges that have seen the publish of this event (X8).
        unread: why its payload could not be read; None for nearly all events (Y1).
    """

    __slots__ = (
        "attempts",
        "data",
        "deliveries",
        "event",
        "has_waited",
        "intake",
        "is_counted",
        "is_suspect",
        "key",
        "name",
        "origin",
        "position",
        "scope",
        "seen_by",
        "size",
        "unread",
    )

    def __init__(
        self, intake: IntakeT, origin: Origin, event: CloudEvent, delivery: Delivery
    ) -> None:
        self.intake = intake
        self.origin = origin
        self.event = event
        self.data: Any
        _, _, self.name, _, self.key, self.data, _, _ = event
        self.position, body, _, self.attempts, self.deliveries, is_suspect, has_waited, _ = delivery
        self.is_suspect = is_suspect
        self.is_counted = not is_suspect
        self.has_waited = has_waited
        self.size = len(body)
        self.scope: CancelScope | None = None
        self.seen_by: set[object] | None = None
        self.unread: NewerVersion | NotDecodable | None = None


handing_on: Final[ContextVar[Held[Any] | None]] = ContextVar("handing_on", default=None)
"""The stored event for whose handling the current task runs."""


def current_delivery() -> CurrentDelivery | None:
    """Return the stored event that the calling handler runs for, so that it can see a repetition.

    Returns:
        The delivery; None outside the handling of a stored event, also in a task that a handler
        started and that outlived the handling.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.extras.durable import MemoryTransport, current_delivery, open_bridge
        >>> async def main():
        ...     bus, transport, done = EventBus(), MemoryTransport(), anyio.Event()
        ...     def pack(order):
        ...         print(order, "attempt", current_delivery().attempt)
        ...         done.set()
        ...     await bus.subscribe("order.placed", "warehouse", pack)
        ...     async with open_bridge(bus, transport, incoming=["order.*"], group="all") as bridge:
        ...         await bridge.schedule("order.placed", "A7", delay=0)
        ...         await done.wait()
        >>> anyio.run(main)
        A7 attempt 1
    """
    held = handing_on.get()
    if held is None or held.scope is None:
        return None
    event, lease = held.event, held.origin.lease
    return CurrentDelivery(
        *event[:5],
        held.attempts + 1,
        lease.partition,
        held.position,
        lease.token,
        held.origin.group,
        lease.replay,
        event.depth,
    )


def is_echo(
    held: Held[Any], name: str, data: object, origin: tuple[EventBus, Transport], bridge: object
) -> bool:
    """Return whether a publish is the one by which a worker hands on a stored event (X8).

    A bridge sees that publish before any handler runs. Any later publish comes from a handler, even
    if it looks the same; so this is True once for each bridge and event.

    Args:
        held: the stored event for whose handling the publisher runs.
        name: the name of the event that is published.
        data: its payload.
        origin: the bus, and the transport that the event would be stored in.
        bridge: the bridge that asks.
    """
    if held.data is not data or held.name != name or held.origin[:2] != origin:
        return False
    if held.seen_by is None:
        held.seen_by = set()
    if bridge in held.seen_by:
        return False
    held.seen_by.add(bridge)
    return True
