"""What a bridge sends out: its own subscriptions, which come before all others (X1, X8)."""

from __future__ import annotations

import reprlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

from flexiflow._bus import subscribe_now
from flexiflow._subscription import Terms
from flexiflow.extras.durable._errors import NotEncodable
from flexiflow.extras.durable._held import is_echo
from flexiflow.extras.durable._patterns import Patterns
from flexiflow.extras.durable._transport import Record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flexiflow._bus import EventBus
    from flexiflow._subscription import Subscription
    from flexiflow._topic import Event
    from flexiflow.extras.durable._cloudevents import Encoder
    from flexiflow.extras.durable._outbox import Outbox
    from flexiflow.extras.durable._transport import Transport

BRIDGE: Final = "<bridge>"
"""The component name of a bridge's subscriptions."""

_FIRST: Final = 0
"""Their priority: before those that users may give (B3)."""

_TAKES_EVENT: Final = Terms(takes_event=True)


@final
class Outgoing:
    """Has the events of a bus stored; a context manager around its being subscribed.

    Args:
        bus: the bus.
        transport: what they are stored in.
        patterns: which events.
        key: takes an event's key from its payload.
        encoder: writes events down.
        outbox: stores them.
    """

    def __init__(
        self,
        bus: EventBus,
        transport: Transport,
        patterns: tuple[str, ...],
        key: Callable[[Any], str | None] | None,
        encoder: Encoder,
        outbox: Outbox,
    ) -> None:
        self._origin = (bus, transport)
        self._patterns = patterns
        self._places = Patterns(patterns)
        self._key = key
        self._encoder = encoder
        self._outbox = outbox
        self._subscriptions: list[Subscription] = []

    def subscribe(self) -> None:
        """Begin."""
        bus, _ = self._origin
        self._subscriptions = [
            subscribe_now(
                bus,
                pattern,
                BRIDGE,
                partial(self._send, place),
                priority=_FIRST,
                filter=None,
                once=False,
                terms=_TAKES_EVENT,
            )
            for place, pattern in enumerate(self._patterns)
        ]

    def unsubscribe(self) -> None:
        """End; harmless where it has ended, or never began."""
        for subscription in self._subscriptions:
            self._origin[0].unsubscribe(subscription)

    def _send(self, place: int, event: Event[Any]) -> Awaitable[None] | None:
        """Have an event stored, as the handler of one of the patterns."""
        name, data = event
        if self._places.place(name) != place or is_echo(name, data, self._origin, self):
            return None
        key = None if self._key is None else self._key_of(name, data, self._key)
        return self._outbox.put(Record(self._encoder.encode(name, data, key), key))

    def _key_of(self, name: str, data: Any, take: Callable[[Any], object]) -> str | None:
        key = take(data)
        if key is None or (isinstance(key, str) and key):
            return key
        raise NotEncodable(
            name, f"its key must be a non-empty str or None, not {reprlib.repr(key)}"
        )
