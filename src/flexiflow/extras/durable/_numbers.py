"""Checks of numbers that come from outside: durations, and the ids of dead letters."""

from __future__ import annotations

import re
import reprlib
import sys
from typing import Final

_ID: Final = re.compile(r"[0-9]{1,18}(?:-[0-9]{1,18})*")
"""Numbers of at most 18 digits, which SQLite and Redis can hold, joined by hyphens."""


def check_finite(what: str, given: object, *, least: float | None = None) -> float:
    """Return a duration in seconds, if it is valid.

    Args:
        what: the argument's name, for the message.
        given: the duration.
        least: the shortest that is valid; None for any that is more than 0.

    Raises:
        ValueError: it is no number, is too short, or is not finite.
    """
    if (
        isinstance(given, bool)
        or not isinstance(given, int | float)
        or not (given > 0 if least is None else given >= least)
        or given > sys.float_info.max
    ):
        allowed = "more than 0" if least is None else f"{least} or more"
        raise ValueError(
            f"{what} must be a finite number of seconds, {allowed}, not {reprlib.repr(given)}"
        )
    return float(given)


def parts_of(name: str, count: int) -> tuple[int, ...] | None:
    """Return the numbers in an id; None unless it is an id of exactly `count` numbers."""
    parts = tuple(map(int, name.split("-"))) if _ID.fullmatch(name) else ()
    return parts if len(parts) == count else None


def place_of(after: str | None, count: int) -> tuple[int, ...] | None:
    """Return the numbers in the id after which dead letters are wanted; None for all of them.

    Raises:
        ValueError: it is no id of `count` numbers.
    """
    if after is None:
        return None
    parts = parts_of(after, count)
    if parts is None:
        raise ValueError(f"after must be the id of a dead letter, not {reprlib.repr(after)}")
    return parts
