"""A bridge's place on a bus, where events are stored before handlers run.

A `Place` is a number of subscriptions (X1, X8). It outlasts a bridge that fails, and then each
publish fails until another bridge takes the place over, or `forget` is called (X10). The `Lifetime`
of a bridge knows what ended it. So a place always has the lifetime of the last bridge in it.
"""

from __future__ import annotations

import reprlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final
from weakref import ref

from flexiflow._bus import dispatcher_of
from flexiflow._subscription import Terms
from flexiflow.extras.durable._bridge.carrying import carried
from flexiflow.extras.durable._bridge.cloudevents import NOTHING
from flexiflow.extras.durable._bridge.held import handing_on, is_echo
from flexiflow.extras.durable._bridge.json_text import is_key
from flexiflow.extras.durable._errors import NotEncodable
from flexiflow.extras.durable._patterns import Patterns
from flexiflow.extras.durable._records import Record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from flexiflow._bus import EventBus
    from flexiflow._names import Event
    from flexiflow._subscription import Subscription
    from flexiflow.extras.durable._bridge.batcher import Batcher
    from flexiflow.extras.durable._bridge.cloudevents import Encoder
    from flexiflow.extras.durable._bridge.lifetime import Lifetime
    from flexiflow.extras.durable._transport import Transport

BRIDGE: Final = "<bridge>"
"""The component name of a bridge's subscriptions."""

_FIRST: Final = 0
"""Their priority, which comes before all that users may give (B3)."""

_TAKES_EVENT: Final = Terms(takes_event=True)


class Way(NamedTuple):
    """How events are stored while a bridge is open.

    Attributes:
        origin: the bus, and the transport that events are stored in.
        key: returns an event's key, given its payload.
        encoder: encodes events.
        batcher: stores them.
    """

    origin: tuple[EventBus, Transport]
    key: Callable[[Any], str | None] | None
    encoder: Encoder
    batcher: Batcher


def take_place(patterns: tuple[str, ...], way: Way, lifetime: Lifetime) -> None:
    """Store the outgoing events of a bus from now on.

    If an earlier bridge of the same bus, transport and patterns has left its place, take it over
    with its subscriptions: a publish that is under way would not see new ones (X10).

    Args:
        patterns: the patterns of the events.
        way: how they are stored.
        lifetime: that of the bridge that takes the place.
    """
    bus, transport = way.origin
    left = [each for each in _places(bus) if each.is_left_by(transport, patterns)]
    # Take the oldest: each publish that sees a younger one sees this one, too.
    place = left[0] if left else Place(bus, transport, patterns, lifetime)
    place.begin(way, lifetime)
    lifetime.begin(place)
    for each in left[1:]:
        each.vacate()


def _places(bus: EventBus) -> Iterable[Place]:
    """Return the places of bridges on a bus, the oldest first."""
    handlers = (each.handler for each in bus.subscriptions() if each.component_name == BRIDGE)
    return dict.fromkeys(place for place in map(_place_of, handlers) if place is not None)


def _place_of(handler: Any) -> Place | None:
    """Return the place that a handler belongs to; None for a user's with the same name."""
    sender = getattr(handler.func, "__self__", None) if isinstance(handler, partial) else None
    return sender if isinstance(sender, Place) else None


@final
class Place:
    """A bridge's place on a bus: the subscriptions whose handlers store events.

    It refers to the transport weakly, to keep it no longer alive than others do.

    Args:
        bus: the bus.
        transport: the transport that events are stored in.
        patterns: the patterns of the events.
        lifetime: that of the bridge that takes the place.

    Attributes:
        lifetime: that of the bridge whose place it is, or was.
    """

    def __init__(
        self, bus: EventBus, transport: Transport, patterns: tuple[str, ...], lifetime: Lifetime
    ) -> None:
        self.lifetime: Lifetime = lifetime
        self._bus = bus
        self._registry = dispatcher_of(bus).registry
        self._transport = _weakly(transport)
        self._patterns = patterns
        self._matcher = Patterns(patterns)
        self._way: Way | None = None
        self._subscriptions: list[Subscription] = []

    def is_left_by(self, transport: Transport, patterns: tuple[str, ...]) -> bool:
        """Return whether it was left, by a bridge of this transport and these patterns."""
        return (
            self._way is None
            and self._transport() is transport
            and set(self._patterns) == set(patterns)
        )

    def begin(self, way: Way, lifetime: Lifetime) -> None:
        """Store events from now on, for the bridge of this lifetime."""
        self._way, self.lifetime = way, lifetime
        # Keep the subscriptions that are still there; a user may have ended some.
        active = {each.event_name: each for each in self._subscriptions if each.active}
        self._subscriptions = [
            active.get(pattern) or self._subscribe(index, pattern)
            for index, pattern in enumerate(self._patterns)
            # A name that an earlier pattern matches, too, needs no subscription: an event is
            # stored for the first pattern that matches it.
            if "*" in pattern or self._matcher.index(pattern) == index
        ]

    def stop(self) -> None:
        """Store nothing more: each publish fails from now on."""
        self._way = None

    def vacate(self) -> None:
        """End the subscriptions."""
        for subscription in self._subscriptions:
            self._bus.unsubscribe(subscription)

    def _subscribe(self, index: int, pattern: str) -> Subscription:
        # To pass the event with its name takes a third longer; without wildcards the name is known.
        is_known = "*" not in pattern
        send = partial(self._send, pattern) if is_known else partial(self._send_any, index)
        return dispatcher_of(self._bus).registry.create(
            pattern,
            BRIDGE,
            send,
            priority=_FIRST,
            filter=None,
            once=False,
            terms=None if is_known else _TAKES_EVENT,
        )

    def _send_any(self, index: int, event: Event[Any]) -> Awaitable[None] | None:
        """Store an event, as the handler of a pattern with wildcards."""
        return self._send(*event) if self._matcher.index(event.name) == index else None

    def _send(self, name: str, data: Any) -> Awaitable[None] | None:
        """Store an event, as the handler of a name.

        Not async itself, but it returns the batcher's coroutine: one coroutine less for each event.
        """
        way = self._way
        if way is None:
            self._refuse(name, data)
            return None
        origin, take, encoder, batcher = way
        held, depth = handing_on.get(), 1
        if held is not None:
            if is_echo(held, name, data, origin, self):
                return None
            # Also in a task that the handler has started.
            depth = held.event.depth + 1
        key = None if take is None else check_key(name, take(data))
        instruments = self._registry.instruments
        extra = carried(instruments) if instruments else NOTHING
        body = encoder.encode(name, data, key, depth, extra)
        return batcher.put(name, Record(body, key))

    def _refuse(self, name: str, data: object) -> None:
        """Fail the publish of an event that no bridge stores, unless it hands on a stored one."""
        held, transport = handing_on.get(), self._transport()
        if (
            held is None
            or transport is None
            or not is_echo(held, name, data, (self._bus, transport), self)
        ):
            raise self.lifetime.refusal()


def check_key(name: str, key: object) -> str | None:
    """Return an event's key.

    Args:
        name: the event's name, for messages.
        key: the key.

    Raises:
        NotEncodable: it is none that can be stored.
    """
    if key is None or is_key(key):
        return key
    raise NotEncodable(
        name, f"its key must be a non-empty str of text or None, not {reprlib.repr(key)}"
    )


def _weakly(transport: Transport) -> Callable[[], Transport | None]:
    """Return a weak reference to a transport, or a strong one if its class allows no other."""
    try:
        return ref(transport)
    except TypeError:
        return lambda: transport
