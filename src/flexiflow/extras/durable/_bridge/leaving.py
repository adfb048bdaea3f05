"""Which exception leaves the block of a bridge, and what it may keep alive (X5, X10)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from flexiflow._cancellation import effectively_cancelled, leaves, split
from flexiflow.extras.durable._bridge.crew import Escaped

if TYPE_CHECKING:
    from collections.abc import Sequence


def what_leaves(
    problem: BaseException, exception: BaseException | None
) -> tuple[BaseException, Sequence[BaseException]]:
    """Choose the exception that leaves a block: the bridge's own, or the one the block raised.

    A `KeyboardInterrupt` or `SystemExit` comes before all others. What the block raised comes
    before problems of the bridge.

    Args:
        problem: the exception, or group of them, that left the bridge's own tasks.
        exception: what the block raised, unless that was a cancellation.

    Returns:
        The exception that leaves, and the problems that are merely logged.
    """
    cancellation, rest = split(problem)
    found = [] if rest is None else list(map(_unwrapped, leaves(rest)))
    fatal = next((each for each in found if not isinstance(each, Exception)), None)
    if fatal is not None:
        return fatal, ()
    if exception is not None and (found or effectively_cancelled()):
        return exception, found
    return found[0] if found else cancellation or problem, ()


def _unwrapped(exception: BaseException) -> BaseException:
    return exception.exception if isinstance(exception, Escaped) else exception


def without_frames(cancellation: BaseException) -> BaseException:
    """Return a copy of a cancellation without its traceback; the original must stay as it is."""
    try:
        return copy.copy(cancellation)
    except Exception:  # noqa: BLE001  a user's class may not allow it
        return cancellation
