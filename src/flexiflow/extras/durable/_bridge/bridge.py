"""A bridge between a bus and a transport: how an event passes (X1 to X8, X10).

Out: of all handlers of an outgoing event, the bridge's own is called first (`Place`). It writes
the event down as a CloudEvent (`Encoder`) and puts it into the `Batcher`, where the publish waits
until the transport has stored the batch that the event is in. Storing a batch may be repeated: its
number tells the transport that it has the batch already (X2).

In: a `Worker` joins the group and leases partitions. For each lease an `Intake` receives events and
holds them. `Lanes` let one event of a key through at a time, a `Queue` decides which one is next,
and the tasks of a `Crew` publish it on the bus. When its handlers have ended, the worker decides
the outcome, and the intake writes it to the transport. After a crash before that the event is
handled again: at least once, not exactly once (X1).

Opening: first the connection, then the batcher's task, then the relay of a user's outbox
(`relaying`), then the worker joins, and only then does the bridge take its place on the bus.
Leaving is the reverse: the worker receives no more, handlers have `grace` seconds to end, what is
left is given back; the relay hands on what was committed; then the place stops storing, the batcher
stores what it still has, and the connection is closed. After an exception or a cancellation nothing
is waited for but giving back and storing, for at most `_PATIENCE` seconds each. `Lifetime` keeps
what ended the bridge; a bridge that failed leaves its place on the bus, where each publish fails
(X10).
"""

from __future__ import annotations

import reprlib
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, final
from uuid import uuid4

import anyio

from flexiflow._arguments import check_count
from flexiflow._errors import ReceiverClosed
from flexiflow._reporting import logger
from flexiflow.extras.durable._bridge.arguments import (
    Settings,
    check_ends,
    check_group,
    check_prefetch,
    check_settings,
    check_start,
    patterns_of,
)
from flexiflow.extras.durable._bridge.batcher import Batcher
from flexiflow.extras.durable._bridge.cloudevents import JSON, Encoder
from flexiflow.extras.durable._bridge.leaving import what_leaves, without_frames
from flexiflow.extras.durable._bridge.link import Link
from flexiflow.extras.durable._bridge.place import Lifetime, Way, take_place
from flexiflow.extras.durable._bridge.relaying import check_outbox, relaying
from flexiflow.extras.durable._bridge.scheduling import Scheduler
from flexiflow.extras.durable._bridge.schemas import check_schemas
from flexiflow.extras.durable._bridge.worker import Worker
from flexiflow.extras.durable._errors import TransportError
from flexiflow.extras.durable._patterns import canonical
from flexiflow.extras.durable._records import Member

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime
    from types import TracebackType

    from flexiflow._bus import EventBus
    from flexiflow._names import Topic
    from flexiflow.extras.durable._bridge.cloudevents import Codec
    from flexiflow.extras.durable._bridge.place import BridgeStatus
    from flexiflow.extras.durable._bridge.relaying import OutboxFile
    from flexiflow.extras.durable._bridge.schemas import Schema
    from flexiflow.extras.durable._bridge.statistics import BridgeStatistics
    from flexiflow.extras.durable._records import DeadLetter, Replayed
    from flexiflow.extras.durable._transport import Connection, Transport

T = TypeVar("T")

_LONGEST_DELAY: Final = 30.0
"""The longest wait for the next attempt, in seconds, unless `retry_delay` is more."""

