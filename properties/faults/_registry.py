"""The list of faulty buses, with the clauses that each breaks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from properties.reference.bus import Plain

_B = TypeVar("_B", bound=type[Plain])


@dataclass(frozen=True)
class Fault:
    """A bus with one fault.

    Attributes:
        clauses: the clauses that it breaks, the one that it is there for first.
    """

    bus: type[Plain]
    clauses: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.bus.__name__


FAULTS: list[Fault] = []


def breaks(*clauses: str) -> Callable[[_B], _B]:
    """Add a bus to the list, with the clauses that it breaks."""

    def enter(bus: _B) -> _B:
        FAULTS.append(Fault(bus, clauses))
        return bus

    return enter
