"""Where a failure goes that is not raised: the log, and `event.handler.failed` (E1, E7)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TypeAlias, final

from flexiflow._callables import describe
from flexiflow._contexts import restore
from flexiflow._subscription import HandlerFailure

logger = logging.getLogger("flexiflow")

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
        "%s of component %r failed on event %r",
        culprit,
        component_name,
        event_name,
        # As a triple: logging asks a bare exception whether it is true, and some are not.
        exc_info=(type(exception), exception, exception.__traceback__),
    )
