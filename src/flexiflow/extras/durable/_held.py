"""An event that this worker holds, and what a handler may know of it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow._bus import EventBus
    from flexiflow.extras.durable._cloudevents import CloudEvent
    from flexiflow.extras.durable._transport import Delivery, Lease, Transport

IntakeT = TypeVar("IntakeT")


class Origin(NamedTuple):
    """Where events come from, and where they are handed on.

    Attributes:
        bus: where they are handed on.
        transport: where they come from,
        lease: and by which lease.
    """

    bus: EventBus
    transport: Transport
    lease: Lease


class CurrentDelivery(NamedTuple):
    """The event that a bridge is handing on, as `current_delivery` shows it to a handler.

    Attributes:
        id: the event's; the same at each attempt. With `source` it tells the event from all others.
        source: who published it.
        name: the event's name.
        time: when it was published, in RFC 3339's form, or None.
        key: the events of one key are handled in order (X4); None where it has none.
        attempt: which attempt this is, the first being 1; those that a crash ended don't count.
        partition: where in the transport it is,
        position: and at which place there.
        token: the fencing token of the worker's lease: a greater one is a later worker's (X4).
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


@final
class Held(Generic[IntakeT]):
    """An event that was given to this worker, and is not settled.

    Args:
        intake: what holds it.
        origin: where it comes from.
        event: the event.
        delivery: how it was given.

    Attributes:
        attempts: how many attempts have failed.
        deliveries: how many have begun since the last one that ended, as the transport knows it.
        is_suspect: whether it may have been what its last worker died of.
        is_counted: whether `deliveries` counts this worker's attempt.
        is_running: whether a handler runs.
        cancel: cancels the task that handles it, once one does.
        has_waited: whether it waited at the transport before it was given (X12).
        size: how many bytes it has as it is stored.
        seen_by: the bridges that have seen the publish that hands it on (X8).
    """

    __slots__ = (
        "attempts",
        "cancel",
        "data",
        "deliveries",
        "event",
        "has_waited",
        "intake",
        "is_counted",
        "is_running",
        "is_suspect",
        "key",
        "name",
        "origin",
        "position",
        "seen_by",
        "size",
    )

    def __init__(
        self, intake: IntakeT, origin: Origin, event: CloudEvent, delivery: Delivery
    ) -> None:
        self.intake = intake
        self.origin = origin
        self.event = event
        self.name = event.name
        self.key = event.key
        self.data: Any = event.data
        self.position = delivery.position
        self.attempts = delivery.attempts
        self.deliveries = delivery.deliveries
        self.is_suspect = delivery.is_suspect
        self.is_counted = not delivery.is_suspect
        self.is_running = False
        self.cancel: Callable[[], None] = _nothing
        self.has_waited = delivery.has_waited
        self.size = len(delivery.body)
        self.seen_by: set[object] | None = None


def _nothing() -> None:
    """Cancel nothing."""


handing_on: Final[ContextVar[Held[Any] | None]] = ContextVar("handing_on", default=None)
"""The event that is being handed on by the bridge that the current task works for."""


def current_delivery() -> CurrentDelivery | None:
    """Tell a handler which stored event it is called for, so that it can tell a repetition.

    Returns:
        The delivery; None where no bridge hands an event on, and in a task that outlived that.
    """
    held = handing_on.get()
    if held is None or not held.is_running:
        return None
    id_, source, name, time, key, _ = held.event
    lease = held.origin.lease
    return CurrentDelivery(
        id_, source, name, time, key, held.attempts + 1, lease.partition, held.position, lease.token
    )


def is_echo(name: str, data: object, origin: tuple[EventBus, Transport], bridge: object) -> bool:
    """Tell whether a publish is the one by which a stored event is handed on (X8).

    A bridge hears that one before any handler runs. What it hears later is a handler's, though it
    may look the same.

    Args:
        name: the name of what is published.
        data: its payload.
        origin: where it is published, and the transport that it would go out to.
        bridge: who asks.
    """
    held = handing_on.get()
    if held is None or held.data is not data or held.name != name or held.origin[:2] != origin:
        return False
    if held.seen_by is None:
        held.seen_by = set()
    if bridge in held.seen_by:
        return False
    held.seen_by.add(bridge)
    return True
