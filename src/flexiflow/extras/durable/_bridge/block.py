"""The block of a bridge: its parts are opened in order, and left in reverse (X5, X10)."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final, final
from uuid import uuid4

import anyio

from flexiflow._reporting import logger
from flexiflow._tasks import left_elsewhere
from flexiflow.extras.durable._bridge.arguments import check_prefetch
from flexiflow.extras.durable._bridge.batcher import Batcher
from flexiflow.extras.durable._bridge.bridge import Bridge
from flexiflow.extras.durable._bridge.cloudevents import Encoder
from flexiflow.extras.durable._bridge.leaving import what_leaves, without_frames
from flexiflow.extras.durable._bridge.lifetime import Lifetime
from flexiflow.extras.durable._bridge.place import Way, take_place
from flexiflow.extras.durable._bridge.relaying import relaying
from flexiflow.extras.durable._bridge.scheduling import Scheduler
from flexiflow.extras.durable._bridge.watching import watching
from flexiflow.extras.durable._bridge.worker import Worker
from flexiflow.extras.durable._errors import TransportError
from flexiflow.extras.durable._patterns import canonical
from flexiflow.extras.durable._records import Member

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from types import TracebackType

    from flexiflow.extras.durable._bridge.arguments import Settings
    from flexiflow.extras.durable._bridge.link import Link
    from flexiflow.extras.durable._bridge.relaying import OutboxFile

_LONGEST_DELAY: Final = 30.0
"""The longest wait for the next attempt, in seconds, unless `retry_delay` is more."""

PATIENCE: Final = 5.0
"""For how many seconds a bridge that is being left tries to give back events, and to store them."""


@final
class Block:
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
            self._host = anyio.get_current_task()
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
        if isinstance(leaving, RuntimeError) and leaving is not lifetime.exception:
            leaving = left_elsewhere(self._host) or leaving
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
    async with link.transport.connect() as opened, AsyncExitStack() as stack:
        watch = watching.watch
        connection = opened if watch is None else watch(link.bus, link.transport, opened)
        check_prefetch(settings.prefetch_bytes, connection.max_event_bytes)
        lifetime.address = connection.address
        way: Way | None = None
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
            await stack.enter_async_context(_storing(batcher, settings.store_timeout, lifetime))
        if outbox_file is not None:
            relay = outbox_file.make_relay(link, connection)
            seconds = settings.store_timeout
            await stack.enter_async_context(relaying(relay, seconds, PATIENCE, lifetime))

        def begin() -> None:
            if way is not None:
                take_place(settings.outgoing, way, lifetime)

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
                with anyio.move_on_after(PATIENCE, shield=True):
                    await batcher.emptied()
            finally:
                # Also where asyncio cancels through the shield: else the batcher would never end.
                batcher.close(lifetime.cause)


@asynccontextmanager
async def _working(
    worker: Worker, grace: float, lifetime: Lifetime, begin: Callable[[], None]
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
                with anyio.move_on_after(grace + PATIENCE):
                    await worker.ended()
            group.cancel_scope.cancel()
    finally:
        with anyio.move_on_after(PATIENCE, shield=True) as scope:
            await _give_back(worker)
        if scope.cancelled_caught:
            logger.warning("a bridge was left, and what it held is given to others only later")


async def _give_back(worker: Worker) -> None:
    try:
        await worker.give_back()
    except TransportError as exc:
        logger.warning("a bridge could not give back what it held: %s", exc)
