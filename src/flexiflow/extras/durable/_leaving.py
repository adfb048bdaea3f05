"""What leaves the block of a bridge, and what that keeps alive (X5, X10)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from flexiflow._cancellation import effectively_cancelled, leaves, split
from flexiflow.extras.durable._crew import Escaped

if TYPE_CHECKING:
    from collections.abc import Sequence


def what_leaves(
    problem: BaseException, exception: BaseException | None
) -> tuple[BaseException, Sequence[BaseException]]:
    """Decide what leaves a block: what is wrong with the bridge, or what the block raised.

    Args:
        problem: what left the bridge's own tasks.
        exception: what the block raised, if anything but a cancellation.

    Returns:
        What leaves, and what else is wrong and is merely logged.
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
    """Copy a cancellation without its traceback; the original has to be delivered as it is."""
    try:
        return copy.copy(cancellation)
    except Exception:  # noqa: BLE001  a class of a user's may not be copied like that
        return cancellation
