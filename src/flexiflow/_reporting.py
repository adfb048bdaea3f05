"""Reporting failures that are not raised: the log, and the mark of `event.handler.failed` (E1, E7).

The logger `flexiflow` escapes the arguments of its records: names and exceptions may contain what
strangers wrote, and must not break a line of the log or control a terminal.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from contextvars import ContextVar
from traceback import format_exception_only
from typing import TYPE_CHECKING, final

from flexiflow._callables import describe
from flexiflow._marks import Mark
from flexiflow._text import printable, show

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeAlias

    from flexiflow._subscription import HandlerFailure

    Announce: TypeAlias = Callable[[HandlerFailure], Awaitable[None]]
    """Publishes a logged failure as `event.handler.failed`."""

logger = logging.getLogger("flexiflow")


@final
class _Escaping(logging.Filter):
    """Escapes the arguments of records, so that each record's message stays on one line."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(map(_escaping, record.args))
        return True


@final
class _Text(str):
    """A str that is escaped when it is formatted."""

    __slots__ = ()

    def __str__(self) -> str:
        return printable(str.__str__(self))


@final
class _Shown:
    """Any other object, shown escaped; it is asked for its text only when the record is shown."""

    __slots__ = ("_fact",)

    def __init__(self, fact: object) -> None:
        self._fact = fact

    def __str__(self) -> str:
        return printable(str(self._fact))

    def __repr__(self) -> str:
        return printable(repr(self._fact))


def _escaping(fact: object) -> object:
    if isinstance(fact, str):
        return fact if fact.isprintable() else _Text(fact)
    return fact if fact is None or isinstance(fact, int | float) else _Shown(fact)


logger.addFilter(_Escaping())

_announcing: ContextVar[Announcing | None] = ContextVar("announcing", default=None)


@final
class Announcing(Mark):
    """Marks its inside as the publishing of `event.handler.failed`."""

    variable = _announcing


def is_announcing() -> bool:
    """Return whether the caller runs within the publishing of `event.handler.failed` (E7)."""
    return Announcing.current() is not None


def log_failure(failed: HandlerFailure) -> None:
    """Log a handler's failure with its traceback."""
    culprit = describe(failed.subscription.handler)
    log_exception(failed.exception, failed.event_name, failed.component_name, culprit)


def log_exception(exception: Exception, event_name: str, component_name: str, culprit: str) -> None:
    """Log an exception with its traceback.

    Args:
        exception: what was raised.
        event_name: the event that was being handled.
        component_name: the component whose code raised it.
        culprit: what raised it, like a handler's name.
    """
    logger.error(
        "%s of component %s failed on event %s",
        culprit,
        show(component_name),
        show(event_name),
        # As a triple: logging tests whether a bare exception is true, and some are not.
        exc_info=(type(exception), exception, exception.__traceback__),
    )


def note(exception: BaseException, what: str, other: BaseException) -> None:
    """Note on an exception that another one, which it replaces, was raised, too (E5).

    This raises nothing: a frozen dataclass, for example, takes no note.
    """
    with suppress(Exception):
        exception.add_note(f"{what}: {''.join(format_exception_only(other)).strip()}")
