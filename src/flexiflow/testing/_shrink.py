"""Makes a failing schedule shorter and its numbers smaller, by trying."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Decisions = tuple[int, ...]

_SHORT = 12
"""Of pieces up to this length all are tried, of longer ones those that lie side by side."""

MOST_TRIALS = 500
"""How many schedules are tried at most; most failures need a tenth of that."""


def shrink(decisions: Decisions, fails: Callable[[Decisions], bool]) -> Decisions:
    """Find a smaller schedule that fails too: shorter, or as short and with smaller numbers.

    Args:
        decisions: a schedule that fails.
        fails: runs a schedule, and tells whether it fails.
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
    while length:
        yield length
        length = length - 1 if length <= _SHORT else length // 2


def _without_end(decisions: Decisions) -> Decisions:
    """Cut off what is first come first served anyway."""
    length = len(decisions)
    while length and decisions[length - 1] == 0:
        length -= 1
    return decisions[:length]


def _smaller(decisions: Decisions) -> Iterator[Decisions]:
    """Give what is worth a trial, the smallest first."""
    for size in _sizes(len(decisions)):
        for begin in range(len(decisions) - size, -1, -1 if size < _SHORT else -size):
            head, tail = decisions[:begin], decisions[begin + size :]
            yield head + tail
            yield head + (0,) * size + tail
    for place, decision in enumerate(decisions):
        for lower in range(1, decision):
            yield (*decisions[:place], lower, *decisions[place + 1 :])
