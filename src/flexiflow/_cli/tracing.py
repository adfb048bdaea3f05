"""Showing the events of a run as a tree, each under the event that caused it (L3)."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from flexiflow._cli.encoding import encode
from flexiflow._cli.observing import OBSERVER, any_of
from flexiflow._cli.text import one_line, show_exception
from flexiflow._marks import restore
from flexiflow._turns import current_turn
from flexiflow.events import MESSAGE_RECEIVED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager
    from contextvars import Token

    from flexiflow import Event, EventBus, Subscription
    from flexiflow._cli.writer import Writer
    from flexiflow._turns import Turn

_INDENT: Final = "  "
_DEEPEST: Final = 40
_MOST_OF_PAYLOAD: Final = 100

_UNWATCHED: Final = nullcontext()


async def trace(
    bus: EventBus, patterns: Iterable[str], writer: Writer, place: Callable[[], int]
) -> AbstractContextManager[object]:
    """Write the events that are published on a bus as a tree.

    Args:
        bus: the bus to watch.
        patterns: the events to show.
        writer: writes the tree.
        place: returns the number of the input's line in hand; 0 for timers and work.

    Returns:
        A context manager that ends the tracing on exit.
    """
    tracing = ExitStack()
    # An instrument can't wait. So this handler makes publishers wait until the output is read.
    tracing.enter_context(await bus.subscribe("**", OBSERVER, writer.pause, priority=1))
    tracer = _Tracer(any_of(patterns), writer.add, place)
    bus.add_instrument(tracer)
    tracing.callback(bus.remove_instrument, tracer)
    return tracing


@final
class _Tracer:
    """An instrument that writes a line for each event.

    Args:
        is_shown: returns whether an event of that name is shown.
        write: takes lines.
        place: returns the number of the input's line in hand; 0 for timers and work.
    """

    def __init__(
        self,
        is_shown: Callable[[str], bool],
        write: Callable[[str], object],
        place: Callable[[], int],
    ) -> None:
        self._is_shown = is_shown
        self._write = write
        self._place = place
        self._count = 0
        self._headed: int | None = None
        # For each depth, the number of the last event written there, under which others can be
        # written.
        self._above: list[int] = []

    def publishing(self, event: Event[Any], /) -> AbstractContextManager[object]:
        """Write the event; return a context manager within which it is the cause of others."""
        self._count += 1
        cause = _cause()
        turn = current_turn.get() if event.name == MESSAGE_RECEIVED else None
        here = _Cause(self._count, cause.depth + 1, turn, cause if turn else None)
        if self._is_shown(event.name):
            self._write_event(event, cause.number, here.number, here.depth)
        return _Causing(here)

    def handling(
        self, event: Event[Any], subscription: Subscription, /
    ) -> AbstractContextManager[object]:
        """Return a context manager that writes the handler's failure, if it fails."""
        if subscription.component_name == OBSERVER or not self._is_shown(event.name):
            return _UNWATCHED
        return _Failing(self._write_failure, subscription.component_name)

    def _write_event(self, event: Event[Any], cause: int, number: int, depth: int) -> None:
        place = self._place()
        if place != self._headed:
            self._headed = place
            self._above.clear()
            self._write(f"line {place}\n" if place else "timers and work\n")
        is_indented = 1 < depth <= min(len(self._above) + 1, _DEEPEST)
        under = self._above[depth - 2] if is_indented else 0
        origin = "" if under == cause else f" <- #{cause}"
        self._write(
            f"{_INDENT * min(depth, _DEEPEST)}{one_line(event.name)} #{number}{origin} "
            f"{_shorten(encode(event.data))}\n"
        )
        del self._above[depth - 1 :]
        self._above += [0] * (min(depth, _DEEPEST) - 1 - len(self._above))
        if depth <= _DEEPEST:
            self._above.append(number)

    def _write_failure(self, component: str, failure: Exception) -> None:
        here = _cause()
        self._write(
            f"{_INDENT * min(here.depth + 1, _DEEPEST)}! {one_line(component)} failed on "
            f"#{here.number}: "
            f"{show_exception(failure)}\n"
        )


class _Cause(NamedTuple):
    """What is kept of an event while it may cause others; the event itself would stay in memory.

    Attributes:
        number: the event's number, or 0 for no event.
        depth: the event's depth, or 0 for no event.
        turn: if the event is `component.message.received`, the handling of that message; else None.
        outer: if there is a turn, the cause of this event, which is the cause again once the
            handling has ended; else None.
    """

    number: int
    depth: int
    turn: Turn | None = None
    outer: _Cause | None = None


_NOTHING: Final = _Cause(0, 0)
_current: ContextVar[_Cause] = ContextVar("traced", default=_NOTHING)


def _cause() -> _Cause:
    cause = _current.get()
    while cause.turn is not None and cause.turn.is_over and cause.outer is not None:
        cause = cause.outer
    return cause


@final
class _Causing:
    """A context manager: events published inside are caused by this one.

    `component.message.received` stays the cause after its publish, until its message has been
    handled. Nothing reports that moment, so `_cause` looks whether it has come.
    """

    def __init__(self, here: _Cause) -> None:
        self._here = here

    def __enter__(self) -> None:
        self._token: Token[_Cause] = _current.set(self._here)

    def __exit__(self, *_: object) -> None:
        if self._here.turn is None:
            restore(_current, self._token)


@final
class _Failing:
    """A context manager that reports a failure that leaves it."""

    def __init__(self, tell: Callable[[str, Exception], object], component: str) -> None:
        self._tell = tell
        self._component = component

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, exception: BaseException | None, traceback: object) -> None:
        if isinstance(exception, Exception):
            self._tell(self._component, exception)


def _shorten(text: str) -> str:
    return text if len(text) <= _MOST_OF_PAYLOAD else f"{text[: _MOST_OF_PAYLOAD - 3]}..."
