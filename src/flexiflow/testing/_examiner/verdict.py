"""What came of examining a clause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from flexiflow.testing._examiner.clause import Clause
    from flexiflow.testing._examiner.violation import ContractViolation


@final
@dataclass(frozen=True)
class Verdict:
    """The result of examining one clause.

    Attributes:
        clause: the clause.
        examples: how many cases were tried, up to the one that broke it; 0 if it was not checked.
        violation: how it is broken, or None if it held.
        lacks: what the subject would have to offer for the clause to be checked, or for all of it.
    """

    clause: Clause
    examples: int
    violation: ContractViolation | None
    lacks: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """What is said of the clause, in a word or two."""
        if self.violation is not None:
            return self.violation.verdict
        if self.examples:
            return "held"
        return "not offered" if self.lacks else "unchecked"

    @property
    def missing(self) -> str:
        """What the subject would have to offer, in words, as "no stream, no expect"; or ""."""
        return ", ".join(f"no {part}" for part in self.lacks)
