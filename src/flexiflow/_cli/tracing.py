"""Showing the events of a run as a tree, each under the event that caused it (L3)."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from flexiflow._cli.encoding import encode
from flexiflow._cli.observing import OBSERVER, WATCHERS, any_of
from flexiflow._cli.text import one_line, show_exception
from flexiflow.extras._causes import Causes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from flexiflow import Event, EventBus, Subscription
    from flexiflow._cli.writer import Writer

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
        self._causes = Causes(_Numbered(0, 0))
        self._count = 0
        self._headed: int | None = None
        # For each depth, the number of the last event written there, under which others can be
        # written.
        self._above: list[int] = []

    def publishing(self, event: Event[Any], /) -> AbstractContextManager[object]:
        """Write the event; return a context manager within which it is the cause of others."""
        self._count += 1
        cause = self._causes.known
        here = _Numbered(self._count, cause.depth + 1)
        if self._is_shown(event.name):
            self._write_event(event, cause.number, here.number, here.depth)
        return self._causes.causing(event, here)

    def handling(
        self, event: Event[Any], subscription: Subscription, /
    ) -> AbstractContextManager[object]:
        """Return a context manager that writes the handler's failure, if it fails."""
        if subscription.component_name in WATCHERS or not self._is_shown(event.name):
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
        here = self._causes.known
        self._write(
            f"{_INDENT * min(here.depth + 1, _DEEPEST)}! {one_line(component)} failed on "
            f"#{here.number}: "
            f"{show_exception(failure)}\n"
        )


class _Numbered(NamedTuple):
    """What is known of an event while it may cause others.

    Attributes:
        number: its number, or 0 for no event.
        depth: how many events the chain has up to this one, or 0 for no event.
    """

    number: int
    depth: int


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
