"""The exception that says which clause is broken, and how (P1)."""

from __future__ import annotations

from textwrap import indent
from typing import Final, Literal, TypeAlias, final

from flexiflow.testing._scheduling.failures import Finding

Failing: TypeAlias = Literal["violated", "flaky", "not offered"]

EXAMPLES: Final = 200
"""How many programs a clause is tried with by default."""


@final
class ContractViolation(Finding, AssertionError):
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
        verdict: "violated"; "flaky", if it did not happen each time that the program was run again;
            "not offered", if the clause could not be tried, as what it needs is not there.
        recurrence: how often it happened again, and in how many runs of the program.
        error: the traceback of the exception that ended the program, from the caller's own code on;
            empty if there was none.

    Example:
        >>> from flexiflow import Component, Engine, StateMachine, Transition
        >>> from flexiflow.testing import ContractViolation, check_machine
        >>> from hypothesis import strategies as st
        >>> MACHINE = StateMachine("placed", [Transition("placed", "pay", "paid")])
        >>> def make():
        ...     return Engine(component_factory=lambda name: Component(name, machine=MACHINE))
        >>> messages = {"A7": st.just({"type": "pay"})}
        >>> try:
        ...     check_machine(make, backend="asyncio", messages=messages, never=["paid"], seed=1)
        ... except ContractViolation as violation:
        ...     print(violation.clause)
        never 'paid'
    """

    def __init__(  # noqa: PLR0913  each of them is an attribute
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
        verdict: Failing = "violated",
        recurrence: tuple[int, int] = (0, 0),
        error: str = "",
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
        self.verdict: Failing = verdict
        self.recurrence = recurrence
        self.error = error

    def __str__(self) -> str:
        """Return what is promised, what happened, the program, and the seed."""
        says = {"violated": "does not hold", "flaky": "is flaky", "not offered": "is not offered"}
        history = f"what happened:\n{self.history}\n\n" if self.history else ""
        # Indented, since a message of several lines could forge one of these.
        error = f"what was raised:\n{indent(self.error, '  ')}\n\n" if self.error else ""
        return (
            f"{self.clause} {says[self.verdict]} on {self.backend}: {self.complaint}\n\n"
            f"{self.clause}: {self.sentence}\n\n"
            f"{self._chance()}"
            f"{self.counterexample}\n"
            f"{history}"
            f"{error}"
            f"found with seed={self.seed}"
        )

    def _chance(self) -> str:
        if self.verdict != "flaky":
            return ""
        again, runs = self.recurrence
        return (
            f"flaky: of {runs} more runs of this program, {again} broke the clause, so what is "
            "checked depends on something else too: on state of an earlier run, on time, on "
            "randomness\n\n"
        )
