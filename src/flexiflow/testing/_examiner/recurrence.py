"""Whether a violation happens again (P5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS: Final = 10
"""How often a program is run again once it is known to be flaky."""


def recur(breaks: Callable[[], bool], repeats: int) -> dict[str, Any]:
    """Run again what broke a clause; return what a `ContractViolation` is to say of that.

    Args:
        breaks: runs it, and returns whether it broke the clause.
        repeats: how often it has to break the clause again, not to be called flaky.
    """
    again = [breaks() for _ in range(repeats)]
    if all(again):
        return {"recurrence": (repeats, repeats)}
    again += [breaks() for _ in range(RUNS - repeats)]
    return {"verdict": "flaky", "recurrence": (sum(again), len(again))}
