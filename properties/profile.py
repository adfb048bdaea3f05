"""How much is tried: a little every day, far more in the long run."""

import os
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import coverage
import pytest
from hypothesis import Phase, settings

from flexiflow.testing._examiner import examine
from flexiflow.testing._examiner.examine import _Search
from flexiflow.testing._examiner.verdict import Verdict
from flexiflow.testing._examiner.violation import EXAMPLES
from flexiflow.testing._scheduling import run
from flexiflow.testing._scheduling.checks import BACKENDS
from flexiflow.testing._transport.subject import TransportSubject

COVERAGE = coverage.Coverage.current()
"""What measures the properties, if anything does."""
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "short")
IS_LONG = PROFILE == "long"
CORRECT_SEED = None if IS_LONG else 1
"""The seed of checks that must find nothing; None, for a random one, only in the long run.

With a random one every run of CI might fail by chance.
"""

_UNSHRUNK = settings(examine._SETTINGS, phases=[Phase.generate])
_COMPLAINING = ((_Search, "_violation"), (TransportSubject, "examine_further"))
"""The methods that deal with a fault: only there do the checkers complain."""

_T = TypeVar("_T")


def in_the_long_run(test: _T) -> _T | None:
    """Return a test that takes minutes; every day return None, which pytest does not collect."""
    return test if IS_LONG else None


class Faulty(Protocol):
    """Something with a planted fault, and the clauses that it breaks."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def clauses(self) -> tuple[str, ...]:
        """The clauses; the first is the one that best shows it."""
        ...


def by_turns(cases: Iterable[_T]) -> list[tuple[_T, str]]:
    """Pair each case with one backend, alternately; in the long run with both."""
    return [
        (case, backend)
        for number, case in enumerate(cases)
        for backend in (BACKENDS if IS_LONG else (BACKENDS[number % 2],))
    ]


def each_broken(faults: Iterable[Faulty]) -> Callable[[Any], Any]:
    """Parametrize a test with each fault and each clause that it breaks.

    Every day only with the first clause, and alternating backends, since shrinking takes time.
    """
    cases = [
        pytest.param(fault, clause, backend, id=f"{fault.name}-{clause}-{backend}")
        for fault, backend in by_turns(faults)
        for clause in fault.clauses[: None if IS_LONG else 1]
    ]
    return pytest.mark.parametrize(("fault", "clause", "backend"), cases)


def find_fault(
    search: Callable[..., Iterable[Verdict]], most: int, fewer: tuple[int, ...] = ()
) -> None:
    """Assert that a search of one clause finds a fault, by a program of at most so many operations.

    Every day Hypothesis shrinks a program only if leaving out parts is not enough: its shrinking
    takes most of the time. In the long run it is part of every search.

    Args:
        search: takes the number of its examples, as `examples`.
        most: how many operations the program may have.
        fewer: numbers of examples that are tried before the usual one, every day.
    """
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in _COMPLAINING:
            patch.setattr(owner, name, _measured(getattr(owner, name)))
        if IS_LONG:
            [verdict] = search()
        else:
            with pytest.MonkeyPatch.context() as quickly:
                quickly.setattr(examine, "_SETTINGS", _UNSHRUNK)
                # What goes round in circles is given up sooner.
                quickly.setattr(run, "MOST_TURNS", 20_000)
                for examples in (*fewer, EXAMPLES):
                    [verdict] = search(examples=examples)
                    if verdict.violation is not None:
                        break
            if verdict.violation is not None and verdict.violation.operations > most:
                [verdict] = search()
    assert verdict.violation is not None
    assert verdict.violation.operations <= most, verdict.violation


def _measured(method: Callable[..., _T]) -> Callable[..., _T]:
    """Measure the coverage of a method; of its test, `conftest` measures nothing else.

    Of a search, only the case that was found and the smallest one are measured: to leave out parts
    takes most of the time.
    """

    def measured(search: Any, *arguments: Any) -> _T:
        if not isinstance(search, _Search):
            with _coverage():
                return method(search, *arguments)
        cases = [search._found[0][0]]
        result = method(search, *arguments)
        cases.append(search._found[0][0])
        with _coverage():
            for case in cases:
                search._breaks(case)
        return result

    return measured


@contextmanager
def _coverage() -> Generator[None]:
    """Measure coverage within the block, if anything measures it."""
    if COVERAGE is None:
        yield
        return
    COVERAGE.start()
    try:
        yield
    finally:
        COVERAGE.stop()
