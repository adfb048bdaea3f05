"""Events that are stored now and handed out later (Y3)."""

from __future__ import annotations

import reprlib
from functools import partial
from time import time
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

import anyio

from flexiflow._arguments import check_finite
from flexiflow._bus import dispatcher_of
from flexiflow._names import check_event_name, check_is_event
from flexiflow.extras._process import Home
from flexiflow.extras.durable._bridge.arguments import moment_of
from flexiflow.extras.durable._bridge.carrying import carried
from flexiflow.extras.durable._bridge.held import handing_on
from flexiflow.extras.durable._bridge.place import check_key
from flexiflow.extras.durable._errors import (
    EventTooLarge,
    TransportUnavailable,
    TransportUnusable,
)
from flexiflow.extras.durable._patterns import Patterns
from flexiflow.extras.durable._records import Record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flexiflow.extras.durable._bridge.cloudevents import Encoder
    from flexiflow.extras.durable._bridge.link import Link
    from flexiflow.extras.durable._transport import Connection

T = TypeVar("T")

_SOON: Final = 1.0
"""An event that is due in fewer seconds goes on with the chain of events that causes it (Y2)."""


@final
class Scheduler:
    """Schedules events at the transport, and cancels them.

    Args:
        link: what the parts of the bridge share.
        connection: the connection to store them by.
        encoder: encodes the events.
    """

    def __init__(self, link: Link, connection: Connection, encoder: Encoder) -> None:
        self._home = Home(connection.address, TransportUnusable)
        self._link = link
        self._connection = connection
        self._encoder = encoder
        self._registry = dispatcher_of(link.bus).registry
        self._outgoing = Patterns(link.settings.outgoing)

    async def schedule(
        self, event: object, data: Any, delay: object, at: object, key: str | None, ticket: object
    ) -> str:
        """Schedule an event; `Bridge.schedule` describes the arguments."""
        self._home.check()
        check_is_event(event, "ask it with bus.ask when its time has come")
        name = check_event_name(event)
        seconds, moment = _when(delay, at)
        if ticket is not None:
            ticket = _checked_ticket(ticket)
        key = check_key(name, self._key_of(name, data) if key is None else key)
        depth = _depth_of(seconds, moment)
        extra = carried(self._registry.instruments)
        body = self._encoder.encode(name, data, key, depth, extra)
        if len(body) > self._connection.max_event_bytes:
            raise EventTooLarge(name, len(body), self._connection.max_event_bytes)
        if ticket is None:
            ticket = self._connection.new_ticket(key)
        record = Record(body, key)
        store = partial(self._connection.schedule, ticket, record, at=moment, delay=seconds)
        try:
            await self._outlast(store)
        except TransportUnavailable as exc:
            exc.ticket = ticket
            raise
        return ticket

    def _key_of(self, name: str, data: Any) -> str | None:
        """Return the key that the bridge's function returns, which is for outgoing events only."""
        take = self._link.settings.key
        return None if take is None or self._outgoing.index(name) is None else take(data)

    async def cancel(self, ticket: object) -> bool:
        """Cancel a scheduled event; `Bridge.cancel` describes the argument."""
        self._home.check()
        return await self._outlast(partial(self._connection.cancel, _checked_ticket(ticket)))

    async def _outlast(self, call: Callable[[], Awaitable[T]]) -> T:
        until = anyio.current_time() + self._link.settings.store_timeout
        return await self._link.outlast(call, until=until)


def _checked_ticket(ticket: object) -> str:
    if not isinstance(ticket, str):
        raise TypeError(
            f"a ticket must be a str that schedule() returned, not {reprlib.repr(ticket)}"
        )
    return ticket


def _depth_of(seconds: float | None, moment: float | None) -> int:
    """Return how deep a scheduled event is in its chain.

    A reminder that schedules the next one is no loop that must end, so its chain begins anew. But
    an event that is due soon counts as one that is published now (Y2).
    """
    held = handing_on.get()
    if moment is not None:
        # By this machine's clock: whether the chain goes on needs no exact time.
        seconds = moment - time()
    is_soon = seconds is not None and seconds < _SOON
    return held.event.depth + 1 if held is not None and is_soon else 1


def _when(delay: object, at: object) -> tuple[float | None, float | None]:
    """Return the seconds or the moment, in seconds since 1970.

    Raises:
        ValueError: neither or both are given; `delay` is negative or no finite number; `at` has no
            time zone.
        TypeError: `at` is no datetime.
    """
    if (delay is None) == (at is None):
        raise ValueError(
            f"schedule takes either delay= or at=, and got delay={delay!r} and at={at!r}"
        )
    if at is None:
        return check_finite("delay", delay, least=0), None
    return None, moment_of("at", at)
