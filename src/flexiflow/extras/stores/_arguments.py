"""The arguments of stores: all stores check alike, before anything is changed (K2)."""

from __future__ import annotations

import math
import reprlib
import sys
from typing import TYPE_CHECKING, Any, Final

from flexiflow._arguments import check_int
from flexiflow._text import show
from flexiflow.extras.stores._snapshots import encode

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_NAME: Final = 65_536
"""How many bytes a name may have, in UTF-8."""

# No character has more than four bytes in UTF-8.
_SHORT: Final = LONGEST_NAME // 4

# The largest number up to which a float holds all, as Lua has them.
_MOST: Final = 2**53


def check_save(
    name: str, state: str, data: Mapping[str, Any] | None, expected: int, due: float | None
) -> tuple[str | None, float | None]:
    """Check the arguments of a save; return the snapshot as JSON, and the time as a float.

    Raises:
        TypeError: the name or the state is no str, or `encode` refuses the snapshot.
        ValueError: an argument is out of its range, or `encode` refuses the snapshot.
    """
    check_name(name)
    _check_text("a component's state", state)
    check_expected(expected)
    time = check_due(due)
    return encode(data), time


def check_name(name: object) -> str:
    """Return a component's name, if it can be stored.

    Raises:
        TypeError: it is no str.
        ValueError: it has more than 65,536 bytes in UTF-8, or UTF-8 can't encode it.
    """
    return _check_text("a component's name", name)


def check_expected(expected: object) -> int:
    """Return the version that a save replaces, if it is an int from 0 to 2**53."""
    if type(expected) is int and 0 <= expected <= _MOST:
        return expected
    return check_int("expected", expected, "0 to 2**53", least=0, most=_MOST)


def check_due(due: object) -> float | None:
    """Return when a component is to be loaded, if it is None, a finite number or infinity."""
    return None if due is None else _check_time("due", due, least=-sys.float_info.max)


def check_until(until: object) -> float:
    """Return up to when components are asked for, if it is a number; an infinity is one."""
    return _check_time("until", until, least=-math.inf)


def check_limit(limit: object) -> int:
    """Return how many names are asked for, if it is an int from 0 to 10**12."""
    return check_int("limit", limit, "0 to 1,000,000,000,000", least=0, most=10**12)


def check_history(history: object) -> int:
    """Return how many former versions are kept, if it is an int from 0 to 10**12."""
    return check_int("history", history, "0 to 1,000,000,000,000", least=0, most=10**12)


def _check_text(what: str, text: object) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{what} must be a str, not {reprlib.repr(text)}")
    if len(text) > _SHORT or not text.isascii():
        _check_bytes(what, text)
    return text


def _check_bytes(what: str, text: str) -> None:
    try:
        # A long one is cut, since it is refused anyway: each character has at least one byte.
        size = len(text[: LONGEST_NAME + 1].encode())
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{what} must be a text that UTF-8 can encode, which it can't at index {error.start} "
            f"of {show(text)}"
        ) from None
    if size > LONGEST_NAME:
        raise ValueError(
            f"{what} must have at most {LONGEST_NAME:,} bytes in UTF-8, which {show(text)} of "
            f"{len(text):,} characters has not"
        )


def _check_time(what: str, given: object, *, least: float) -> float:
    """Return seconds since 1970 as a float, if they are a number; a bool does not count as one."""
    if isinstance(given, int | float) and not isinstance(given, bool):
        try:
            number = float(given)
        except OverflowError:
            number = math.nan
        # False for NaN.
        if number >= least:
            return number
    raise ValueError(f"{what} must be a number of seconds since 1970, not {reprlib.repr(given)}")
