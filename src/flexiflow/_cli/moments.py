"""Times, ages and sizes, as the commands of durable delivery show them.

A file or a server may hold anything, whatever the annotations say. So what is shown here may be any
value.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final

from flexiflow._cli.text import show_value

_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_SIZES: Final = ("TiB", "GiB", "MiB", "KiB")


def as_time(seconds: object) -> str | None:
    """Return seconds since 1970 as text in UTC, or None if that is not a time."""
    try:
        moment = datetime.fromtimestamp(seconds, UTC)  # type: ignore[arg-type]
    except (ArithmeticError, OSError, TypeError, ValueError):
        return None
    return moment.isoformat(timespec="milliseconds")


def show_time(seconds: object) -> str:
    """Return seconds since 1970 as text in UTC; if that is not a time, the value itself."""
    return as_time(seconds) or f"(no time: {show_value(seconds)})"


def age(then: object, now: object) -> float | None:
    """Return how many seconds there are from one time to another; None if one is no number."""
    if isinstance(then, int | float) and isinstance(now, int | float):
        return max(0.0, now - then)
    return None


def show_duration(seconds: float | None) -> str:
    """Return a number of seconds in its largest unit, as "5 min"; "-" if it is not known."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    whole = round(seconds)
    size, unit = next((each for each in _UNITS if whole >= each[0]), _UNITS[-1])
    return f"{whole // size} {unit}"


def show_size(size: int | None) -> str:
    """Return a number of bytes in its largest unit, as "1.5 MiB"; "-" for None."""
    if size is None:
        return "-"
    for power, unit in zip((40, 30, 20, 10), _SIZES, strict=True):
        if size >= 1 << power:
            return f"{size / (1 << power):.1f} {unit}"
    return f"{size} B"
