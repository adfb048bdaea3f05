"""Numbers that come from outside: times, and the ids of dead letters."""

from __future__ import annotations

import re
import reprlib
import sys
from typing import Final

_ID: Final = re.compile(r"[0-9]{1,18}(?:-[0-9]{1,18})*")
"""Within what SQLite and Redis take for a number."""


def check_finite(what: str, given: object, *, least: float | None = None) -> float:
    """Return a time in seconds, if it is valid.

    Args:
        what: its name.
        given: the time.
        least: the shortest; None for any that is more than 0.

    Raises:
        ValueError: it is no number, is too short, or has no end.
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
    """Return the numbers that an id is made of; None where it is none of so many."""
    parts = tuple(map(int, name.split("-"))) if _ID.fullmatch(name) else ()
    return parts if len(parts) == count else None


def place_of(after: str | None, count: int) -> tuple[int, ...] | None:
    """Return the numbers of the id after which dead letters are wanted; None for all.

    Raises:
        ValueError: it is no id of so many numbers.
    """
    if after is None:
        return None
    parts = parts_of(after, count)
    if parts is None:
        raise ValueError(f"after must be the id of a dead letter, not {reprlib.repr(after)}")
    return parts
