"""Hearing the built-in events and the log of the target's failures (L3, L5)."""

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
"""Who subscribes what watches a run."""


def matching(patterns: Iterable[str]) -> list[str]:
    """Return the built-in events that match at least one of the patterns."""
    return list(filter(any_of(patterns), BUILT_IN))


def any_of(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Return what tells whether a name matches at least one of the patterns."""
    wanted = re.compile("|".join(map(_as_regex, patterns)), re.DOTALL)
    return lambda name: wanted.fullmatch(name) is not None


async def observe(
    bus: EventBus,
    shown: Iterable[str],
    tally: Tally,
    show: Callable[[str], Callable[[Any], Awaitable[None] | None]],
) -> ExitStack:
    """Write the shown events as they happen, and count all failures, until the stack is closed.

    The observers have priority 1, so that an event is shown before what the target's observers
    make of it, unless these were subscribed before with priority 1 too.

    Args:
        bus: where they happen.
        shown: the names of the events.
        tally: counts the failures.
        show: returns what takes the payloads of an event, by its name.
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
    """Report what the library logs, and count the failures among it.

    Whatever the target has set up for logging works as it would without.
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
        # The target itself, or a transport, may publish an event of that name, with any data.
        exception = payload.get("exception") if isinstance(payload, dict) else None
        if isinstance(exception, Exception):
            tally.failure_published(exception)

    return count


@final
class _LogHandler(logging.Handler):
    """Reports each record on one line."""

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
