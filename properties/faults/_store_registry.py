"""The list of faulty stores, with the part of clause K2 that each breaks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from properties.reference.store import PlainStore

_T = TypeVar("_T", bound=type[PlainStore])


@dataclass(frozen=True)
class StoreFault:
    """A store with one fault.

    Attributes:
        clauses: the titles of the parts that it breaks, the one that it is there for first.
    """

    store: type[PlainStore]
    clauses: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.store.__name__


STORE_FAULTS: list[StoreFault] = []


def breaks(*clauses: str) -> Callable[[_T], _T]:
    """Add a store to the list; all stores break clause K2."""

    def enter(store: _T) -> _T:
        STORE_FAULTS.append(StoreFault(store, store.parts))
        return store

    return enter


def shown_by(*parts: str) -> Callable[[_T], _T]:
    """Set the titles of the parts of the clause that find a fault, the best one first."""

    def enter(store: _T) -> _T:
        store.parts = parts
        return store

    return enter
