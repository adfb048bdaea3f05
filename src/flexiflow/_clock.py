"""The time of day, for what outlives the event loop's clock (M2)."""

from __future__ import annotations

import time
from contextvars import ContextVar

import anyio

# Set while schedules are explored: the time of day goes with the virtual time of the loop (M4, P2).
is_virtual: ContextVar[bool] = ContextVar("is_virtual", default=False)


def time_of_day() -> float:
    """Return the seconds since 1970; while schedules are explored, those of the virtual clock."""
    return anyio.current_time() if is_virtual.get() else time.time()
