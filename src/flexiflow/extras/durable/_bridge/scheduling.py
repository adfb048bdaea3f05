"""Events that are stored now and handed out later (Y3)."""

from __future__ import annotations

import reprlib
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, final

import anyio

from flexiflow._arguments import check_finite
from flexiflow._bus import dispatcher_of
from flexiflow._names import check_event_name, check_is_event
from flexiflow.extras._process import Home
from flexiflow.extras.durable._bridge.arguments import moment_of
from flexiflow.extras.durable._bridge.carrying import carried
from flexiflow.extras.durable._bridge.place import check_key
from flexiflow.extras.durable._errors import EventTooLarge, TransportUnusable
from flexiflow.extras.durable._records import Record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flexiflow.extras.durable._bridge.cloudevents import Encoder
    from flexiflow.extras.durable._bridge.link import Link
    from flexiflow.extras.durable._transport import Connection

T = TypeVar("T")


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

    async def schedule(
        self, event: object, data: Any, delay: object, at: object, key: str | None
    ) -> str:
        """Schedule an event; `Bridge.schedule` describes the arguments."""
        self._home.check()
        check_is_event(event, "ask it with bus.ask when its time has come")
        name = check_event_name(event)
        seconds, moment = _when(delay, at)
        take = self._link.settings.key
        if key is None and take is not None:
            key = take(data)
        key = check_key(name, key)
        # A reminder that schedules the next one is no loop that must end: so the chain begins anew.
        body = self._encoder.encode(name, data, key, carried=carried(self._registry.instruments))
        if len(body) > self._connection.max_event_bytes:
            raise EventTooLarge(name, len(body), self._connection.max_event_bytes)
        ticket = self._connection.new_ticket(key)
        await self._outlast(
            partial(self._connection.schedule, ticket, Record(body, key), at=moment, delay=seconds)
        )
        return ticket

    async def cancel(self, ticket: object) -> bool:
        """Cancel a scheduled event; `Bridge.cancel` describes the argument."""
        self._home.check()
        if not isinstance(ticket, str):
            raise TypeError(
                f"a ticket must be a str that schedule() returned, not {reprlib.repr(ticket)}"
            )
        return await self._outlast(partial(self._connection.cancel, ticket))

    async def _outlast(self, call: Callable[[], Awaitable[T]]) -> T:
        until = anyio.current_time() + self._link.settings.store_timeout
        return await self._link.outlast(call, until=until)


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
