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
    """Add a store to the list, with the parts that it breaks."""

    def enter(store: _T) -> _T:
        STORE_FAULTS.append(StoreFault(store, clauses))
        return store

    return enter
