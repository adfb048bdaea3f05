"""The failure of an event that is given up, as a dead letter shows it and as it is logged."""

from __future__ import annotations

from traceback import format_exception
from typing import TYPE_CHECKING, Final

from flexiflow._reporting import logger
from flexiflow._text import shorten
from flexiflow.extras.durable._records import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST: Final = 8_000
"""How many characters are kept: the first ones of a message, and the last ones of a traceback."""


def failure_of(exception: Exception) -> Failure:
    """Return an exception as text; never raises, whatever the exception's own code does."""
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


def reason_of(exception: Exception) -> str:
    """Return an exception's type and message as a reason for another one."""
    return shown(lambda: f"{type(exception).__name__}: {exception}")


def shown(show: Callable[[], str]) -> str:
    """Return the text that an exception's own code produces, made encodable.

    Args:
        show: runs that code.
    """
    try:
        # A text that can't be encoded would be tried to be written for ever.
        return show().encode(errors="backslashreplace").decode()
    except Exception as exc:  # noqa: BLE001  an exception's own code runs, and may raise anything
        return f"<not to be shown: {type(exc).__qualname__}>"
