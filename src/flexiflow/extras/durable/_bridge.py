"""A bridge between a bus and a transport (X1 to X8, X10)."""

from __future__ import annotations

import reprlib
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final
from uuid import uuid4

import anyio

from flexiflow._arguments import check_count
from flexiflow._errors import ReceiverClosed
from flexiflow._reporting import logger
from flexiflow.extras.durable._arguments import (
    Settings,
    check_ends,
    check_settings,
    check_sizes,
    patterns_of,
)
from flexiflow.extras.durable._cloudevents import JSON, Encoder
from flexiflow.extras.durable._errors import TransportError
from flexiflow.extras.durable._leaving import what_leaves, without_frames
from flexiflow.extras.durable._lifetime import Lifetime
from flexiflow.extras.durable._outages import Outages
from flexiflow.extras.durable._outbox import Outbox
from flexiflow.extras.durable._outgoing import Way, take_place
from flexiflow.extras.durable._patterns import canonical
from flexiflow.extras.durable._statistics import Counters
from flexiflow.extras.durable._transport import Member
from flexiflow.extras.durable._worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from flexiflow._bus import EventBus
    from flexiflow.extras.durable._cloudevents import Codec
    from flexiflow.extras.durable._lifetime import BridgeStatus
    from flexiflow.extras.durable._statistics import BridgeStatistics
    from flexiflow.extras.durable._transport import Connection, DeadLetter, Transport

