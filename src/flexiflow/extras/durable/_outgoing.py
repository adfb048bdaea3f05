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
    from collections.abc import Callable

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
        self._subscriptions = [
            self._subscribe(place, pattern) for place, pattern in enumerate(self._patterns)
        ]

    def _subscribe(self, place: int, pattern: str) -> Subscription:
        # To be told an event's name takes a third longer, and of some it is known.
        is_known = "*" not in pattern
        send = partial(self._send, place, pattern) if is_known else partial(self._send_any, place)
        return subscribe_now(
            self._origin[0],
            pattern,
            BRIDGE,
            send,
            priority=_FIRST,
            filter=None,
            once=False,
            terms=None if is_known else _TAKES_EVENT,
        )

    def unsubscribe(self) -> None:
        """End; harmless where it has ended, or never began."""
        for subscription in self._subscriptions:
            self._origin[0].unsubscribe(subscription)

    async def _send_any(self, place: int, event: Event[Any]) -> None:
        """Have an event stored, as the handler of a pattern."""
        await self._send(place, *event)

    async def _send(self, place: int, name: str, data: Any) -> None:
        """Have an event stored, as the handler of a name."""
        if self._places.place(name) != place or is_echo(name, data, self._origin, self):
            return
        key = None if self._key is None else self._key_of(name, data, self._key)
        await self._outbox.put(Record(self._encoder.encode(name, data, key), key))

    def _key_of(self, name: str, data: Any, take: Callable[[Any], object]) -> str | None:
        key = take(data)
        if key is None or (isinstance(key, str) and key and _is_text(key)):
            return key
        raise NotEncodable(
            name, f"its key must be a non-empty str of text or None, not {reprlib.repr(key)}"
        )


def _is_text(key: str) -> bool:
    """Tell whether a key can be written down: else what is stored with it would fail, too."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True
