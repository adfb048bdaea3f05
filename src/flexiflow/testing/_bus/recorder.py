"""The recorder: stands in for a bus, and notes in a trace what happens."""

from __future__ import annotations

import logging
import math
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import isawaitable, iscoroutinefunction
from typing import TYPE_CHECKING, Any

import anyio

from flexiflow.events import HANDLER_FAILED
from flexiflow.testing._examiner.trace import AWAITABLE, NOBODY, Entry, Publication, Seat

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from flexiflow.testing._examiner.trace import Trace

MOST_STARTS = 30
"""Once so many handlers have started, later ones do nothing, so that a recursion ends."""


_UNSET: ContextVar[object] = ContextVar("unset", default=None)
_observing: ContextVar[bool] = ContextVar("observing", default=False)


class Recorder(logging.Handler):
    """Stands in for the bus: calls it, and notes what happens.

    Args:
        bus: any object with the methods of a bus.
        trace: where to note it.
        mark: the context variable that programs set, if the program has one.
    """

    def __init__(self, bus: Any, trace: Trace, mark: ContextVar[object] | None = None) -> None:
        super().__init__()
        self._bus = bus
        self._trace = trace
        self._mark = mark or _UNSET
        self._observes = False

    async def subscribe(
        self, event: str, component: str, handler: Callable[[Any], Any], **options: Any
    ) -> object:
        """Subscribe the handler, wrapped so that its starts and ends are noted."""
        if not self._observes:
            self._observes = True
            await self._bus.subscribe(HANDLER_FAILED, "recorder", self._observe, priority=1)
        seat = Seat(
            number=len(self._trace.seats),
            event=event,
            component=component,
            name=handler.__name__,
            priority=options.get("priority", 3),
            once=options.get("once", False),
        )
        self._trace.seats.append(seat)
        if "filter" in options:
            options["filter"] = self._filter(seat, options["filter"])
        disguised = (self._async_handler if iscoroutinefunction(handler) else self._handler)(
            seat, handler
        )
        disguised.__name__, disguised.__qualname__ = handler.__name__, handler.__qualname__
        subscription = await self._bus.subscribe(event, component, disguised, **options)
        self._trace.subscriptions[subscription] = seat.number
        self._note("subscribed", seat.number, NOBODY, None)
        return subscription

    def unsubscribe(self, subscription: object) -> object:
        """Unsubscribe, and note what that returned."""
        removed = self._bus.unsubscribe(subscription)
        self._note("unsubscribed", self._trace.subscriptions[subscription], NOBODY, removed)
        return removed

    def unsubscribe_all(self, component: str) -> object:
        """Unsubscribe a component, and note what that returned."""
        count = self._bus.unsubscribe_all(component)
        self._note("emptied", NOBODY, NOBODY, (component, count))
        return count

    async def publish(self, event: str, data: object = None, **options: Any) -> object:
        """Publish, and note what that returned or raised."""
        publication = Publication(
            number=len(self._trace.publications),
            event=event,
            data=data,
            delivery=options.get("delivery"),
            on_error=options.get("on_error"),
        )
        self._trace.publications.append(publication)
        self._note("published", NOBODY, publication.number, None)
        try:
            failures = await self._bus.publish(event, publication, **options)
        except BaseException as exc:
            self._note("raised", NOBODY, publication.number, exc)
            raise
        self._note("returned", NOBODY, publication.number, failures)
        return failures

    def emit(self, record: logging.LogRecord) -> None:
        """Note a record of the log."""
        self._note("logged", NOBODY, NOBODY, record)

    def _observe(self, payload: object) -> None:
        self._note("announced", NOBODY, NOBODY, payload)

    def _handler(self, seat: Seat, handler: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def call(data: object) -> object:
            with self._observation(data):
                number, data = self._opened(data)
                try:
                    result = handler(data) if self._start(seat, number) else None
                except BaseException as exc:
                    self._note("failed", seat.number, number, exc)
                    raise
                self._note("ended", seat.number, number, None)
                return result

        return call

    def _async_handler(self, seat: Seat, handler: Callable[[Any], Any]) -> Callable[[Any], Any]:
        async def call(data: object) -> None:
            with self._observation(data):
                number, data = self._opened(data)
                try:
                    if self._start(seat, number):
                        await handler(data)
                except BaseException as exc:
                    self._note("failed", seat.number, number, exc)
                    raise
                self._note("ended", seat.number, number, None)

        return call

    def _filter(self, seat: Seat, accepts: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
        def ask(event: str, data: object) -> object:
            number, data = self._opened(data)
            self._note("asked", seat.number, number, event)
            try:
                verdict = accepts(event, data)
            except BaseException as exc:
                self._note("failed", seat.number, number, exc)
                raise
            answer = AWAITABLE if isawaitable(verdict) else verdict
            self._note("answered", seat.number, number, answer)
            return verdict

        return ask

    @contextmanager
    def _observation(self, data: object) -> Generator[None]:
        """Mark what a handler of `event.handler.failed` does, and whatever that calls (E7)."""
        is_failure = (
            data.event == HANDLER_FAILED
            if isinstance(data, Publication)
            # The bus's own event; a bus may publish others too, which handlers of `**` get.
            else isinstance(data, dict) and "exception" in data
        )
        # Only then: a bus need not keep a context that was changed.
        token = _observing.set(True) if is_failure else None
        try:
            yield
        finally:
            if token is not None:
                _observing.reset(token)

    def _opened(self, data: object) -> tuple[int, object]:
        if isinstance(data, Publication):
            return data.number, data.data
        return NOBODY, data

    def _start(self, seat: Seat, number: int) -> bool:
        self._note("started", seat.number, number, None)
        return len(self._trace.all("started")) < MOST_STARTS

    def _note(self, what: str, seat: int, publication: int, value: object) -> None:
        task = anyio.get_current_task()
        self._trace.entries.append(
            Entry(
                what,
                seat,
                publication,
                value,
                task.id,
                self._mark.get(),
                anyio.current_effective_deadline() == -math.inf,
                task.parent_id,
                _observing.get(),
            )
        )
