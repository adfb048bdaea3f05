"""The tasks that handle events by publishing them on the bus, at most `limit` of them (X4)."""

from __future__ import annotations

from contextvars import copy_context
from itertools import filterfalse
from typing import TYPE_CHECKING, final

import anyio
from anyio.lowlevel import checkpoint

from flexiflow._bus import dispatcher_of
from flexiflow._cancellation import cancel_counter, effectively_cancelled, split
from flexiflow._errors import HandlerCancelled
from flexiflow._instruments import leave
from flexiflow._marks import is_unchanged
from flexiflow._reporting import logger
from flexiflow._text import show
from flexiflow.extras.durable._bridge.carrying import RESUME, resumed
from flexiflow.extras.durable._bridge.held import handing_on
from flexiflow.extras.durable._errors import NewerVersion, NotDecodable, is_an_outage
from flexiflow.extras.durable._outcomes import Noted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flexiflow._subscription import HandlerFailure
    from flexiflow.extras.durable._bridge.held import Held
    from flexiflow.extras.durable._bridge.intake import Intake
    from flexiflow.extras.durable._bridge.lanes import Queue
    from flexiflow.extras.durable._bridge.link import Link


class Escaped(Exception):
    """Carries a `KeyboardInterrupt` or `SystemExit` from a handler to the block of the bridge.

    Unwrapped it would leave asyncio's loop at once, with all tasks still there.

    Args:
        exception: the exception that it wraps.
    """

    def __init__(self, exception: BaseException) -> None:
        super().__init__(exception)
        self.exception = exception


class _Slot:
    """A task that handles one event after another.

    Attributes:
        scope: cancels the task.
        requests: returns how often the task was cancelled natively, as by `Task.cancel`.
        held: the event that it handles, or None.
        woken: set when it is to look for more events; a new one each time that it waits.
    """

    __slots__ = ("held", "requests", "scope", "woken")

    def __init__(self) -> None:
        self.requests: Callable[[], int] = int
        self.scope = anyio.CancelScope()
        self.held: Held[Intake] | None = None
        self.woken = anyio.Event()


