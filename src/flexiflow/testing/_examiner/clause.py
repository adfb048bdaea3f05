"""Clauses of a contract as data, and what they are checked with: cases, and a judgement.

The modules of clauses combine the strategies below into what they try.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from inspect import Parameter, signature
from itertools import product
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from hypothesis import strategies as st

from flexiflow._cancellation import leaves
from flexiflow._text import printable, safely
from flexiflow.testing._examiner.program import Program
from flexiflow.testing._scheduling.failures import ScenarioStuck

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from flexiflow._bus import DeliveryMode, ErrorPolicy
    from flexiflow.testing._examiner.program import Case
    from flexiflow.testing._examiner.trace import Trace

_T = TypeVar("_T")

MODES: Final[tuple[DeliveryMode, ...]] = ("sequential", "concurrent", "tiered")
POLICIES: Final[tuple[ErrorPolicy, ...]] = ("continue", "raise")


def nothing(trace: Trace) -> None:
    """Leave the judgement to the program, which claims what is promised."""


@final
@dataclass(frozen=True, eq=False)
class Clause:
    """A numbered promise of the contract, and how it is checked.

    Attributes:
        identifier: its number, as "B4".
        title: its name in the documentation.
        sentence: what is promised, as far as it can be checked from outside.
        cases: what to try, drawn before any loop starts; None where nothing tries to break it yet.
        complain: returns how the trace of a case breaks the clause, or None.
        needs: the methods and options that a bus must have for it to be checked, as "stream" or
            "subscribe(limit=)".
        scenes: cases that are tried before any are drawn.
        share: which part of the examples is drawn, where scenes show much already.
        is_shrunk: whether Hypothesis shrinks its cases, before parts of them are left out.
    """

    identifier: str
    title: str
    sentence: str
    cases: st.SearchStrategy[Case] | None = None
    complain: Callable[[Any], str | None] = nothing
    needs: tuple[str, ...] = ()
    scenes: tuple[Case, ...] = ()
    share: float = 1.0
    is_shrunk: bool = True

    def tried_with(self, cases: st.SearchStrategy[Case], *, needs: tuple[str, ...] = ()) -> Clause:
        """Return a clause with the same promise, which is tried with other cases."""
        return Clause(self.identifier, self.title, self.sentence, cases, needs=needs)

    def judge(self, trace: Trace) -> str | None:
        """Return how a trace breaks the clause, or None."""
        if isinstance(trace.left, ScenarioStuck):
            # What its tasks did while they were being ended is not what the bus does.
            return describe(trace.left)
        complaint = self.complain(trace)
        if complaint is None and trace.left is not None:
            return describe(trace.left)
        return complaint


def clauses_of(*namespaces: Mapping[str, object]) -> tuple[Clause, ...]:
    """Return the clauses that modules define, in order."""
    values = (each for namespace in namespaces for each in namespace.values())
    return tuple(each for each in values if isinstance(each, Clause))


def describe(left: BaseException) -> str:
    """Return the complaint about an exception that left a case."""
    # In a group, if other tasks run in the program.
    found = [*leaves(left)]
    for leaf in found:
        if isinstance(leaf, AssertionError):
            return safely(str, leaf)
    return printable(f"the program was left by {type(found[0]).__name__}: {safely(str, found[0])}")


# Numbers are sampled: Hypothesis' own integers also try constants of the modules that happen to be
# loaded, so that one seed would draw other cases in another process.
def number(least: int, most: int) -> st.SearchStrategy[int]:
    """Draw a number; shrinking leads to the least."""
    return st.sampled_from(range(least, most + 1))


turns = number(0, 3)
priorities = st.sampled_from([3, 1, 2, 4, 5])


def several(
    *kinds: st.SearchStrategy[_T], least: int = 0, most: int = 2
) -> st.SearchStrategy[tuple[_T, ...]]:
    """Draw so many values of some kinds."""
    return st.lists(st.one_of(*kinds), min_size=least, max_size=most).map(tuple)


schedules = several(number(0, 3), most=12)


def often(times: int, cases: st.SearchStrategy[_T]) -> st.SearchStrategy[_T]:
    """Return a branch that has more weight in `one_of`, which drops equal branches."""
    return st.one_of(*(st.tuples(cases).map(lambda drawn: drawn[0]) for _ in range(times)))


def programs(
    *functions: Callable[..., Any], runs: int = 1, **choices: Iterable[object]
) -> st.SearchStrategy[Program]:
    """Draw one of several programs.

    Args:
        functions: async functions, each with any of the options `delivery`, `policy`, and those
            that are in `choices`.
        runs: how many runs each is called in.
        choices: the values of options; each is combined with all others.
    """
    return st.sampled_from(each_of(*functions, runs=runs, **choices))


def each_of(
    *functions: Callable[..., Any], runs: int = 1, **choices: Iterable[object]
) -> tuple[Program, ...]:
    """Return all the programs that `programs` draws from."""
    values = {"delivery": MODES, "policy": POLICIES, **choices}
    return tuple(
        Program(function, given, runs)
        for function in functions
        for given in _combined(function, values)
    )


def _combined(
    function: Callable[..., Any], values: dict[str, Iterable[object]]
) -> Iterator[tuple[tuple[str, object], ...]]:
    taken = [
        name
        for name, each in signature(function).parameters.items()
        if each.kind is Parameter.KEYWORD_ONLY and name in values
    ]
    for given in product(*(values[name] for name in taken)):
        yield tuple(zip(taken, given, strict=True))


def scheduled(*functions: Callable[..., Any], **choices: Iterable[Any]) -> st.SearchStrategy[Case]:
    """Draw one of several programs, as `programs` does, and the schedule of its tasks."""
    return st.builds(_scheduled, programs(*functions, runs=1, **choices), schedules)


def _scheduled(program: Program, decisions: tuple[int, ...]) -> Program:
    return replace(program, decisions=decisions)


def drawn(function: Callable[..., Any], **choices: Iterable[object]) -> st.SearchStrategy[Program]:
    """Draw a program with values of its options, of which there are too many to try them all.

    Args:
        function: an async function, with any of the options `delivery`, `policy`, and those that
            are in `choices`.
        choices: the values of options.
    """
    values = {"delivery": MODES, "policy": POLICIES, **choices}
    taken = [name for name in signature(function).parameters if name in values]
    each = (st.sampled_from([*values[name]]) for name in taken)
    return st.tuples(*each).map(
        lambda chosen: Program(function, tuple(zip(taken, chosen, strict=True)))
    )
