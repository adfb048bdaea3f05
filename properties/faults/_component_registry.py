"""The list of faulty components and engines, with the clauses that each breaks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from flexiflow import Component, Engine
from properties.reference.engine import PlainComponent, PlainEngine
from properties.reference.lasting import LastingComponent, LastingEngine

_F = TypeVar("_F", bound=type[PlainComponent] | type[PlainEngine] | type[Engine])


@dataclass(frozen=True)
class ComponentFault:
    """A component or an engine with one fault.

    Attributes:
        clauses: the clauses that it breaks, the one that it is there for first.
    """

    faulty: type[PlainComponent] | type[PlainEngine] | type[Engine]
    clauses: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.faulty.__name__

    @property
    def component(self) -> type[PlainComponent] | type[Component]:
        if issubclass(self.faulty, Engine):
            return Component
        if issubclass(self.faulty, PlainComponent):
            return self.faulty
        return LastingComponent if issubclass(self.faulty, LastingEngine) else PlainComponent

    @property
    def engine(self) -> type[PlainEngine] | type[Engine]:
        if issubclass(self.faulty, PlainEngine | Engine):
            return self.faulty
        return LastingEngine if issubclass(self.faulty, LastingComponent) else PlainEngine


COMPONENT_FAULTS: list[ComponentFault] = []


def breaks(*clauses: str) -> Callable[[_F], _F]:
    """Add a component or an engine to the list, with the clauses that it breaks."""

    def enter(faulty: _F) -> _F:
        COMPONENT_FAULTS.append(ComponentFault(faulty, clauses))
        return faulty

    return enter
