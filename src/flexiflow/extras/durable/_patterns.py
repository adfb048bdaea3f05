"""Which events a bridge takes: patterns as the bus's (B10), asked for name after name."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final, final

from flexiflow._names import ONE, REST, check_event_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MAX_REMEMBERED: Final = 4096


@final
class Patterns:
    """Some patterns, and the names that were asked about; what is kept for names is bounded.

    Args:
        patterns: valid ones.
    """

    __slots__ = ("_patterns", "_places")

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = [each.split(".") for each in patterns]
        self._places: dict[str, int | None] = {}

    def place(self, name: str) -> int | None:
        """Tell which pattern is the first that matches an event's name; None if none does.

        Raises:
            ValueError: it is no event's name.
        """
        try:
            return self._places[name]
        except KeyError:
            return self._look_up(name)

    def _look_up(self, name: str) -> int | None:
        segments = check_event_name(name).split(".")
        if len(self._places) >= _MAX_REMEMBERED:
            self._places.clear()
        places = (at for at, each in enumerate(self._patterns) if _overlap(each, segments))
        place = self._places[name] = next(places, None)
        return place


def overlapping(some: Iterable[str], others: Iterable[str]) -> tuple[str, str] | None:
    """Find two patterns, one of each, that match the same name."""
    for one, other in product(some, others):
        if _overlap(one.split("."), other.split(".")):
            return one, other
    return None


def _overlap(one: Sequence[str], other: Sequence[str]) -> bool:
    """Tell whether some name matches both; a name is a pattern that matches itself alone."""
    for mine, theirs in zip(one, other, strict=False):
        if REST in (mine, theirs):
            return True
        if mine != theirs and ONE not in (mine, theirs):
            return False
    return len(one) == len(other)
