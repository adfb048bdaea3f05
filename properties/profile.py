"""How much is tried: some every day, far more in the long run."""

import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import pytest

BACKENDS = ("asyncio", "trio")
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "short")
IS_LONG = PROFILE == "long"

in_the_long_run = pytest.mark.skipif(not IS_LONG, reason="takes minutes")


class Faulty(Protocol):
    """What has a deliberate fault, and the clauses that it breaks."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def clauses(self) -> tuple[str, ...]:
        """The clauses, the one that tells of it first."""
        ...


def each_broken(faults: Sequence[Faulty]) -> Callable[[Any], Any]:
    """Run a test for each fault, and each clause that it breaks, on each backend.

    Every day for the first clause alone, and on the backends by turns, since to shrink takes time.
    """
    cases = [
        pytest.param(fault, clause, backend, id=f"{fault.name}-{clause}-{backend}")
        for number, fault in enumerate(faults)
        for clause in fault.clauses[: None if IS_LONG else 1]
        for backend in (BACKENDS if IS_LONG else (BACKENDS[number % 2],))
    ]
    return pytest.mark.parametrize(("fault", "clause", "backend"), cases)
