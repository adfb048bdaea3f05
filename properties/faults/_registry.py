"""The list of the faults, and of what each of them breaks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from properties.faults.plain import Plain

_B = TypeVar("_B", bound=type[Plain])


@dataclass(frozen=True)
class Fault:
    """A bus with one fault.

    Attributes:
        clauses: what it breaks, the one that it was made for first.
    """

    bus: type[Plain]
    clauses: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.bus.__name__


FAULTS: list[Fault] = []


def breaks(*clauses: str) -> Callable[[_B], _B]:
    """Enter a bus into the list."""

    def enter(bus: _B) -> _B:
        FAULTS.append(Fault(bus, clauses))
        return bus

    return enter
