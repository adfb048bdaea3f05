"""Telling of events that were given up: to the log, and to whoever looks at the dead letters."""

from __future__ import annotations

from traceback import format_exception
from typing import TYPE_CHECKING, Final

from flexiflow._reporting import logger
from flexiflow._showing import shorten
from flexiflow.extras.durable._transport import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST: Final = 8_000
"""So many characters of a message and of a traceback are kept; of the latter, the last ones."""


def failure_of(exception: Exception) -> Failure:
    """Put an exception into words; one that can't be is no reason to fail."""
    kind = type(exception)
    return Failure(
        f"{kind.__module__}.{kind.__qualname__}",
        shown(lambda: str(exception))[:_LONGEST],
        shown(lambda: "".join(format_exception(exception)))[-_LONGEST:],
    )


def log_burial(group: str, name: str, position: str, failure: Failure) -> None:
    """Log that an event became a dead letter."""
    logger.error(
        "the group %r gave up %s at position %s: %s: %s",
        group,
        shorten(name),
        position,
        failure.type,
        failure.message,
    )


def shown(show: Callable[[], str]) -> str:
    """Return what an exception's own code says, as a text that can be written down."""
    try:
        # It need not be encodable, and what can't be written down would be tried for ever.
        return show().encode(errors="backslashreplace").decode()
    except Exception as exc:  # noqa: BLE001  an exception's own code runs, and may raise anything
        return f"<not to be shown: {type(exc).__qualname__}>"
