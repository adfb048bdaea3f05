"""A bridge between a bus and a transport (X1 to X8)."""

from __future__ import annotations

import reprlib
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, final
from uuid import uuid4

import anyio

from flexiflow._arguments import check_int
from flexiflow._cancellation import effectively_cancelled, leaves, split
from flexiflow._errors import ReceiverClosed
from flexiflow._reporting import logger
from flexiflow.extras.durable._arguments import (
    Settings,
    check_ends,
    check_settings,
    patterns_of,
)
from flexiflow.extras.durable._cloudevents import JSON, Encoder
from flexiflow.extras.durable._crew import Escaped
from flexiflow.extras.durable._errors import TransportError
from flexiflow.extras.durable._outages import Outages
from flexiflow.extras.durable._outbox import Outbox
from flexiflow.extras.durable._outgoing import Outgoing
from flexiflow.extras.durable._statistics import Counters
from flexiflow.extras.durable._transport import Member
from flexiflow.extras.durable._worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from flexiflow._bus import EventBus
    from flexiflow.extras.durable._cloudevents import Codec
    from flexiflow.extras.durable._statistics import BridgeStatistics
    from flexiflow.extras.durable._transport import Connection, DeadLetter, Transport

_PATIENCE: Final = 5.0
"""For so many seconds a bridge tries to give back what it holds as it is left."""


def open_bridge(  # noqa: PLR0913  most are numbers, each with a value that suits most
    bus: EventBus,
    transport: Transport,
    *,
    outgoing: Iterable[str] = (),
    incoming: Iterable[str] = (),
    group: str | None = None,
    consumer: str | None = None,
    source: str | None = None,
    key: Callable[[Any], str | None] | None = None,
    limit: int = 10,
    prefetch: int = 100,
    max_attempts: int = 5,
    max_deliveries: int = 5,
    retry_delay: float = 0.1,
    lease: float = 10.0,
    grace: float = 10.0,
    store_timeout: float = 10.0,
    codec: Codec = JSON,
) -> AbstractAsyncContextManager[Bridge]:
    """Store what a bus publishes, and publish on it what others have stored.

    An async context manager; the bridge is there as long as its block lasts. As it ends, what is in
    flight has `grace` seconds, and the rest is given back. If it ends by an exception or a
    cancellation, all is given back at once (X5). What is wrong with the bridge itself and would not
    get better, as a `TransportUnusable` or a `ConsumerInUse`, cancels the block and leaves it.

    Args:
        bus: the bus.
        transport: where events outlive the process.
        outgoing: patterns of the events that are stored before their handlers run (X1). If one
            can't be stored, that is a failure of the publish.
        incoming: patterns of the events that the group takes. Each is published on the bus, and is
            acknowledged when all its handlers have succeeded.
        group: whose workers share the incoming events; of letters, digits, ".", "_" and "-".
        consumer: the worker's name, of the same characters; no other of the group has it. None for
            one that is made up.
        source: who publishes, as CloudEvents demands it; None for the group's name or "flexiflow".
        key: takes from a payload the key of an outgoing event: events of one key are handled one at
            a time, in order (X4). None, the key too, for any order.
        limit: how many incoming events are handled at once, 1 or more.
        prefetch: how many are held at most, for each partition that this worker reads; 1 or more.
        max_attempts: after so many attempts that failed an event is a dead letter (X3); 1 or more.
        max_deliveries: after so many attempts that did not end it is one, too; 1 or more.
        retry_delay: seconds before the second attempt, 0 or more; twice as many before each that
            follows, up to 30.
        lease: after so many seconds of silence a worker counts as dead, more than 0; what it held
            is given to others.
        grace: seconds that handlers have to end when the block does, 0 or more.
        store_timeout: seconds that it is tried to store an event for, more than 0; as the block
            ends, all that wait have as many together.
        codec: writes payloads down and reads them (X7).

    Raises:
        ValueError: a number out of its range; a malformed pattern or name; outgoing and incoming
            patterns that overlap (X8); neither of them; incoming ones without a group; a key
            without outgoing ones.
        TypeError: an argument of the wrong type.
    """
    check_ends(bus, transport)
    settings = Settings(
        outgoing=patterns_of("outgoing", outgoing),
        incoming=patterns_of("incoming", incoming),
        group=group,
        consumer=consumer,
        source=source,
        key=key,
        limit=limit,
        prefetch=prefetch,
        max_attempts=max_attempts,
        max_deliveries=max_deliveries,
        retry_delay=retry_delay,
        lease=lease,
        grace=grace,
        store_timeout=store_timeout,
        codec=codec,
    )
    check_settings(settings)
    return _Block(bus, transport, settings)


