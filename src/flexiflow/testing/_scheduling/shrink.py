"""Make a failing schedule shorter, and its numbers smaller, by trial."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Decisions = tuple[int, ...]

_SHORT = 12
"""Of pieces up to this length all are tried; of longer ones, only those that lie side by side."""

MOST_TRIALS = 500
"""The most schedules to try; most failures need a tenth of that."""


def shrink(decisions: Decisions, fails: Callable[[Decisions], bool]) -> Decisions:
    """Return a smaller schedule that fails too: shorter, or as short with smaller numbers.

    Args:
        decisions: a schedule that fails.
        fails: runs a schedule, and returns whether it fails.
    """
    best = _without_end(decisions)
    tried = {best}
    found = True
    while found:
        found = False
        for candidate in map(_without_end, _smaller(best)):
            if candidate in tried:
                continue
            if len(tried) > MOST_TRIALS:
                return best
            tried.add(candidate)
            if fails(candidate):
                best, found = candidate, True
                break
    return best


def _sizes(length: int) -> Iterator[int]:
    """Yield the sizes of the pieces to leave out, the largest first."""
    while length:
        yield length
        length = length - 1 if length <= _SHORT else length // 2


def _without_end(decisions: Decisions) -> Decisions:
    """Cut off the decisions at the end that are first come first served anyway."""
    length = len(decisions)
    while length and decisions[length - 1] == 0:
        length -= 1
    return decisions[:length]


def _smaller(decisions: Decisions) -> Iterator[Decisions]:
    """Yield the schedules that are worth a trial, the shortest first."""
    for size in _sizes(len(decisions)):
        for begin in range(len(decisions) - size, -1, -1 if size < _SHORT else -size):
            head, tail = decisions[:begin], decisions[begin + size :]
            yield head + tail
            yield head + (0,) * size + tail
    for place, decision in enumerate(decisions):
        for lower in range(1, decision):
            yield (*decisions[:place], lower, *decisions[place + 1 :])