@final
class Crew:
    """Handles the events in a queue.

    Before a task handles an event, it wakes or starts one more task if there are more events. That
    one *stands by*: it takes the next event as soon as it runs. So handlers which never wait are
    run by one task, one after another, and more tasks start only as handlers wait.

    Args:
        link: what the parts of the bridge share.
        queue: the events.
        start: starts a task, in a context that no handler has changed.
        conclude: called after each attempt with the event, its failure or None, and whether it is
            still held.
        unoccupied: called whenever no event is left to take.
    """

    def __init__(
        self,
        link: Link,
        queue: Queue[Held[Intake]],
        *,
        start: Callable[..., None],
        conclude: Callable[[Held[Intake], Exception | None, bool], None],
        unoccupied: Callable[[], None],
    ) -> None:
        self._bus = link.bus
        self._registry = dispatcher_of(link.bus).registry
        self._queue = queue
        self._limit = link.settings.limit
        self._schemas = link.settings.schemas
        self._counters = link.counters
        self._start = start
        self._conclude = conclude
        self._unoccupied = unoccupied
        self._slots: set[_Slot] = set()
        self._idle: list[_Slot] = []
        self._stands_by = False
        self._again = anyio.Lock()
        self._patience = link.settings.lease
        self._turn = -1

    def call(self) -> None:
        """Make sure that a task stands by if there is an event to take, else ask for more."""
        if self._stands_by:
            return
        if not self._queue:
            if self._queue.is_held_up and self._turn != self._queue.turn:
                self._turn = self._queue.turn
                self._start(self._relent, self._turn)
            self._unoccupied()
        elif self._idle:
            self._stands_by = True
            self._idle.pop().woken.set()
        elif len(self._slots) < self._limit:
            self._stands_by = True
            slot = _Slot()
            self._slots.add(slot)
            self._start(self._work, slot)

    async def _relent(self, turn: int) -> None:
        """Stop isolating a suspect after as many seconds as a lease lasts.

        A handler that runs may be waiting for an event that is held up, and would do so for ever.
        """
        await anyio.sleep(self._patience)
        self._queue.relent(turn)
        self.call()

    def stop(self, intake: Intake) -> None:
        """Cancel the handling of all events that are held by a lease."""
        for slot in self._slots:
            if slot.held is not None and slot.held.intake is intake:
                slot.scope.cancel()

    async def _work(self, slot: _Slot) -> None:
        try:
            with slot.scope:
                await self._work_on(slot)
        finally:
            self._slots.discard(slot)
        # Not reached when the whole bridge is being cancelled: then no task is to begin.
        self.call()

    async def _work_on(self, slot: _Slot) -> None:
        """Handle events and wait for more, until a handler has left traces in the task.

        Such traces are cancellations, and context variables that were set: another task goes on.
        """
        # Eager tasks would otherwise start one inside the other.
        await checkpoint()
        handing_on.set(None)
        queue, inherited = self._queue, list(copy_context().values())
        # Where the values of a context have the event that is being handled.
        index = list(copy_context()).index(handing_on)
        requests = slot.requests = cancel_counter()
        while True:
            self._stands_by = False
            while (held := queue.take()) is not None:
                self.call()
                inherited[index] = held
                handing_on.set(held)
                await self._handle(slot, held)
                if requests() or slot.scope.cancel_called or not is_unchanged(inherited):
                    return
            # Keep nothing of the last event while waiting for the next.
            handing_on.set(None)
            inherited[index] = None
            # The queue is empty, or holds a suspect's neighbours up: `call` deals with both.
            self.call()
            slot.woken = anyio.Event()
            self._idle.append(slot)
            await slot.woken.wait()

    async def _handle(self, slot: _Slot, held: Held[Intake]) -> None:
        intake, was_suspect = held.intake, held.is_suspect
        slot.held = held
        held.scope = slot.scope
        intake.running += 1
        try:
            is_ordinary = not (was_suspect or held.has_waited or intake.has_run_out)
            if not is_ordinary and not await self._may_begin(held):
                return
            problem = await self._attempt(slot, held)
        finally:
            held.scope = None
            slot.held = None
            self._queue.back(was_suspect=was_suspect, has_waited=held.has_waited)
            is_held = intake.stopped(held)
        self._conclude(held, problem, is_held)

    async def _may_begin(self, held: Held[Intake]) -> bool:
        """Return whether an attempt may begin; not if another lease holds the event by now.

        Before an attempt at a suspect, which the worker may not survive, its count is written (X3).
        """
        # What is begun here, such as a connection, may outlast the event.
        handing_on.set(None)
        if held.has_waited:
            # It has failed before: begin one in each turn of the scheduler, behind all others.
            async with self._again:
                await checkpoint()
        if held.intake.has_run_out:
            await held.intake.confirm()
        if held.is_suspect and held.intake.holds(held):
            held.deliveries += 1
            held.is_counted = True
            held.intake.note(Noted(held.position, held.attempts, held.deliveries))
            await held.intake.written()
        handing_on.set(held)
        return held.intake.holds(held)

    def _read(self, held: Held[Intake]) -> Exception | None:
        """Give an event the payload that its schema makes, and return what is wrong with it (Y1).

        Not before its turn: that keeps a payload which kills the worker from doing so for ever.
        """
        schema = self._schemas.get(held.name)
        if schema is not None:
            try:
                held.data = schema.decode(held.data, held.event.attributes.get("dataschema"))
            except (NewerVersion, NotDecodable) as exc:
                held.unread = exc
        return held.unread

    def _publish(self, held: Held[Intake]) -> Awaitable[tuple[HandlerFailure, ...]]:
        """Return the coroutine that publishes an event on the bus."""
        self._counters.delivered += 1
        if held.attempts or held.is_suspect:
            self._counters.redelivered += 1
        if self._registry.instruments:
            return self._publish_resumed(held)
        return self._bus.publish(held.name, held.data)

    async def _publish_resumed(self, held: Held[Intake]) -> tuple[HandlerFailure, ...]:
        """Publish an event on the bus, within what its publisher's instruments have sent along."""
        entered, leaving = resumed(self._registry.instruments, held.event), None
        try:
            return await self._bus.publish(held.name, held.data)
        except BaseException as exc:
            leaving = exc
            raise
        finally:
            leave(entered, leaving, RESUME)
            del leaving

    async def _attempt(self, slot: _Slot, held: Held[Intake]) -> Exception | None:
        """Publish an event on the bus, and return the failure, or None."""
        try:
            if self._schemas and (unread := self._read(held)):
                return unread
            failures = await self._publish(held)
            if slot.requests():
                await checkpoint()
        except Exception as exc:  # noqa: BLE001  any exception is a failed attempt
            logger.warning("handling the stored event %s failed", show(held.name), exc_info=exc)
            return exc
        except (anyio.get_cancelled_exc_class(), BaseExceptionGroup) as exc:
            if effectively_cancelled() or not isinstance(split(exc)[1], Exception | None):
                raise
            stray = HandlerCancelled(f"the handling of the stored event {show(held.name)}")
            stray.__cause__ = exc
            logger.warning("%s", stray)
            return stray
        except (KeyboardInterrupt, SystemExit) as exc:
            raise Escaped(exc) from None
        if not failures:
            return None
        problems = [each.exception for each in failures]
        # Prefer a failure that counts as an attempt to one where something could not be stored.
        return next(filterfalse(is_an_outage, problems), problems[0])