@final
class Bridge:
    """A bridge that is open; made by `open_bridge`."""

    __slots__ = ("_connection", "_counters", "_group", "_is_open", "_worker")

    def __init__(
        self,
        connection: Connection,
        group: str | None,
        worker: Worker | None,
        counters: Counters,
    ) -> None:
        self._connection = connection
        self._group = group
        self._worker = worker
        self._counters = counters
        self._is_open = True

    def statistics(self) -> BridgeStatistics:
        """Count what became of the events so far; nothing is asked of the transport."""
        held = 0 if self._worker is None else self._worker.held
        return self._counters.statistics(held)

    async def dead_letters(
        self, after: str | None = None, limit: int = 100
    ) -> Sequence[DeadLetter]:
        """List the dead letters of the bridge's group, the oldest first (X3).

        Args:
            after: the id of the last one that is not wanted; None to begin with the first.
            limit: how many at most, 1 or more.

        Raises:
            ValueError: the bridge has no group; `limit` is no int of 1 or more; `after` can't be an
                id of the transport's.
            TypeError: `after` is no str.
            TransportUnavailable: the transport can't be reached.
            ReceiverClosed: the bridge's block is over.
        """
        check_int("limit", limit, "1 or more", least=1)
        if after is not None:
            _check_id(after)
        return await self._connection.dead_letters(self._checked(), after=after, limit=limit)

    async def redrive(self, *ids: str) -> int:
        """Have dead letters handled again, by the bridge's group alone (X3).

        Args:
            ids: which, one or more.

        Returns:
            How many of them there were; each was redriven, and is a dead letter no more.

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
        return await self._connection.redrive(self._checked(), ids)

    def close(self) -> None:
        """Ask no more of the transport; `open_bridge` does that."""
        self._is_open = False

    def _checked(self) -> str:
        """Return the group, where there is one, and the bridge is open."""
        if self._group is None:
            raise ValueError("a bridge without a group has no dead letters; give open_bridge one")
        if not self._is_open:
            raise ReceiverClosed("the bridge", "is over")
        return self._group


def _check_id(given: object) -> None:
    if not isinstance(given, str):
        raise TypeError(f"the id of a dead letter must be a str, not {reprlib.repr(given)}")


class _Ending:
    """How the block of a bridge ended.

    Attributes:
        is_hasty: whether by an exception.
    """

    __slots__ = ("is_hasty",)

    def __init__(self) -> None:
        self.is_hasty = False


@final
class _Block:
    """The block of a bridge.

    Apart from the generators that do the work, since those see no exception of a user's: contextlib
    would write to it, and a task group would wrap it.
    """

    def __init__(self, bus: EventBus, transport: Transport, settings: Settings) -> None:
        self._ending = _Ending()
        self._manager = _run(bus, transport, settings, self._ending)

    async def __aenter__(self) -> Bridge:
        try:
            return await self._manager.__aenter__()
        except BaseException as problem:  # noqa: BLE001  bare, whatever group it is in
            leaving = _leaving(problem, None)
        raise leaving

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        is_cancelled = isinstance(exc, anyio.get_cancelled_exc_class())
        self._ending.is_hasty = exc is not None
        try:
            if is_cancelled:
                return await self._manager.__aexit__(exc_type, exc, traceback)
            await self._manager.__aexit__(None, None, None)
        except BaseException as problem:  # noqa: BLE001  what leaves of it is decided below
            leaving = _leaving(problem, None if is_cancelled else exc)
        else:
            return None
        if leaving is not exc:
            raise leaving
        return None


def _leaving(problem: BaseException, exception: BaseException | None) -> BaseException:
    """Decide what leaves a block: what is wrong with the bridge, or what it raised."""
    cancellation, rest = split(problem)
    found = [] if rest is None else list(map(_unwrapped, leaves(rest)))
    fatal = next((each for each in found if not isinstance(each, Exception)), None)
    if fatal is not None:
        return fatal
    if exception is not None and (found or effectively_cancelled()):
        for each in found:
            logger.error("a bridge failed as it was left: %s", each, exc_info=each)
        return exception
    return found[0] if found else cancellation or problem


def _unwrapped(exception: BaseException) -> BaseException:
    return exception.exception if isinstance(exception, Escaped) else exception


@asynccontextmanager
async def _run(
    bus: EventBus, transport: Transport, settings: Settings, ending: _Ending
) -> AsyncGenerator[Bridge]:
    counters = Counters()
    outages = Outages(counters)
    async with transport.connect() as connection, AsyncExitStack() as stack:
        worker = None
        if settings.outgoing:
            producer = uuid4().hex
            source = settings.source or settings.group or "flexiflow"
            outbox = Outbox(connection, producer, settings.store_timeout, outages, counters)
            encoder = Encoder(source, producer, settings.codec)
            outgoing = Outgoing(bus, transport, settings.outgoing, settings.key, encoder, outbox)
            await stack.enter_async_context(
                _storing(outgoing, outbox, settings.store_timeout, ending)
            )
        if settings.incoming:
            worker = Worker(
                bus, transport, connection, _member(settings), settings, outages, counters
            )
            await stack.enter_async_context(_working(worker, settings.grace, ending))
        bridge = Bridge(connection, settings.group, worker, counters)
        try:
            yield bridge
        finally:
            bridge.close()


def _member(settings: Settings) -> Member:
    token, patterns = uuid4().hex, tuple(sorted(settings.incoming))
    return Member(str(settings.group), settings.consumer or token, token, patterns, settings.lease)


@asynccontextmanager
async def _storing(
    outgoing: Outgoing, outbox: Outbox, seconds: float, ending: _Ending
) -> AsyncGenerator[None]:
    """Store events, until the handlers have ended that might publish any."""
    async with anyio.create_task_group() as group:
        group.start_soon(outbox.run)
        outgoing.subscribe()
        try:
            yield
            if not ending.is_hasty:
                outgoing.unsubscribe()
                with anyio.move_on_after(seconds):
                    await outbox.emptied()
                outbox.close()
        finally:
            outgoing.unsubscribe()
            try:
                with anyio.move_on_after(_PATIENCE, shield=True):
                    await outbox.emptied()
            finally:
                # Also where asyncio cancels through the shield: else it would go on for ever.
                outbox.close()


@asynccontextmanager
async def _working(worker: Worker, grace: float, ending: _Ending) -> AsyncGenerator[None]:
    """Handle events, and give back in the end what was not handled."""
    await worker.join()
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(worker.run)
            yield
            if not ending.is_hasty:
                worker.leave()
                with anyio.move_on_after(grace + _PATIENCE):
                    await worker.ended()
            group.cancel_scope.cancel()
    finally:
        with anyio.move_on_after(_PATIENCE, shield=True) as scope:
            await _give_back(worker)
        if scope.cancelled_caught:
            logger.warning("a bridge was left, and what it held is given to others only later")


async def _give_back(worker: Worker) -> None:
    try:
        await worker.give_back()
    except TransportError as exc:
        logger.warning("a bridge could not give back what it held: %s", exc)
