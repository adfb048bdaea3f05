"""The recorder of a bus: calls it, and notes in a trace what happens."""

from __future__ import annotations

from contextlib import contextmanager
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final

from flexiflow.events import HANDLER_FAILED
from flexiflow.testing._bus.trace import AWAITABLE, Publication, Seat
from flexiflow.testing._examiner.kit import mark
from flexiflow.testing._examiner.recorder import Recorder, disguise, observing
from flexiflow.testing._examiner.trace import NOBODY

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from flexiflow.testing._bus.trace import BusTrace
    from flexiflow.testing._examiner.recorder import Handed

MOST_STARTS: Final = 30
"""Once so many handlers have started, later ones do nothing, so that a recursion ends."""


class BusRecorder(Recorder):
    """Stands in for the bus.

    Args:
        bus: any object with the methods of a bus.
        trace: where to note what happens.
    """

    def __init__(self, bus: Any, trace: BusTrace) -> None:
        super().__init__(trace)
        self._bus = bus
        self._trace = trace
        self._observes = False

    def who(self, seat: int, act: int, component: str) -> str:
        """Return the name of a handler, and its publish."""
        who = [self._trace.seats[seat].name] if seat >= 0 else []
        if act >= 0:
            who.append(f"publish {act} of {self._trace.publications[act].event!r}")
        return " in ".join(who)

    def seen(self, component: str) -> object:
        """Return the value of the context variable that scripts set."""
        return mark.get()

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
            options["filter"] = disguise(options["filter"], self._asked(seat))
        disguised = disguise(handler, self._handled(seat))
        subscription = await self._bus.subscribe(event, component, disguised, **options)
        self._trace.subscriptions[subscription] = seat.number
        self.note("subscribed", seat=seat.number)
        return subscription

    def unsubscribe(self, subscription: object) -> object:
        """Unsubscribe, and note what that returned."""
        removed = self._bus.unsubscribe(subscription)
        self.note("unsubscribed", removed, seat=self._trace.subscriptions[subscription])
        return removed

    def unsubscribe_all(self, component: str) -> object:
        """Unsubscribe a component, and note what that returned."""
        count = self._bus.unsubscribe_all(component)
        self.note("emptied", (component, count))
        return count

    async def publish(self, event: str, data: object = None, **options: Any) -> object:
        """Publish, and note what that returned or raised."""
        number = len(self._trace.publications)
        delivery, on_error = options.get("delivery"), options.get("on_error")
        publication = Publication(number, event, data, delivery, on_error)
        self._trace.publications.append(publication)
        with self.noted("published", "returned", fails="raised", act=number) as answers:
            failures = await self._bus.publish(event, publication, **options)
            answers.append(failures)
        return failures

    def _observe(self, payload: object) -> None:
        self.note("announced", payload)

    def _handled(self, seat: Seat) -> Callable[..., Any]:
        @contextmanager
        def around(data: object) -> Generator[Handed]:
            number, given = _opened(data)
            with (
                _observation(data),
                self.noted("started", "ended", seat=seat.number, act=number) as answers,
            ):
                is_endless = len(self._trace.all("started")) >= MOST_STARTS
                yield None if is_endless else (given,), answers

        return around

    def _asked(self, seat: Seat) -> Callable[..., Any]:
        @contextmanager
        def around(event: str, data: object) -> Generator[Handed]:
            number, given = _opened(data)
            with self.noted("asked", "answered", event, seat=seat.number, act=number) as answers:
                yield (event, given), answers
                answers[:] = [AWAITABLE if isawaitable(each) else each for each in answers]

        return around


@contextmanager
def _observation(data: object) -> Generator[None]:
    """Mark what a handler of `event.handler.failed` does, and whatever that calls (E7)."""
    is_failure = (
        data.event == HANDLER_FAILED
        if isinstance(data, Publication)
        # The bus's own event; a bus may publish others too, which handlers of `**` get.
        else isinstance(data, dict) and "exception" in data
    )
    # Only then: a bus need not keep a context that was changed.
    token = observing.set(True) if is_failure else None
    try:
        yield
    finally:
        if token is not None:
            observing.reset(token)


def _opened(data: object) -> tuple[int, object]:
    if isinstance(data, Publication):
        return data.number, data.data
    return NOBODY, data
