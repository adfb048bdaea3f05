"""Observing a run: its built-in events, and the log of its failures (L3, L5)."""

from __future__ import annotations

import logging
import re
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final, final

from flexiflow._cli.text import one_line, show_exception
from flexiflow._names import REST
from flexiflow._reporting import logger
from flexiflow.events import (
    COMPONENT_REGISTERED,
    HANDLER_FAILED,
    MESSAGE_RECEIVED,
    STATE_CHANGED,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable

    from flexiflow import EventBus
    from flexiflow._cli.tally import Tally
    from flexiflow.events import HandlerFailed

BUILT_IN: Final = (COMPONENT_REGISTERED, MESSAGE_RECEIVED, STATE_CHANGED, HANDLER_FAILED)

OBSERVER: Final = "flexiflow run"
"""The component name under which a run's observers subscribe."""


def matching(patterns: Iterable[str]) -> list[str]:
    """Return the built-in events that match at least one of the patterns."""
    return list(filter(any_of(patterns), BUILT_IN))


def any_of(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Return a function that returns whether a name matches at least one of the patterns."""
    wanted = re.compile("|".join(map(_as_regex, patterns)), re.DOTALL)
    return lambda name: wanted.fullmatch(name) is not None


async def observe(
    bus: EventBus,
    shown: Iterable[str],
    tally: Tally,
    show: Callable[[str], Callable[[Any], Awaitable[None] | None]],
) -> ExitStack:
    """Write the shown events as they happen, and count all failures, until the stack is closed.

    The observers have priority 1. So an event is shown before any event that the target's observers
    publish in response, unless those were subscribed before, with priority 1 too.

    Args:
        bus: the bus to observe.
        shown: the names of the events to write.
        tally: counts the failures.
        show: takes an event's name, and returns a handler for it.

    Returns:
        A stack that unsubscribes the observers when it is closed.
    """
    observers = ExitStack()
    handlers = [(HANDLER_FAILED, _counting(tally)), *((name, show(name)) for name in shown)]
    for name, handler in handlers:
        observer = await bus.subscribe(name, OBSERVER, handler, priority=1)
        observers.enter_context(observer)
    return observers


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


def _counting(tally: Tally) -> Callable[[HandlerFailed], None]:
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
