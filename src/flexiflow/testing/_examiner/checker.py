"""What a clause is checked with: cases that exercise it, and a judgement of what happened.

The modules of clauses combine the strategies below into their checkers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from hypothesis import strategies as st

from flexiflow._cancellation import leaves
from flexiflow._text import printable
from flexiflow.testing._examiner.program import Program
from flexiflow.testing._scheduling.failures import ScenarioStuck

if TYPE_CHECKING:
    from flexiflow._bus import DeliveryMode, ErrorPolicy
    from flexiflow.testing._examiner.program import Case
    from flexiflow.testing._examiner.trace import Trace

_T = TypeVar("_T")

MODES: tuple[DeliveryMode, ...] = ("sequential", "concurrent", "tiered")
POLICIES: tuple[ErrorPolicy, ...] = ("continue", "raise")


class Complain(Protocol):
    """Returns how a trace breaks a clause, or None."""

    def __call__(self, trace: Trace) -> str | None:
        """Judge a trace."""
        ...


def nothing(trace: Trace) -> None:
    """Leave the judgement to the program, which asserts."""


@dataclass(frozen=True)
class Checker:
    """How a clause is checked.

    Attributes:
        cases: what to try, drawn before any loop starts.
        complain: judges what happened.
    """

    cases: st.SearchStrategy[Case]
    complain: Complain = nothing

    def judge(self, trace: Trace) -> str | None:
        """Return how a trace breaks the clause, or None."""
        if isinstance(trace.left, ScenarioStuck):
            # What its tasks did while they were being ended is not what the bus does.
            return _describe(trace.left)
        complaint = self.complain(trace)
        if complaint is None and trace.left is not None:
            return _describe(trace.left)
        return complaint


def _describe(left: BaseException) -> str:
    # In a group, if a program asserts while other tasks run.
    for leaf in leaves(left):
        if isinstance(leaf, AssertionError):
            return str(leaf)
    return printable(f"the program was left by {type(left).__name__}: {left}")


# Numbers are sampled: Hypothesis' own integers also try constants of the modules that happen to be
# loaded, so that one seed would draw other cases in another process.
def number(least: int, most: int) -> st.SearchStrategy[int]:
    """Draw a number; shrinking leads to the least."""
    return st.sampled_from(range(least, most + 1))


turns = number(0, 3)
priorities = st.sampled_from([3, 1, 2, 4, 5])
schedules: st.SearchStrategy[tuple[int, ...]] = st.lists(number(0, 3), max_size=12).map(tuple)


def often(times: int, cases: st.SearchStrategy[_T]) -> st.SearchStrategy[_T]:
    """Return a branch that has more weight in `one_of`, which drops equal branches."""
    return st.one_of(*(st.tuples(cases).map(_only) for _ in range(times)))


def _only(cases: tuple[_T]) -> _T:
    [case] = cases
    return case


def programs(*texts: str, again: str = "") -> st.SearchStrategy[Program]:
    """Draw one of several programs; DELIVERY and POLICY in them stand for each that there is."""
    variants = dict.fromkeys(
        Program(_filled(text, delivery, policy), _filled(again, delivery, policy))
        for text in texts
        for delivery in MODES
        for policy in POLICIES
    )
    return st.sampled_from(list(variants))


def scheduled(*texts: str) -> st.SearchStrategy[Case]:
    """Draw one of several programs, as `programs` does, and the schedule of its tasks."""
    return st.builds(_scheduled, programs(*texts), schedules)


def _scheduled(program: Program, decisions: tuple[int, ...]) -> Program:
    return replace(program, decisions=decisions)


def _filled(text: str, delivery: DeliveryMode, policy: ErrorPolicy) -> str:
    return text.replace("DELIVERY", f'"{delivery}"').replace("POLICY", f'"{policy}"')
