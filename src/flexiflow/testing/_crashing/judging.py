"""Whether stored events were handled more often than is promised (X1, P7)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, final

from flexiflow.testing._crashing.failures import HandledAgain
from flexiflow.testing._crashing.journal import BEGAN, KILLED, LET_GO, SETTLED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flexiflow.testing._crashing.journal import Fact


def judge(facts: Iterable[Fact]) -> HandledAgain | None:
    """Return a stored event that was handled too often, or None.

    What was settled is never handled again. Apart from attempts that were let go, an event is
    handled once, and at most once more for each crash. These are counted only in the end: a worker
    that was slow, so that another one was given what it held, notices that later.
    """
    tally = _Tally()
    for fact in facts:
        tally.add(fact)
    return tally.verdict()


@final
class _Tally:
    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._attempts = Counter[str]()
        self._settled: set[str] = set()
        self._crashes = 0
        self._again: str | None = None

    def add(self, fact: Fact) -> None:
        if fact.what == KILLED:
            self._crashes += 1
        elif fact.what == SETTLED:
            self._settled.add(fact.about)
        elif fact.what == LET_GO:
            self._attempts[fact.about] -= 1
        elif fact.what == BEGAN:
            event, self._names[event] = fact.about
            self._attempts[event] += 1
            if event in self._settled:
                self._again = event

    def verdict(self) -> HandledAgain | None:
        if self._again is not None:
            return HandledAgain(self._names[self._again], self._again, 0, self._crashes)
        for event, times in self._attempts.items():
            if times > 1 + self._crashes:
                return HandledAgain(self._names[event], event, times, self._crashes)
        return None
