"""Schedules: which of the ready tasks runs next. Plain data, without an event loop.

A schedule is a tuple of small integers, its *decisions*. Before each turn for which more than one
task is ready, the next decision, modulo the number of those tasks, is the place in line of the one
that runs: 0 is the first in line. Once the decisions are used up, tasks run first come first
served.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar, final
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Iterable

Decide: TypeAlias = Callable[[Sequence[int]], int]
"""Takes the numbers of the ready tasks, first come first, and returns the place of one of them."""

_T = TypeVar("_T")


def first_come(_ready: Sequence[int]) -> int:
    """Choose the first in line."""
    return 0


@final
class Decisions:
    """Chooses tasks as a given schedule says.

    Args:
        decisions: the schedule.
    """

    __slots__ = ("_left",)

    def __init__(self, decisions: Iterable[int]) -> None:
        self._left = iter(decisions)

    def __call__(self, ready: Sequence[int]) -> int:
        """Return the next decision, as a place among the ready tasks."""
        return next(self._left, 0) % len(ready)


class Line(Generic[_T]):
    """The tasks that are ready to run, in the order in which they became ready.

    Tasks that became ready within the same turn are ordered by their creation: a cancelled scope,
    or an event of trio's, wakes its tasks in the order of a set, which differs from process to
    process. The task whose turn it was comes last of them, since it yields to those it has started
    or woken.

    Attributes:
        decide: chooses the task that runs next.
        turns: how many turns were taken so far.
    """

    __slots__ = ("_joined", "_last", "_numbers", "_waiting", "decide", "turns")

    def __init__(self) -> None:
        self.decide: Decide = first_come
        self.turns = 0
        self._joined = 0
        self._last = (-1, -1)
        # A dead reference equals no other one, so it may stay; a `WeakKeyDictionary` is slower.
        self._numbers: dict[ref[object], int] = {}
        self._waiting: list[tuple[int, bool, int, int, _T]] = []

    def __len__(self) -> int:
        """Return how many tasks are ready."""
        return len(self._waiting)

    def join(self, task: object, item: _T) -> None:
        """Add a task's next step; the task that joins first is taken to be the oldest."""
        numbers = self._numbers
        number = numbers.setdefault(ref(task), len(numbers))
        goes_again = self._last == (self.turns, number)
        # The count of joins makes each entry unique, so that items are never compared.
        self._joined += 1
        insort(self._waiting, (self.turns, goes_again, number, self._joined, item))

    def leave(self) -> _T:
        """Remove and return the step that runs next."""
        waiting = self._waiting
        place = self.decide([entry[2] for entry in waiting]) if len(waiting) > 1 else 0
        _, _, number, _, item = waiting.pop(place)
        self.turns += 1
        self._last = (self.turns, number)
        return item

    def clear(self) -> None:
        """Forget all tasks that are ready."""
        self._waiting.clear()