_LONGEST_DELAY: Final = 30.0
"""For so many seconds an event waits for its next attempt, unless `retry_delay` is more."""

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
    prefetch_bytes: int = 16 * 1024 * 1024,
    max_waiting: int = 100_000,
    max_attempts: int = 30,
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

    After such an end no outgoing event is lost in silence: publishing one fails with `BridgeClosed`
    until a bridge of the same bus, transport and `outgoing` is opened, or `Bridge.forget` was
    called (X10).

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
        prefetch_bytes: how many bytes of stored events are held at most, of all partitions
            together; at least the transport's `max_event_bytes` (X14).
        max_waiting: while so many events of the group wait for their next attempt, or for others
            of their key, no new ones are received; 1 or more. With several partitions each has its
            part of it (X12).
        max_attempts: after so many attempts that failed an event is a dead letter (X3); 1 or more.
        max_deliveries: after so many attempts that did not end it is one, too; 1 or more.
        retry_delay: seconds before the second attempt, 0 or more; twice as many before each that
            follows, up to 30, or `retry_delay` where that is more. The event waits meanwhile at the
            transport, over restarts, and takes no room of those that are held (X12).
        lease: after so many seconds of silence a worker counts as dead, more than 0; what it held
            is given to others, if there are any (X11).
        grace: seconds that handlers have to end when the block does, 0 or more.
        store_timeout: seconds that it is tried to store an event for, more than 0; as the block
            ends, all that wait have as many together.
        codec: writes payloads down and reads them (X7).

    What is counted is an int of at most 10**12.

    Raises:
        ValueError: a number out of its range; a malformed pattern or name; outgoing and incoming
            patterns that overlap (X8); neither of them; incoming ones without a group; a key
            without outgoing ones; as it is entered, `prefetch_bytes` below the transport's
            `max_event_bytes`.
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
        prefetch_bytes=prefetch_bytes,
        max_waiting=max_waiting,
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

    __slots__ = ("_connection", "_counters", "_group", "_held", "_lifetime", "_worker")

    def __init__(
        self,
        connection: Connection,
        group: str | None,
        worker: Worker | None,
        counters: Counters,
        lifetime: Lifetime,
    ) -> None:
        self._connection: Connection | None = connection
        self._group = group
        self._worker = worker
        self._counters = counters
        self._lifetime = lifetime
        self._held = 0

    @property
    def status(self) -> BridgeStatus:
        """How the bridge is, and what ended it if it has failed (X10)."""
        return self._lifetime.status

    def forget(self) -> None:
        """Give up the place on the bus of a bridge that has failed (X10).

        From now on its outgoing events are published as if it had never been there: nothing is
        stored, and nothing fails. Harmless where that was done before, where the block came to its
        end in peace, and where another bridge has taken over the place.

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
        """Count what became of the events so far; nothing is asked of the transport."""
        held = self._held if self._worker is None else self._worker.held
        return self._counters.statistics(held)

    async def dead_letters(
        self, after: str | None = None, limit: int = 100
    ) -> Sequence[DeadLetter]:
        """List the dead letters of the bridge's group, the oldest first (X3).

        Args:
            after: the id of the last one that is not wanted; None to begin with the first.
            limit: how many at most, 1 to 10**12.

        Raises:
            ValueError: the bridge has no group; `limit` is out of its range; `after` can't be an
                id of the transport's.
            TypeError: `after` is no str.
            TransportUnavailable: the transport can't be reached.
            ReceiverClosed: the bridge's block is over.
        """
        check_count("limit", limit)
        if after is not None:
            _check_id(after)
        connection, group = self._checked()
        return await connection.dead_letters(group, after=after, limit=limit)

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
        connection, group = self._checked()
        return await connection.redrive(group, ids)

    def close(self) -> None:
        """Ask no more of the transport; `open_bridge` does that."""
        self._connection = None

    def end(self, cause: BaseException | None) -> None:
        """Be over, and keep nothing of what worked for it; `open_bridge` does that."""
        if self._worker is not None:
            self._held = self._worker.held
            self._worker = None
        self._lifetime.end(cause)

    def _checked(self) -> tuple[Connection, str]:
        """Return the connection and the group, where there are any."""
        if self._group is None:
            raise ValueError("a bridge without a group has no dead letters; give open_bridge one")
        if self._connection is None:
            raise ReceiverClosed("the bridge", "is over")
        return self._connection, self._group


def _check_id(given: object) -> None:
    if not isinstance(given, str):
        raise TypeError(f"the id of a dead letter must be a str, not {reprlib.repr(given)}")


@final
class _Block:
    """The block of a bridge.

    Apart from the generators that do the work, since those see no exception of a user's: contextlib
    would write to it, and a task group would wrap it.
    """

    def __init__(self, bus: EventBus, transport: Transport, settings: Settings) -> None:
        self._lifetime = Lifetime()
        self._manager = _run(bus, transport, settings, self._lifetime)

    async def __aenter__(self) -> Bridge:
        try:
            self._bridge = await self._manager.__aenter__()
        except BaseException as problem:  # noqa: BLE001  bare, whatever group it is in
            leaving, _ = what_leaves(problem, None)
        else:
            return self._bridge
        raise leaving

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        is_cancelled = isinstance(exc, anyio.get_cancelled_exc_class())
        self._lifetime.leave(exc, is_cancellation=is_cancelled)
        thrown = (exc_type, exc, traceback) if is_cancelled else (None, None, None)
        try:
            is_swallowed = await self._manager.__aexit__(*thrown)
        except BaseException as problem:  # noqa: BLE001  what leaves of it is decided below
            leaving = self._what_leaves(problem)
            if exc is not None and self._lifetime.exception is None:
                # A cancellation went through the bridge: nobody is to keep the frames it has of it.
                exc.with_traceback(traceback if leaving is exc else None)
        else:
            self._end(exc)
            return is_swallowed
        self._end(leaving)
        if leaving is exc:
            return None
        try:
            raise leaving
        finally:
            # The exception keeps this frame, which must not keep it, and what was in flight.
            del exc, traceback, thrown, leaving

    def _what_leaves(self, problem: BaseException) -> BaseException:
        """Decide what leaves the block, and log what does not."""
        lifetime = self._lifetime
        leaving, told = what_leaves(problem, lifetime.exception)
        for each in told:
            logger.error("a bridge failed as it was left: %s", each, exc_info=each)
        if lifetime.had_place and leaving is not lifetime.exception:
            # It stays with the place, and its frames, which hold the events in hand, must not.
            if isinstance(leaving, Exception):
                traceback = leaving.__traceback__
                logger.error(
                    "a bridge has failed: %s", leaving, exc_info=(type(leaving), leaving, traceback)
                )
            leaving.with_traceback(None)
        return leaving

    def _end(self, cause: BaseException | None) -> None:
        if isinstance(cause, anyio.get_cancelled_exc_class()):
            cause = without_frames(cause)
        self._bridge.end(cause)


@asynccontextmanager
async def _run(
    bus: EventBus, transport: Transport, settings: Settings, lifetime: Lifetime
) -> AsyncGenerator[Bridge]:
    counters = Counters()
    outages = Outages(counters)
    async with transport.connect() as connection, AsyncExitStack() as stack:
        check_sizes(settings.prefetch_bytes, connection.max_event_bytes)
        lifetime.address = connection.address
        begin: Callable[[], object] = int
        worker = None
        if settings.outgoing:
            producer = uuid4().hex
            source = settings.source or settings.group or "flexiflow"
            outbox = Outbox(connection, producer, settings.store_timeout, outages, counters)
            encoder = Encoder(source, producer, settings.codec)
            way = Way((bus, transport), settings.key, encoder, outbox)
            begin = partial(take_place, settings.outgoing, way, lifetime)
            await stack.enter_async_context(_storing(outbox, settings.store_timeout, lifetime))
        if settings.incoming:
            worker = Worker(
                bus, transport, connection, _member(settings), settings, outages, counters
            )
            await stack.enter_async_context(_working(worker, settings.grace, lifetime, begin))
        else:
            begin()
        bridge = Bridge(connection, settings.group, worker, counters, lifetime)
        try:
            yield bridge
        finally:
            bridge.close()


def _member(settings: Settings) -> Member:
    token = uuid4().hex
    return Member(
        str(settings.group),
        settings.consumer or token,
        token,
        canonical(settings.incoming),
        settings.lease,
        max(settings.retry_delay, _LONGEST_DELAY),
    )


@asynccontextmanager
async def _storing(outbox: Outbox, seconds: float, lifetime: Lifetime) -> AsyncGenerator[None]:
    """Store events, until the handlers have ended that might publish any."""
    async with anyio.create_task_group() as group:
        group.start_soon(outbox.run)
        try:
            yield
            if not lifetime.is_hasty:
                lifetime.stop()
                with anyio.move_on_after(seconds):
                    await outbox.emptied()
                outbox.close()
        except BaseException as problem:
            lifetime.cause, _ = what_leaves(problem, lifetime.exception)
            raise
        finally:
            lifetime.stop()
            try:
                with anyio.move_on_after(_PATIENCE, shield=True):
                    await outbox.emptied()
            finally:
                # Also where asyncio cancels through the shield: else it would go on for ever.
                outbox.close(lifetime.cause)


@asynccontextmanager
async def _working(
    worker: Worker, grace: float, lifetime: Lifetime, begin: Callable[[], object]
) -> AsyncGenerator[None]:
    """Handle events, and give back in the end what was not handled."""
    await worker.join()
    try:
        async with anyio.create_task_group() as group:
            # Only a bridge that opens takes a place, and only then may its handlers publish.
            begin()
            group.start_soon(worker.run)
            yield
            if not lifetime.is_hasty:
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
