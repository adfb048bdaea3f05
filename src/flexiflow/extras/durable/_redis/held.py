"""What a lease holds, as far as its worker knows; without I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from flexiflow.extras.durable._outcomes import Acknowledged, Buried, Followed, Postponed, Returned

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from flexiflow.extras.durable._outcomes import Outcome
    from flexiflow.extras.durable._records import Delivery

ALL_CAME: Final = (0,)
"""What scripts are told if no answer is lost."""


@final
class Held:
    """The positions that a lease holds, and the numbers of its settlings.

    Attributes:
        is_lost: whether an answer of `receive` may be lost.
        settled: the number of the last settling that was answered.
    """

    __slots__ = ("_doubtful", "_fresh", "_number", "_tried", "_waited", "is_lost", "settled")

    def __init__(self) -> None:
        # The positions that it holds, from the log and after waiting, and those that it has asked
        # to let go of, until the answer comes.
        self._fresh: set[str] = set()
        self._waited: set[str] = set()
        self._doubtful: set[str] = set()
        self.is_lost = False
        self.settled = self._number = 0
        self._tried: list[Outcome] | None = None

    @property
    def positions(self) -> list[str]:
        """The positions that it holds."""
        return [*self._fresh, *self._waited]

    def came(self) -> tuple[int | str, ...]:
        """Return what scripts are told of what has come: ids after 1 if an answer may be lost."""
        if not self.is_lost:
            return ALL_CAME
        return (1, *self._fresh, *self._waited, *self._doubtful)

    def take(self, deliveries: Iterable[Delivery]) -> None:
        """Add what the lease was given."""
        for each in deliveries:
            (self._waited if each.has_waited else self._fresh).add(each.position)

    def take_new(self, deliveries: Iterable[Delivery]) -> None:
        """Add what the lease was given for the first time."""
        self._fresh.update([each.position for each in deliveries])

    def split(self, outcomes: Sequence[Outcome]) -> tuple[list[str], list[Outcome]]:
        """Return the positions that are acknowledged and have not waited, and other outcomes."""
        held = self._fresh
        done: list[str] = []
        others: list[Outcome] = []
        for each in outcomes:
            if type(each) is Acknowledged and each.position in held:
                done.append(each.position)
            else:
                others.append(each)
        return done, others

    def number_of(self, outcomes: Sequence[Outcome], others: list[Outcome]) -> int:
        """Return a number for outcomes that must not be written twice, else 0.

        All tries of the same outcomes have the same number.
        """
        if self._tried is not None and self._tried == list(outcomes):
            return self._number
        released = {each.position for each in others if isinstance(each, Returned | Postponed)}
        if not released and not any(
            isinstance(each, Followed) or each.position in self._waited for each in others
        ):
            return 0
        # Before they are released: they may be given anew before the answer is seen here.
        self._doubtful |= released & (self._fresh | self._waited)
        self.forget(released)
        self._tried = list(outcomes)
        self._number += 1
        return self._number

    def settle(self, number: int, done: list[str], others: list[Outcome]) -> None:
        """Let go of what was settled; `number` is that of the settling."""
        self._tried = None
        self.settled = max(self.settled, number)
        self._fresh.difference_update(done)
        for each in others:
            if isinstance(each, Acknowledged | Buried):
                self._waited.discard(each.position)
                self._fresh.discard(each.position)
            elif isinstance(each, Returned | Postponed):
                self._doubtful.discard(each.position)

    def forget(self, positions: Collection[str]) -> None:
        """Let go of what other leases hold."""
        self._fresh.difference_update(positions)
        self._waited.difference_update(positions)
