"""How much is tried: a little every day, far more in the long run."""

import os
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

import pytest

from flexiflow.testing._scheduling.checks import BACKENDS

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "short")
IS_LONG = PROFILE == "long"

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
    parametrize = pytest.mark.parametrize(("fault", "clause", "backend"), cases)
    # Only the faults reach the complaints of the checkers.
    return lambda test: pytest.mark.measured(parametrize(test))
