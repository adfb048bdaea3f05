"""The exception that says which clause is broken, and how (P1)."""

from __future__ import annotations

from typing import Final, final

from flexiflow._errors import FlexiFlowError

EXAMPLES: Final = 200
"""How many programs a clause is tried with by default."""


@final
class ContractViolation(FlexiFlowError, AssertionError):
    """A bus, an engine with its components, or a transport breaks a clause of the contract (P1).

    Or components of the user's break a claim about them (P6).

    Args:
        clause: the clause's number, as "B4"; or the claim in words.
        sentence: what the clause promises.
        complaint: what happened instead.
        counterexample: the smallest program found that shows it, as Python code.
        history: what happened while it ran, a line for each event; empty if the program itself
            asserts what the clause promises.
        operations: in how many places that program calls one of the examined methods.
        backend: the backend on which it ran.
        seed: the seed with which the same check finds it again.
    """

    def __init__(
        self,
        *,
        clause: str,
        sentence: str,
        complaint: str,
        counterexample: str,
        history: str,
        operations: int,
        backend: str,
        seed: int,
    ) -> None:
        super().__init__(clause, complaint)
        self.clause = clause
        self.sentence = sentence
        self.complaint = complaint
        self.counterexample = counterexample
        self.history = history
        self.operations = operations
        self.backend = backend
        self.seed = seed

    def __str__(self) -> str:
        """Return what is promised, what happened, the program, and the seed."""
        history = f"what happened:\n{self.history}\n\n" if self.history else ""
        return (
            f"{self.clause} does not hold on {self.backend}: {self.complaint}\n\n"
            f"{self.clause}: {self.sentence}\n\n"
            f"{self.counterexample}\n"
            f"{history}"
            f"found with seed={self.seed}"
        )
