"""A clause of a contract as data: its sentence, and what checks it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from flexiflow.testing._examiner.checker import Checker


@final
@dataclass(frozen=True)
class Clause:
    """A numbered promise of the contract.

    Attributes:
        identifier: its number, as "B4".
        title: its name in the documentation.
        sentence: what is promised, as far as it can be checked from outside.
        checker: what tries to break it, or None where nothing does yet.
        needs: the methods and options that a bus must have for it to be checked, as "stream" or
            "subscribe(limit=)".
    """

    identifier: str
    title: str
    sentence: str
    checker: Checker | None
    needs: tuple[str, ...] = ()
