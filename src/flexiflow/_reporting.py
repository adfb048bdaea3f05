"""Where a failure goes that is not raised: the log, and `event.handler.failed` (E1, E7)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeAlias

from flexiflow._callables import describe
from flexiflow._subscription import HandlerFailure

if TYPE_CHECKING:
    from collections.abc import Generator

logger = logging.getLogger("flexiflow")

Announce: TypeAlias = Callable[[HandlerFailure], Awaitable[None]]
"""Publishes a failure, already logged, as `event.handler.failed`."""


class _Announcement:
    """One `event.handler.failed` being published; over when all its handlers have ended."""

    __slots__ = ("over",)

    def __init__(self) -> None:
        self.over = False


_announcement: ContextVar[_Announcement | None] = ContextVar("announcement", default=None)


@contextmanager
def announcing() -> Generator[None]:
    """Mark that what happens inside is the publishing of `event.handler.failed`."""
    announcement = _Announcement()
    token = _announcement.set(announcement)
    try:
        yield
    finally:
        announcement.over = True
        _announcement.reset(token)


def is_announcing() -> bool:
    """Tell whether the caller runs within the handling of `event.handler.failed` (E7).

    A task that such a handler left behind, with the context that it inherited, does not.
    """
    announcement = _announcement.get()
    return announcement is not None and not announcement.over


def log_failure(failed: HandlerFailure) -> None:
    """Log a failure with its traceback."""
    log_exception(failed.exception, failed.event_name, failed.component_name, culprit_of(failed))


def log_exception(exception: Exception, event_name: str, component_name: str, culprit: str) -> None:
    """Log what let an exception out, with the traceback."""
    logger.error(
        "%s of component %r failed on event %r",
        culprit,
        component_name,
        event_name,
        exc_info=exception,
    )


def culprit_of(failed: HandlerFailure) -> str:
    """Name the handler that failed."""
    return describe(failed.subscription.handler)
