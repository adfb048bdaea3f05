"""Choose the schedules to explore, and shrink one that fails.

Each schedule is different, and they come in an order that finds faults early.

Three kinds are drawn, since each soon finds what the others find late or never:

- any of the ready tasks runs, with equal chances: finds faults of many tasks with few steps each;
- some tasks are always preferred to others, except for a few changes: finds a step of one task that
  must fall between two certain steps of another;
- first come first served, with a few exceptions: what a busy but fair scheduler does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias, final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

_MOST_CHANGES = 3

# Takes the number of the turn, the numbers of the ready tasks, and the places that are open to
# choice; returns one of these places.
_Kind: TypeAlias = Callable[[int, Sequence[int], Sequence[int]], int]


@final
class Search:
    """Decides for one schedule after another, never twice for the same while there are others.

    Args:
        random: where the schedules are drawn from; only its `random()`, the same in every Python.

    Attributes:
        decisions: what was decided in this run.
    """

    def __init__(self, random: Random) -> None:
        self._random = random.random
        self._known = Known()
        self._turns = 0
        self._kind: _Kind = _first_come
        self.decisions: list[int] = []

    @property
    def is_exhausted(self) -> bool:
        """Whether no other schedules are left."""
        return self._known.is_closed

    def __call__(self, ready: Sequence[int]) -> int:
        """Choose a task, but never one after which every schedule is known."""
        turn = len(self.decisions)
        # A preferred task may wait in a loop for another one: then first come first served ends it.
        kind = self._kind if turn <= 2 * self._turns else _first_come
        place = kind(turn, ready, self._known.open_places(len(ready)))
        self._known.step(place, len(ready))
        self.decisions.append(place)
        return place

    def next(self) -> None:
        """Remember this run, and begin another one; the first run is first come first served."""
        self._known.finish()
        self._turns = self._turns or len(self.decisions)
        self._kind = self._draw_kind()
        self.decisions = []

    def _draw_kind(self) -> _Kind:
        """Draw how the next schedule is chosen, and in which turns that changes."""
        kind, changes = self._below(3), self._below(_MOST_CHANGES + 1)
        turns = {self._below(self._turns) for _ in range(changes)}
        if kind == 0:
            return self._any
        return _Preferring(self._random, turns) if kind == 1 else _Excepting(self._any, turns)

    def _any(self, _turn: int, _ready: Sequence[int], places: Sequence[int]) -> int:
        return places[self._below(len(places))]

    def _below(self, limit: int) -> int:
        """Draw a number from 0 up to, but not including, the limit."""
        return int(self._random() * limit)


def _first_come(_turn: int, _ready: Sequence[int], places: Sequence[int]) -> int:
    return places[0]


@final
class _Preferring:
    """Runs the task of the highest rank; in some turns, the highest rank becomes the lowest."""

    def __init__(self, random: Callable[[], float], changes: set[int]) -> None:
        self._random = random
        self._changes = changes
        self._ranks: dict[int, float] = {}

    def __call__(self, turn: int, ready: Sequence[int], places: Sequence[int]) -> int:
        for number in ready:
            if number not in self._ranks:
                self._ranks[number] = self._random()
        if turn in self._changes:
            self._ranks[max(ready, key=self._ranks.__getitem__)] = -turn
        return max(places, key=lambda place: self._ranks[ready[place]])


@final
class _Excepting:
    """Runs the first task; in some turns, any other."""

    def __init__(self, otherwise: _Kind, exceptions: set[int]) -> None:
        self._otherwise = otherwise
        self._exceptions = exceptions

    def __call__(self, turn: int, ready: Sequence[int], places: Sequence[int]) -> int:
        kind = self._otherwise if turn in self._exceptions else _first_come
        return kind(turn, ready, places)


# A known schedule from some turn on, while no other one branches off there: each decision, and out
# of how many. A node for each turn would take fifty times the memory.
_Tail: TypeAlias = tuple[int, ...]


class _Node:
    """A turn that several known schedules have in common.

    Attributes:
        places: how many tasks were ready.
        closed: the decisions after which every schedule is known.
        others: what is known after the other decisions.
    """

    __slots__ = ("closed", "others", "places")

    def __init__(self, place: int, places: int, tail: _Tail) -> None:
        self.places = places
        self.closed: set[int] = set()
        self.others: dict[int, _Node | _Tail] = {}
        self.add(place, tail)

    def add(self, place: int, tail: _Tail) -> None:
        """Add a schedule that is new from here on."""
        if tail:
            self.others[place] = tail
        else:
            self.closed.add(place)


@final
class Known:
    """The schedules that were run, and where the present one branches off.

    Attributes:
        is_closed: whether there is no other schedule.
    """

    def __init__(self) -> None:
        self.is_closed = False
        self._root: _Node | None = None
        # The node of the present schedule's turn, while it is a known one; the decisions up to
        # there; and those since it branched off.
        self._node: _Node | None = None
        self._path: list[tuple[_Node, int]] = []
        self._new: list[int] = []

    def open_places(self, places: int) -> Sequence[int]:
        """Return the decisions that can still lead to a new schedule, now or later."""
        every = range(places)
        if self._node is None:
            return every
        # All are closed only if a scenario does not do the same each time.
        return [place for place in every if place not in self._node.closed] or every

    def step(self, place: int, places: int) -> None:
        """Note a decision, and out of how many."""
        node = self._node
        if node is None:
            self._new += place, places
            return
        self._path.append((node, place))
        below = node.others.get(place)
        if isinstance(below, tuple):
            below = node.others[place] = _Node(below[0], below[1], below[2:])
        self._node = below

    def finish(self) -> None:
        """Add the present schedule, and begin another one."""
        new = tuple(self._new)
        if self._path:
            if self._node is None:
                node, place = self._path[-1]
                node.add(place, new)
            self._close()
        elif new:
            self._root = _Node(new[0], new[1], new[2:])
        else:
            self.is_closed = self._root is None
        self._node, self._path, self._new = self._root, [], []

    def _close(self) -> None:
        """Close the turns after which no other schedule is left, from the last to the first."""
        while self._path:
            node, _ = self._path.pop()
            if len(node.closed) < node.places:
                return
            if self._path:
                above, place = self._path[-1]
                above.closed.add(place)
                above.others.pop(place, None)
        self.is_closed = True


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
