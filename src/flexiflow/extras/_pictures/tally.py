"""What happened, added up: bounded, however long it takes and whatever names come.

All times are seconds of one clock, be it that of a log or that of the process.
"""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import TYPE_CHECKING, Final, final

from flexiflow._text import shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

OTHER: Final = "(others)"
"""The name under which all is added up that comes after the limit was reached."""

_MOST_BARS: Final = 120
_SHORTEST: Final = 0.001
_DEEPEST: Final = 40
"""An event that others caused, one within the other, counts as one of so many at most."""


@final
class Rate:
    """How much happened when: numbers in periods of equal length, at most 120 of them.

    The periods become longer as time goes on.
    """

    __slots__ = ("_counts", "_origin", "width")

    def __init__(self) -> None:
        self._counts: Counter[float] = Counter()
        self._origin = 0.0
        self.width = _SHORTEST
        """How many seconds a period lasts."""

    def add(self, moments: Sequence[float]) -> None:
        """Count what happened at some moments, which may come in any order."""
        if not moments:
            return
        if not self._counts:
            self._origin = moments[0]
        origin, width = self._origin, self.width
        self._counts.update([(moment - origin) // width for moment in moments])
        if len(self._counts) > _MOST_BARS:
            self._widen()

    def _widen(self) -> None:
        while self._span() > _MOST_BARS:
            self.width *= 2
            counts, self._counts = self._counts, Counter()
            for number, count in counts.items():
                self._counts[number // 2] += count

    def _span(self) -> float:
        return max(self._counts) - min(self._counts) + 1

    def periods(self) -> list[tuple[float, int]]:
        """Return when each period begins and how much happened in it, without gaps."""
        if not self._counts:
            return []
        self._widen()
        first, last = int(min(self._counts)), int(max(self._counts))
        return [
            (self._origin + number * self.width, self._counts[number])
            for number in range(first, last + 1)
        ]


@final
class Chain:
    """Events of one name that were all caused in the same way, and what they caused in turn.

    Args:
        name: their name.
        room: how many more chains there may be.
        depth: how many events the chain has up to these.

    Attributes:
        name: their name.
        failures: how often which handler failed with what.
        effects: the events that were published within these, by their names.
    """

    __slots__ = ("_depth", "_room", "effects", "failures", "name")

    def __init__(self, name: str, room: Room, depth: int = 0) -> None:
        self.name = name
        self.failures: dict[tuple[str, str], Failures] = {}
        self.effects: dict[str, Chain] = {}
        self._room = room
        self._depth = depth

    def effect(self, name: str) -> Chain:
        """Return the chain of the events of a name that are published within these."""
        found = self.effects.get(name)
        return self._new_effect(shorten(name)) if found is None else found

    def _new_effect(self, name: str) -> Chain:
        if self._depth == _DEEPEST:
            return self
        if name not in self.effects and not self._room.take():
            name = OTHER
        found = self.effects.get(name)
        if found is None:
            found = self.effects[name] = Chain(name, self._room, self._depth + 1)
        return found

    def fail(self, component: str, what: str, place: int) -> None:
        """Count a failure of a handler.

        Args:
            component: the owner of the handler.
            what: the exception, as text.
            place: the number of the line that led to it; 0 if there is none.
        """
        key = component, what
        if key not in self.failures and not self._room.take():
            key = OTHER, OTHER
        self.failures.setdefault(key, Failures(place)).count += 1

    @property
    def all_failures(self) -> int:
        """How many failures there were of these events, and of all that they caused."""
        own = sum(each.count for each in self.failures.values())
        return own + sum(each.all_failures for each in self.effects.values())


@final
class Failures:
    """Failures of one handler with the same exception.

    Args:
        place: the number of the line that led to the first of them; 0 if there is none.

    Attributes:
        count: how many there were.
        place: see above.
    """

    __slots__ = ("count", "place")

    def __init__(self, place: int) -> None:
        self.count = 0
        self.place = place


@final
class Room:
    """How much more may be kept.

    Args:
        most: how much at first; infinite if there is no limit.
    """

    __slots__ = ("_left",)

    def __init__(self, most: float = inf) -> None:
        self._left = most

    def take(self) -> bool:
        """Take a place if there is one left, and return whether there was."""
        self._left -= 1
        return self._left >= 0