_PATIENCE: Final = 5.0
"""For how many seconds a bridge that is being left tries to give back events, and to store them."""


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
    schemas: Iterable[Schema[Any]] = (),
    max_depth: int = 100,
    start: datetime | str | Sequence[str] = "oldest",
    outbox: OutboxFile | None = None,
) -> AbstractAsyncContextManager[Bridge]:
    """Store the events that a bus publishes, and publish on it the events that others have stored.

    Returns an async context manager; the bridge is open as long as its block lasts. When the block
    ends, handlers that are running have `grace` seconds, and all other events are given back. If an
    exception or a cancellation ends the block, all events are given back at once (X5). A problem of
    the bridge itself that would not get better, such as `TransportUnusable` or `ConsumerInUse`,
    cancels the block and is raised from it.

    After such an end no outgoing event is lost silently: publishing one fails with `BridgeClosed`
    until a bridge of the same bus, transport and `outgoing` is opened, or `Bridge.forget` is
    called (X10).

    Args:
        bus: the bus.
        transport: where events outlive the process.
        outgoing: patterns of the events that are stored before their handlers run (X1). An event
            that can't be stored is a failure of its publish.
        incoming: patterns of the events that the group takes. Each event is published on the bus,
            and acknowledged when all its handlers have succeeded.
        group: the group whose workers share the incoming events; a name of letters, digits, ".",
            "_" and "-".
        consumer: the worker's name, of the same characters; no other worker of the group may have
            it. None for a random name.
        source: the publisher's name, which CloudEvents requires; None for the group's name, or
            "flexiflow" without a group.
        key: returns the key of an outgoing event, given its payload. Events of one key are handled
            one at a time, in order (X4). Without a function, or where it returns None, the order is
            open.
        limit: how many incoming events are handled at once, 1 or more.
        prefetch: how many events are held at most, for each partition that this worker reads; 1 or
            more.
        prefetch_bytes: how many bytes of stored events are held at most, of all partitions
            together; at least the transport's `max_event_bytes` (X14).
        max_waiting: while this many events of the group wait for their next attempt, or for others
            of their key, no new ones are received; 1 or more. Several partitions share the number
            equally (X12).
        max_attempts: after this many failed attempts an event becomes a dead letter (X3); 1 or
            more.
        max_deliveries: after this many attempts that never ended it becomes one, too; 1 or more.
        retry_delay: seconds before the second attempt, 0 or more; doubled before each further one,
            up to 30, or up to `retry_delay` where that is more. Meanwhile the event waits at the
            transport, also over restarts, and does not count as held (X12).
        lease: seconds of silence after which a worker counts as dead, more than 0; the events it
            held are given to other workers, if there are any (X11).
        grace: seconds that handlers have to end when the block does, 0 or more.
        store_timeout: for how many seconds to try to store an event, more than 0; when the block
            ends, all events that are not yet stored have as many together.
        codec: encodes and decodes payloads (X7).
        schemas: how the payloads of some events are written and read, one for each of them; those
            of all others are what the codec takes (Y1).
        max_depth: an event that comes in is a dead letter at once if it is deeper than this in a
            chain of stored events, each published while the one before was handled; 1 or more (Y2).
        start: where the group begins if this bridge is its first: with the "oldest" event that is
            kept; with the next "new" one; with the first that was stored at a time, given with its
            time zone; or behind the position of an event, for several partitions a position in each
            of them. It is ignored where there is a group (Y5).
        outbox: an outbox in a file, as `Outbox.at` returns it; the events that are committed there
            are stored in the transport, once each, whether they are outgoing or not (Y4). This bus
            does not see them on the way. Of several bridges with the same outbox, also in other
            processes, one does that. While the file can't be used, the bridge tries again, and all
            else goes on.

    Every count is an int of at most 10**12.

    Raises:
        ValueError: a number out of its range; a malformed pattern or name; outgoing and incoming
            patterns that overlap (X8); neither of them nor an outbox; incoming ones without a
            group; a key without outgoing ones; two schemas of one event; a `start` without a time
            zone; on entering the block, `prefetch_bytes` below the transport's `max_event_bytes`,
            an outbox that takes larger events than the transport, or a `start` that is no position
            of the transport.
        StartTrimmed: on entering the block: events behind the position `start` were deleted.
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
        schemas=check_schemas(schemas),
        max_depth=max_depth,
        start=check_start("start", start),
    )
    check_settings(settings, has_outbox=check_outbox(outbox))
    return _Block(Link(bus, transport, settings), outbox)


@final
class Bridge:
    """An open bridge, made by `open_bridge`."""

    __slots__ = (
        "_connection",
        "_counters",
        "_group",
        "_held",
        "_lifetime",
        "_scheduler",
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
        self._connection: Connection | None = connection
        self._scheduler: Scheduler | None = scheduler
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
    ) -> str:
        """Store an event now that is handed out later, once its time has come (Y3).

        It is stored when this returns. It is handed out at its time or later, never before, by the
        transport's clock; at least once, as any stored event; and takes its place among the events
        of its key then. It need not be an outgoing event of this bridge, and may be an incoming
        one. Its chain begins anew (Y2).

        If this raises `TransportUnavailable` or is cancelled, the event may be stored all the same.

        Args:
            event: the event's name.
            data: the payload.
            delay: in how many seconds, 0 or more; this or `at`.
            at: when, with a time zone; a time that has passed is now.
            key: the event's key; None for what the bridge's `key` returns.

        Returns:
            A ticket, by which it can be cancelled, also by others.

        Raises:
            ValueError: both or none of `delay` and `at` are given; `delay` is negative, infinite or
                NaN; `at` has no time zone; a malformed name.
            TypeError: an argument of the wrong type.
            NotEncodable: the payload, or the key, can't be stored.
            EventTooLarge: it has more bytes than the transport takes.
            ScheduleFull: the transport has as many scheduled events as it may.
            TransportUnavailable: it could not be stored within `store_timeout`.
            ReceiverClosed: the bridge's block is over.
        """
        return await self._open_scheduler().schedule(event, data, delay, at, key)

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
        return await self._open_scheduler().cancel(ticket)

    async def replay(self, group: str, *, since: datetime | str | Sequence[str]) -> Replayed:
        """Make a group handle events again, or pass some over (Y5).

        All leases of the group end: what its workers are handling is cancelled, and they begin
        anew. What comes after the place is given to them again, whether it was handled, waits for
        an attempt, or is a dead letter. An event that comes before and was not handled yet is
        passed over, unless it waits or is a dead letter.

        Args:
            group: the group; it need not be this bridge's.
            since: the place, as `start` of `open_bridge`.

        Returns:
            Where the group begins, and whether all events since then were kept.

        Raises:
            ValueError: there is no such group; a time without a time zone; `since` is no position
                of the transport.
            TypeError: an argument of the wrong type.
            StartTrimmed: events behind the position `since` were deleted.
            TransportUnavailable: the transport can't be reached.
            ReceiverClosed: the bridge's block is over.
        """
        check_group(group)
        start = check_start("since", since)
        if self._connection is None:
            raise ReceiverClosed("the bridge", "is over")
        replayed = await self._connection.replay(group, start)
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
        connection, group = self._checked()
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
        connection, group = self._checked()
        return await connection.redrive(group, ids)

    def close(self) -> None:
        """Stop using the connection; called by `open_bridge`."""
        self._connection = self._scheduler = None

    def end(self, cause: BaseException | None) -> None:
        """Note the end of the block, and drop the worker; called by `open_bridge`."""
        if self._worker is not None:
            self._held = self._worker.held
            self._worker = None
        self._lifetime.end(cause)

    def _checked(self) -> tuple[Connection, str]:
        """Return the connection and the group; raise where one is missing."""
        if self._group is None:
            raise ValueError("a bridge without a group has no dead letters; give open_bridge one")
        if self._connection is None:
            raise ReceiverClosed("the bridge", "is over")
        return self._connection, self._group

    def _open_scheduler(self) -> Scheduler:
        if self._scheduler is None:
            raise ReceiverClosed("the bridge", "is over")
        return self._scheduler


def _check_id(given: object) -> None:
    if not isinstance(given, str):
        raise TypeError(f"the id of a dead letter must be a str, not {reprlib.repr(given)}")


@final
class _Block:
    """The async context manager that `open_bridge` returns.

    It is separate from the generators that do the work, and keeps the user's exceptions from them:
    contextlib would write to such an exception, and a task group would wrap it.
    """

    def __init__(self, link: Link, outbox: OutboxFile | None) -> None:
        self._lifetime = Lifetime()
        self._manager = _run(link, outbox, self._lifetime)

    async def __aenter__(self) -> Bridge:
        try:
            self._bridge = await self._manager.__aenter__()
        except BaseException as problem:  # noqa: BLE001  raised below, without its group
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
        except BaseException as problem:  # noqa: BLE001  what is raised is decided below
            leaving = self._what_leaves(problem)
            if exc is not None and self._lifetime.exception is None:
                # A cancellation went through the bridge: drop the bridge's frames from its
                # traceback.
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
            # The exception's traceback keeps this frame alive; without this, the frame would keep
            # the exception alive, and with it the events that were in flight.
            del exc, traceback, thrown, leaving

    def _what_leaves(self, problem: BaseException) -> BaseException:
        """Return the exception that leaves the block, and log the others."""
        lifetime = self._lifetime
        leaving, told = what_leaves(problem, lifetime.exception)
        for each in told:
            logger.error("a bridge failed as it was left: %s", each, exc_info=each)
        if lifetime.had_place and leaving is not lifetime.exception:
            # The place on the bus keeps the exception. Its frames hold the events that were in
            # hand, so log the traceback and drop it.
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
    link: Link, outbox_file: OutboxFile | None, lifetime: Lifetime
) -> AsyncGenerator[Bridge]:
    settings = link.settings
    async with link.transport.connect() as connection, AsyncExitStack() as stack:
        check_prefetch(settings.prefetch_bytes, connection.max_event_bytes)
        lifetime.address = connection.address
        begin: Callable[[], object] = int
        producer = uuid4().hex
        source = settings.source or settings.group or "flexiflow"
        encoder = Encoder(source, producer, settings.codec, settings.schemas)
        worker = Worker(link, connection, _member(settings)) if settings.incoming else None
        scheduler = Scheduler(link, connection, encoder)
        bridge = Bridge(link, connection, worker, scheduler, lifetime)
        # Last of all: handlers that still run may use the bridge.
        stack.callback(bridge.close)
        if settings.outgoing:
            batcher = Batcher(link, connection, producer)
            way = Way((link.bus, link.transport), settings.key, encoder, batcher)
            begin = partial(take_place, settings.outgoing, way, lifetime)
            await stack.enter_async_context(_storing(batcher, settings.store_timeout, lifetime))
        if outbox_file is not None:
            relay = outbox_file.make_relay(link, connection)
            seconds = settings.store_timeout
            await stack.enter_async_context(relaying(relay, seconds, _PATIENCE, lifetime))
        if worker is None:
            begin()
        else:
            await stack.enter_async_context(_working(worker, settings.grace, lifetime, begin))
        yield bridge


def _member(settings: Settings) -> Member:
    token = uuid4().hex
    return Member(
        str(settings.group),
        settings.consumer or token,
        token,
        canonical(settings.incoming),
        settings.lease,
        max(settings.retry_delay, _LONGEST_DELAY),
        settings.start,
    )


@asynccontextmanager
async def _storing(batcher: Batcher, seconds: float, lifetime: Lifetime) -> AsyncGenerator[None]:
    """Run the batcher until the block is over and all handlers that might publish have ended."""
    async with anyio.create_task_group() as group:
        group.start_soon(batcher.run)
        try:
            yield
            if not lifetime.is_hasty:
                lifetime.stop()
                with anyio.move_on_after(seconds):
                    await batcher.emptied()
                batcher.close()
        except BaseException as problem:
            lifetime.cause, _ = what_leaves(problem, lifetime.exception)
            raise
        finally:
            lifetime.stop()
            try:
                with anyio.move_on_after(_PATIENCE, shield=True):
                    await batcher.emptied()
            finally:
                # Also where asyncio cancels through the shield: else the batcher would never end.
                batcher.close(lifetime.cause)


@asynccontextmanager
async def _working(
    worker: Worker, grace: float, lifetime: Lifetime, begin: Callable[[], object]
) -> AsyncGenerator[None]:
    """Run the worker, and in the end give back the events that were not handled."""
    await worker.join()
    try:
        async with anyio.create_task_group() as group:
            # After `join`, so that a bridge that can't open takes no place; before the worker runs,
            # so that events which its handlers publish are stored.
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
