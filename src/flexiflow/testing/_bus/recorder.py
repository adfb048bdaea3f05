"""What stands in for a bus while a script runs, and notes what happens."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial, wraps
from inspect import isawaitable, iscoroutinefunction, unwrap
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from flexiflow._errors import PublishRefused
from flexiflow.events import HANDLER_FAILED
from flexiflow.testing._bus.offers import PRIORITY, USES
from flexiflow.testing._bus.trace import AWAITABLE, Call, Publication, Seat, Watcher
from flexiflow.testing._examiner.kit import awaitable, mark
from flexiflow.testing._examiner.recorder import Recorder, disguise, observing
from flexiflow.testing._examiner.trace import NOBODY, is_a

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from contextlib import AbstractContextManager

    from flexiflow.testing._bus.trace import BusTrace
    from flexiflow.testing._examiner.recorder import Handed

_within: ContextVar[tuple[Call, ...]] = ContextVar("within", default=())
MOST_STARTS: Final = 30
"""Once so many handlers have started, later ones do nothing, so that a recursion ends."""


class BusRecorder(Recorder):
    """Stands in for the bus.

    Args:
        bus: any object with the methods of a bus.
        trace: where to note what happens.
        offers: what the bus offers.
    """

    def __init__(
        self, bus: Any, trace: BusTrace, offers: frozenset[str] = frozenset({*USES})
    ) -> None:
        super().__init__(trace)
        self._first = {"priority": 1} if PRIORITY in offers else {}
        self._bus = bus
        self._trace = trace
        self._observes = False
        self._starts = 0

    def who(self, seat: int, act: int, component: str) -> str:
        """Return the name of an instrument, a handler, and its publish."""
        who = [component] if component else []
        if seat >= 0:
            who.append(self._trace.seats[seat].name)
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
            await self._bus.subscribe(HANDLER_FAILED, "recorder", self._observe, **self._first)
        seat = Seat(
            number=len(self._trace.seats),
            event=event,
            component=component,
            name=handler.__name__,
            priority=options.get("priority", 3),
            once=options.get("once", False),
            options=frozenset(options),
        )
        self._trace.seats.append(seat)
        if "filter" in options:
            options["filter"] = disguise(options["filter"], self._asked(seat))
        if "around" in options:
            options["around"] = [
                disguise(each, self._surrounded(seat)) for each in options["around"]
            ]
        disguised = self._disguised(handler, seat)
        subscription = await self._bus.subscribe(event, component, disguised, **options)
        self._trace.subscriptions.append((subscription, seat.number))
        self.note("subscribed", seat=seat.number)
        return subscription

    def unsubscribe(self, subscription: object) -> object:
        """Unsubscribe, and note what that returned."""
        removed = self._bus.unsubscribe(subscription)
        self.note("unsubscribed", removed, seat=self._trace.number_of(subscription))
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
        publication = Publication(number, event, data, delivery, on_error, _within.get())
        self._trace.publications.append(publication)
        with self.noted("published", "returned", fails="raised", act=number) as answers:
            failures = await self._bus.publish(event, publication, **options)
            answers.append(failures)
        return failures

    def add_instrument(self, instrument: Any) -> None:
        """Add an instrument, wrapped so that what it sees is noted."""
        methods = {each for each in ("publishing", "handling") if hasattr(instrument, each)}
        name = f"instrument {len(self._trace.watchers)}"
        watched = {each: self._watching(name, getattr(instrument, each)) for each in methods}
        self._bus.add_instrument(SimpleNamespace(**watched))
        self._trace.watchers.append(Watcher(name, frozenset(methods), len(self._trace.entries)))

    def _watching(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def watch(event: Any, *handled: Any) -> AbstractContextManager[object]:
            seat = self._trace.number_of(handled[0]) if handled else NOBODY
            if handled and seat == NOBODY:
                # The recorder's own handler is nobody's business.
                return nullcontext()
            act = _opened(event.data)[0]
            note = partial(self.note, component=name, act=act, seat=seat)
            with _breaking(note):
                return _Manager(method(event, *handled), method.__name__, note)

        def publishing(event: Any) -> AbstractContextManager[object]:
            return watch(event)

        def handling(event: Any, subscription: object) -> AbstractContextManager[object]:
            return watch(event, subscription)

        return publishing if method.__name__ == "publishing" else handling

    def _disguised(self, handler: Callable[[Any], Any], seat: Seat) -> Callable[[Any], Any]:
        returned = unwrap(handler)
        if not iscoroutinefunction(returned) or returned is handler:
            return disguise(handler, self._handled(seat))
        disguised = awaitable(disguise(returned, self._handled(seat)))

        @wraps(handler)
        def call(data: object) -> Awaitable[object]:
            self.note("called", seat=seat.number, act=_opened(data)[0])
            return disguised(data)

        return call

    def _surrounded(self, seat: Seat) -> Callable[..., Any]:
        @contextmanager
        def around(event: Any, *given: object) -> Generator[Handed]:
            self.note("surrounded", seat=seat.number, act=_opened(event.data)[0])
            yield (event, *given), []

        return around

    def _observe(self, payload: object) -> None:
        self.note("announced", payload)

    def _handled(self, seat: Seat) -> Callable[..., Any]:
        @contextmanager
        def around(data: object) -> Generator[Handed]:
            number, given = _opened(data)
            payload: Any = data
            told: object = payload.get("exception") if is_a(data, dict) else None
            where: dict[str, Any] = {"seat": seat.number, "act": number}
            with _observation(data):
                call = Call(seat.number, number, told)
                try:
                    with self.noted("started", "ended", told, **where) as answers:
                        self._trace.calls.append(call)
                        call.start = self._trace.entries[-1]
                        self._starts += 1
                        is_endless = self._starts >= MOST_STARTS
                        with _inside(call):
                            yield None if is_endless else (given,), answers
                finally:
                    call.end = self._trace.entries[-1]

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
    """Mark what a handler of `event.handler.failed` does, and what that calls (E7)."""
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


@contextmanager
def _inside(call: Call) -> Generator[None]:
    """Mark what is done as within a call."""
    token = _within.set((*_within.get(), call))
    try:
        yield
    finally:
        # Again what it was: a bus need not keep a context that was changed.
        _within.reset(token)


class _Manager:
    """Stands in for the context manager of an instrument.

    Args:
        manager: the real one.
        method: the method that has returned it.
        note: notes what happens.
    """

    def __init__(self, manager: Any, method: str, note: Callable[..., None]) -> None:
        self._manager = manager
        self._method = method
        self._note = note

    def __enter__(self) -> None:
        with _breaking(self._note):
            self._manager.__enter__()
        self._note(f"enters {self._method}")

    def __exit__(self, kind: object, exception: BaseException | None, traceback: object) -> None:
        self._note(f"leaves {self._method}", exception)
        with _breaking(self._note):
            self._manager.__exit__(kind, exception, traceback)


@contextmanager
def _breaking(note: Callable[..., None]) -> Generator[None]:
    """Note that an instrument fails, or refuses a publish."""
    try:
        yield
    except Exception as exc:
        note("refuses" if isinstance(exc, PublishRefused) else "breaks", exc)
        raise


def _opened(data: object) -> tuple[int, object]:
    if isinstance(data, Publication):
        return data.number, data.data
    return NOBODY, data
