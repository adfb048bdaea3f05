"""Observing a run: its built-in events, and the log of its failures (L3, L5)."""

from __future__ import annotations

import logging
import re
from collections import Counter
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

from flexiflow._bus import dispatcher_of
from flexiflow._cli.text import one_line, show_exception
from flexiflow._names import REST, room
from flexiflow._reporting import logger
from flexiflow.events import BUILT_IN, HANDLER_FAILED
from flexiflow.extras._monitor import OWNER as MONITOR

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Generator, Iterable, Iterator
    from contextlib import AbstractContextManager

    from flexiflow import Event, EventBus, Subscription
    from flexiflow._cli.tally import Tally
    from flexiflow.events import HandlerFailed

    Note: TypeAlias = Callable[[Any], None]
    """Is called with an event's payload."""
    Show: TypeAlias = Callable[[Any], Awaitable[None] | None]
    """As a note; what it returns, if anything, is awaited."""

_MOST_UNHEARD: Final = 1_000

OBSERVER: Final = "flexiflow run"
"""The component name under which a run's observers subscribe."""

WATCHERS: Final = frozenset({OBSERVER, MONITOR})
"""The component names of those who watch a run, and are no part of it."""


def matching(patterns: Iterable[str]) -> list[str]:
    """Return the built-in events that match at least one of the patterns."""
    return sorted(filter(any_of(patterns), BUILT_IN))


def any_of(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Return a function that returns whether a name matches at least one of the patterns."""
    wanted = re.compile("|".join(map(_as_regex, patterns)), re.DOTALL)
    return lambda name: wanted.fullmatch(name) is not None


async def observe(
    bus: EventBus,
    shown: Collection[str],
    tally: Tally,
    show: Callable[[str], Show],
    noting: Iterable[tuple[str, Note]] = (),
) -> ExitStack:
    """Write the shown events as they happen, and count all failures, until the stack is closed.

    The observers have priority 1. So an event is shown before any event that the target's observers
    publish in response, unless those were subscribed before, with priority 1 too.

    Args:
        bus: the bus to observe.
        shown: the names of the events to write.
        tally: counts the failures.
        show: takes an event's name, and returns a handler for it.
        noting: names of further events to observe, each with a function that is called with the
            payload.

    Returns:
        A stack that unsubscribes the observers when it is closed.
    """
    observers = ExitStack()
    notes: dict[str, list[Note]] = {HANDLER_FAILED: [_counting(tally)]}
    for name, note in noting:
        notes.setdefault(name, []).append(note)
    # One observer for all that an event is observed for: each one costs each event a call.
    for name in dict.fromkeys([*notes, *shown]):
        observer = _observer(notes.get(name, ()), show(name) if name in shown else None)
        observers.enter_context(await bus.subscribe(name, OBSERVER, observer, priority=1))
    return observers


def _observer(notes: Iterable[Note], show: Show | None) -> Callable[[Any], Awaitable[None]]:
    """Return a handler that is async, since built-in events reach sync ones in twice the time."""

    async def observe(payload: Any) -> None:
        for note in notes:
            note(payload)
        if show is not None and (writing := show(payload)) is not None:
            await writing

    return observe


@final
class Unheard:
    """An instrument that counts the events that nobody hears, by name (B12).

    Names come from strangers, and may be long. So only so many are kept; further ones are counted
    together (B10).

    Args:
        bus: the bus that it is added to.
    """

    def __init__(self, bus: EventBus) -> None:
        self._dispatcher = dispatcher_of(bus)
        self._counts: Counter[str] = Counter()
        self._others = 0
        self._room = _MOST_UNHEARD
        # The ids of the events that are being published, and that nobody has heard so far.
        self._unheard: set[int] = set()

    def publishing(self, event: Event[Any]) -> AbstractContextManager[None]:
        """Count the event if nobody but the run itself hears it, unless it is a question."""
        subscriptions = self._dispatcher.registry.resolve(event.name).subscriptions
        is_heard = any(each.component_name not in WATCHERS for each in subscriptions)
        if is_heard or event.name in BUILT_IN:
            return nullcontext()
        return self._counting(event)

    def handling(
        self, event: Event[Any], subscription: Subscription
    ) -> AbstractContextManager[None]:
        """Note that the event is heard: without a subscription it is a question (A2)."""
        if subscription.component_name not in WATCHERS:
            self._unheard.discard(id(event))
        return nullcontext()

    @contextmanager
    def _counting(self, event: Event[Any]) -> Generator[None]:
        self._unheard.add(id(event))
        try:
            # A question that gets no answer leaves by an exception, and so does a refused publish.
            yield
            if id(event) in self._unheard:
                self._count(event.name)
        finally:
            self._unheard.discard(id(event))

    def _count(self, name: str) -> None:
        if name not in self._counts:
            if self._room < room(name):
                self._others += 1
                return
            self._room -= room(name)
        self._counts[name] += 1

    def lines(self) -> Iterator[str]:
        """Yield a line for each name, the most frequent first."""
        for name, count in self._counts.most_common():
            yield f"nobody heard {one_line(name)} ({_times(count)})"
        if self._others:
            yield f"nobody heard events with other names ({_times(self._others)})"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


@contextmanager
def logging_to(
    report: Callable[[str, BaseException | None], object], tally: Tally
) -> Generator[None]:
    """Report what FlexiFlow logs, and count the failures in it, while the block lasts.

    The target's own set-up of logging is left as it is.
    """
    handler = _LogHandler(report, tally)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _as_regex(pattern: str) -> str:
    wildcards = {REST: ".+", "*": "[^.]+"}
    return r"\.".join(wildcards.get(part) or re.escape(part) for part in pattern.split("."))


def _counting(tally: Tally) -> Note:
    def count(payload: HandlerFailed | None) -> None:
        # The target or a transport may publish an event of that name, with any payload.
        exception = payload.get("exception") if isinstance(payload, dict) else None
        if isinstance(exception, Exception):
            tally.failure_published(exception)

    return count


@final
class _LogHandler(logging.Handler):
    """A logging handler that reports each record on one line."""

    def __init__(self, report: Callable[[str, BaseException | None], object], tally: Tally) -> None:
        super().__init__()
        self._report = report
        self._tally = tally

    def emit(self, record: logging.LogRecord) -> None:
        exception = record.exc_info[1] if record.exc_info else None
        text = record.getMessage()
        if exception is not None:
            self._tally.failure_logged(exception)
            text = f"{text}: {show_exception(exception)}"
        self._report(one_line(text), exception)
