"""An open bridge: what its user can do with it."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, NamedTuple, TypeVar, final

from flexiflow._arguments import check_count
from flexiflow._errors import ReceiverClosed
from flexiflow._reporting import logger
from flexiflow.extras.durable._bridge.arguments import check_group, check_start

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from flexiflow._names import Topic
    from flexiflow.extras.durable._bridge.lifetime import BridgeStatus, Lifetime
    from flexiflow.extras.durable._bridge.link import Link
    from flexiflow.extras.durable._bridge.scheduling import Scheduler
    from flexiflow.extras.durable._bridge.statistics import BridgeStatistics
    from flexiflow.extras.durable._bridge.worker import Worker
    from flexiflow.extras.durable._records import DeadLetter, Replayed
    from flexiflow.extras.durable._transport import Connection

T = TypeVar("T")


class _Open(NamedTuple):
    """What a bridge has while its block lasts."""

    connection: Connection
    scheduler: Scheduler


@final
class Bridge:
    """An open bridge, made by `open_bridge`.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.extras.durable import MemoryTransport, open_bridge
        >>> async def main():
        ...     bus = EventBus()
        ...     async with open_bridge(bus, MemoryTransport(), outgoing=["order.*"]) as bridge:
        ...         await bus.publish("order.placed", "A7")
        ...         print(bridge.status, bridge.statistics().stored)
        >>> anyio.run(main)
        running 1
    """

    __slots__ = (
        "_counters",
        "_group",
        "_held",
        "_lifetime",
        "_open",
        "_worker",
    )

    def __init__(
        self,
        link: Link,
        connection: Connection,
        worker: Worker | None,
        scheduler: Scheduler,
        lifetime: Lifetime,
    ) -> None:
        self._open: _Open | None = _Open(connection, scheduler)
        self._group = link.settings.group
        self._worker = worker
        self._counters = link.counters
        self._lifetime = lifetime
        self._held = 0

    @property
    def status(self) -> BridgeStatus:
        """The bridge's state, and what ended it if it has failed (X10)."""
        return self._lifetime.status

    def forget(self) -> None:
        """Remove a failed bridge from its bus (X10).

        From now on its outgoing events are published as if the bridge had never existed: they are
        not stored, and their publishes don't fail. Does nothing if the bridge was removed before,
        ended without an error, or was replaced by another bridge.

        Raises:
            RuntimeError: the bridge is open; nothing has changed.
        """
        state = self.status.state
        if state in ("running", "draining"):
            raise RuntimeError(
                f"forget() is for a bridge that has failed, and this one is {state}: leave its "
                "'async with' block, and it stores nothing more"
            )
        self._lifetime.forget()

    def statistics(self) -> BridgeStatistics:
        """Return what became of the events so far, without asking the transport."""
        held = self._held if self._worker is None else self._worker.held
        return self._counters.statistics(held)

    async def schedule(
        self,
        event: Topic[T] | str,
        data: T,
        *,
        delay: float | None = None,
        at: datetime | None = None,
        key: str | None = None,
        ticket: str | None = None,
    ) -> str:
        """Store an event now that is handed out later, once its time has come (Y3).

        It is stored when this returns. It is handed out at its time or later, never before, by the
        transport's clock; at least once, as any stored event; and takes its place among the events
        of its key then. It need not be an outgoing event of this bridge, and may be an incoming
        one. Its chain begins anew, unless it is due in less than a second (Y2).

        If this raises `TransportUnavailable`, the event may be stored all the same. The exception's
        attribute `ticket` is its ticket: cancel it, or repeat the call with `ticket=`, which stores
        no second event. If the call was cancelled, the event may be stored, too, and nobody knows
        its ticket.

        Args:
            event: the event's name.
            data: the payload.
            delay: in how many seconds, 0 or more; this or `at`.
            at: when, with a time zone; a time that has passed is now.
            key: the event's key. None for what the bridge's `key` returns if the event is an
                outgoing one of this bridge, and for no key if it is not.
            ticket: the ticket of a call that failed, to repeat it with the same event and key; if
                that call has stored the event, this one does nothing. None for a new ticket.

        Returns:
            A ticket, by which it can be cancelled, also by others.

        Raises:
            ValueError: both or none of `delay` and `at` are given; `delay` is negative, infinite or
                NaN; `at` has no time zone; a malformed name; a ticket of another transport.
            TypeError: an argument of the wrong type.
            NotEncodable: the payload, or the key, can't be stored.
            EventTooLarge: it has more bytes than the transport takes.
            ScheduleFull: the transport has as many scheduled events as it may; raised at once,
                since there may be no room before tomorrow.
            TransportUnavailable: it could not be stored within `store_timeout`.
            ReceiverClosed: the bridge's block is over.
            Exception: what the bridge's `key` raises.
        """
        return await self._opened().scheduler.schedule(event, data, delay, at, key, ticket)

    async def cancel(self, ticket: str) -> bool:
        """Cancel a scheduled event, of this bridge or another one of the transport (Y3).

        Returns:
            True if the event will never be handed out; False if it was, or may be, or if nothing is
            known of it any more.

        Raises:
            ValueError: the ticket is none of this transport.
            TypeError: it is no str.
            TransportUnavailable: the transport can't be reached.
            ReceiverClosed: the bridge's block is over.
        """
        return await self._opened().scheduler.cancel(ticket)

    async def replay(self, group: str, *, since: datetime | str | Sequence[str]) -> Replayed:
        """Make a group handle events again, or pass some over (Y5).

        All leases of the group end: what its workers are handling is cancelled, and they begin
        anew. What comes after the place is given to them again, whether it was handled, waits for
        an attempt, or is a dead letter. An event that comes before, and that no worker was given
        yet, is passed over.

        Args:
            group: the group. Unlike for `dead_letters` it has to be named: mostly this is called
                by a bridge without a group, as by a tool.
            since: the place, as `start` of `open_bridge`. If events behind it were deleted, the
                group begins with the oldest that is kept, and that is logged.

        Returns:
            Where the group begins, and whether all events since then were kept.

        Raises:
            ValueError: there is no such group; a time without a time zone; `since` is no position
                of the transport.
            TypeError: an argument of the wrong type.
            TransportUnavailable: the transport can't be reached.
            ReceiverClosed: the bridge's block is over.
        """
        check_group(group)
        start = check_start("since", since)
        replayed = await self._opened().connection.replay(group, start)
        if not replayed.is_complete:
            logger.warning(
                "the group %r begins again with the oldest events that are kept: some since %s "
                "were deleted",
                group,
                since,
            )
        return replayed

    async def dead_letters(
        self, after: str | None = None, limit: int = 100
    ) -> Sequence[DeadLetter]:
        """Return dead letters of the bridge's group, the oldest first (X3).

        Args:
            after: the id after which to begin; None to begin with the oldest.
            limit: how many at most, 1 to 10**12.

        Raises:
            ValueError: the bridge has no group; `limit` is out of its range; `after` can't be an
                id of this transport.
            TypeError: `after` is no str.
            TransportUnavailable: the transport can't be reached.
            ReceiverClosed: the bridge's block is over.
        """
        check_count("limit", limit)
        if after is not None:
            _check_id(after)
        group, connection = self._own_group(), self._opened().connection
        return await connection.dead_letters(group, after=after, limit=limit)

    async def redrive(self, *ids: str) -> int:
        """Store dead letters again, to be handled by the bridge's group alone (X3).

        Args:
            ids: the ids of the dead letters, one or more.

        Returns:
            How many of them existed; those were redriven, and are no longer dead letters.

        Raises:
            ValueError: the bridge has no group; no id was given.
            TypeError: an id is no str.
            TransportUnavailable: the transport can't be reached.
            ReceiverClosed: the bridge's block is over.
        """
        if not ids:
            raise ValueError("redrive takes the ids of dead letters, one or more, and got none")
        for each in ids:
            _check_id(each)
        group, connection = self._own_group(), self._opened().connection
        return await connection.redrive(group, ids)

    def close(self) -> None:
        """Stop using the connection; called by `open_bridge`."""
        self._open = None

    def end(self, cause: BaseException | None) -> None:
        """Note the end of the block, and drop the worker; called by `open_bridge`."""
        if self._worker is not None:
            self._held = self._worker.held
            self._worker = None
        self._lifetime.end(cause)

    def _opened(self) -> _Open:
        if self._open is None:
            raise ReceiverClosed("the bridge", "is over")
        return self._open

    def _own_group(self) -> str:
        if self._group is None:
            raise ValueError("a bridge without a group has no dead letters; give open_bridge one")
        return self._group


def _check_id(given: object) -> None:
    if not isinstance(given, str):
        raise TypeError(f"the id of a dead letter must be a str, not {reprlib.repr(given)}")
