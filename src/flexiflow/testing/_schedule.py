"""Schedules: which of the ready tasks goes next. Plain data, without a loop.

A schedule is a tuple of small integers, its *decisions*. Before each turn for which more than one
task is ready, the next decision, modulo the number of those tasks, says which one goes: 0 is the
one that would go first anyway. When the decisions are used up, it is first come first served.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar, final
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Iterable

Decide: TypeAlias = Callable[[Sequence[int]], int]
"""Takes the numbers of the tasks that are ready, first come first, and gives the place of one."""

_T = TypeVar("_T")


def first_come(_ready: Sequence[int]) -> int:
    """Decide for whoever came first."""
    return 0


@final
class Decisions:
    """Decides as a schedule says.

    Args:
        decisions: the schedule.
    """

    __slots__ = ("_left",)

    def __init__(self, decisions: Iterable[int]) -> None:
        self._left = iter(decisions)

    def __call__(self, ready: Sequence[int]) -> int:
        """Take the next decision."""
        return next(self._left, 0) % len(ready)


@final
class Line(Generic[_T]):
    """Those who are ready to run, in the order in which they became so.

    Those who became ready within the same turn are in order of their creation: a cancelled scope,
    or an event of trio's, wakes its tasks in the order of a set, another one in each process. The
    one whose turn it was comes last of them, since it yields to whom it has started or woken.

    Attributes:
        decide: says who goes next.
        turns: how many have gone.
    """

    __slots__ = ("_count", "_last", "_numbers", "_waiting", "decide", "turns")

    def __init__(self) -> None:
        self.decide: Decide = first_come
        self.turns = 0
        # Not how many numbers are kept: that shrinks whenever a task dies.
        self._count = 0
        self._last = (-1, -1)
        self._numbers: WeakKeyDictionary[object, int] = WeakKeyDictionary()
        self._waiting: list[tuple[int, bool, int, _T]] = []

    def __len__(self) -> int:
        """Count those who are ready."""
        return len(self._waiting)

    def join(self, task: object, item: _T) -> None:
        """Add what is to be run for a task; who joins first is taken to be the oldest."""
        number = self._numbers.get(task)
        if number is None:
            number = self._numbers[task] = self._count
            self._count += 1
        goes_again = self._last == (self.turns, number)
        insort(self._waiting, (self.turns, goes_again, number, item), key=_place)

    def leave(self) -> _T:
        """Take out what goes next."""
        waiting = self._waiting
        place = self.decide([number for *_, number, _ in waiting]) if len(waiting) > 1 else 0
        *_, number, item = waiting.pop(place)
        self.turns += 1
        self._last = (self.turns, number)
        return item

    def clear(self) -> None:
        """Forget all who are ready."""
        self._waiting.clear()


def _place(entry: tuple[int, bool, int, object]) -> tuple[int, bool, int]:
    return entry[:3]
