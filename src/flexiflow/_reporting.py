"""Where a failure goes that is not raised: the log, and `event.handler.failed` (E1, E7)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TypeAlias, final

from flexiflow._callables import describe
from flexiflow._contexts import restore
from flexiflow._showing import show
from flexiflow._subscription import HandlerFailure
from flexiflow._text import printable

logger = logging.getLogger("flexiflow")


@final
class _Escaping(logging.Filter):
    """Lets no argument of a record get out of its line: what it shows may be of strangers."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(map(_escaping, record.args))
        return True


@final
class _Text(str):
    """A text that is shown escaped."""

    __slots__ = ()

    def __str__(self) -> str:
        return printable(str.__str__(self))


@final
class _Shown:
    """Anything else, shown escaped, and only when the record is."""

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

Announce: TypeAlias = Callable[[HandlerFailure], Awaitable[None]]
"""Publishes a failure, already logged, as `event.handler.failed`."""


@final
class Announcing:
    """A context manager: what happens inside is the publishing of `event.handler.failed`.

    A class, since contextlib's generators write to the exception that passes, which may be frozen.
    """

    __slots__ = ("_token", "is_over")

    def __init__(self) -> None:
        self.is_over = False

    def __enter__(self) -> None:
        self._token = _announcing.set(self)

    def __exit__(self, *_: object) -> None:
        self.is_over = True
        restore(_announcing, self._token)
        del self._token  # it keeps what was marked before


_announcing: ContextVar[Announcing | None] = ContextVar("announcing", default=None)


def is_announcing() -> bool:
    """Tell whether the caller runs within the handling of `event.handler.failed` (E7).

    A task that such a handler left behind, with the context that it inherited, does not.
    """
    announcing = _announcing.get()
    return announcing is not None and not announcing.is_over


def log_failure(failed: HandlerFailure) -> None:
    """Log a failure with its traceback."""
    culprit = describe(failed.subscription.handler)
    log_exception(failed.exception, failed.event_name, failed.component_name, culprit)


def log_exception(exception: Exception, event_name: str, component_name: str, culprit: str) -> None:
    """Log what let an exception out, with the traceback."""
    logger.error(
        "%s of component %s failed on event %s",
        culprit,
        show(component_name),
        show(event_name),
        # As a triple: logging asks a bare exception whether it is true, and some are not.
        exc_info=(type(exception), exception, exception.__traceback__),
    )
