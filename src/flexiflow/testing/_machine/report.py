"""What a check of a machine returns if no claim is violated (P6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, final

from flexiflow._text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MOST_SHOWN = 20
"""So many transitions that were not taken are shown."""


@final
class CoveredTransition(NamedTuple):
    """A transition from one state, and how often it was taken in all programs.

    Attributes:
        source: the state that it leaves.
        trigger: the `type` of its messages.
        target: the state that it enters; None if it is internal.
        guard: the name of its guard, or the text of a lambda; None if it has none.
        taken: how often it was taken.
        accepted: how often its guard has let a message through.
        refused: how often its guard has not.
        failed: how often its guard has raised.

    Example:
        >>> from flexiflow.testing import CoveredTransition
        >>> print(CoveredTransition("placed", "pay", "paid", taken=3))
        placed -- pay --> paid
    """

    source: str
    trigger: str
    target: str | None
    guard: str | None = None
    taken: int = 0
    accepted: int = 0
    refused: int = 0
    failed: int = 0

    def __str__(self) -> str:
        """Return its states, its trigger and its guard."""
        guard = "" if self.guard is None else f", if {self.guard}"
        return f"{self.source} -- {self.trigger} --> {self.target or '(stays)'}{guard}"


@final
class LeadsTo(NamedTuple):
    """A claim of `leads_to`, and in how many programs it has held.

    Attributes:
        claim: the claim, as "'placed' leads to 'shipped'".
        held: in so many programs its first condition was reached, and the second one each time
            after that.
        inconclusive: so many programs were still going on when their budget of turns was used up,
            so the claim can't be judged.
        not_reached: in so many programs its first condition was never reached.

    Example:
        >>> from flexiflow import Component, Engine, StateMachine, Transition
        >>> from flexiflow.testing import check_machine
        >>> from hypothesis import strategies as st
        >>> MACHINE = StateMachine("placed", [Transition("placed", "pay", "paid")])
        >>> def make():
        ...     return Engine(component_factory=lambda name: Component(name, machine=MACHINE))
        >>> messages, claim = {"A7": st.just({"type": "pay"})}, ("placed", "paid")
        >>> report = check_machine(
        ...     make, backend="asyncio", messages=messages, leads_to=[claim], fair=["pay"], seed=1
        ... )
        >>> print(report.leads_to[0].claim, report.leads_to[0].inconclusive)
        'placed' leads to 'paid' 0
    """

    claim: str
    held: int
    inconclusive: int
    not_reached: int


@final
@dataclass(frozen=True, slots=True)
class MachineReport:
    """What `check_machine` has tried, where it has found no violation.

    Attributes:
        backend: the backend on which the programs ran.
        seed: the seed that draws the same programs again.
        examples: how many programs were tried.
        messages: how many messages they have sent, `fair` ones included.
        failures: how many of these messages have raised, by the name of the exception's type.
        unfinished: in so many programs a component was still handling a message at the end.
        transitions: the transitions of all machines, one for each state that they leave.
        leads_to: the claims of `leads_to`, in order.

    Example:
        >>> from flexiflow import Component, Engine, StateMachine, Transition
        >>> from flexiflow.testing import check_machine
        >>> from hypothesis import strategies as st
        >>> MACHINE = StateMachine("placed", [Transition("placed", "pay", "paid")])
        >>> def make():
        ...     return Engine(component_factory=lambda name: Component(name, machine=MACHINE))
        >>> messages = {"A7": st.just({"type": "ship"})}
        >>> report = check_machine(make, backend="asyncio", messages=messages, examples=5, seed=1)
        >>> print([str(transition) for transition in report.not_taken])
        ['placed -- pay --> paid']
    """

    backend: str
    seed: int
    examples: int
    messages: int
    failures: Mapping[str, int]
    unfinished: int
    transitions: tuple[CoveredTransition, ...]
    leads_to: tuple[LeadsTo, ...]

    @property
    def not_taken(self) -> tuple[CoveredTransition, ...]:
        """The transitions that no program has taken."""
        return tuple(each for each in self.transitions if not each.taken)

    def __str__(self) -> str:
        """Return all this in words, a line for each fact."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield (
            f"{counted(self.examples, 'program')} on {self.backend} with "
            f"{counted(self.messages, 'message')}, seed={self.seed}: no claim is violated"
        )
        for claim in self.leads_to:
            yield (
                f"{claim.claim}: held in {claim.held}, inconclusive in {claim.inconclusive}, not "
                f"reached in {claim.not_reached}"
            )
        if self.failures:
            told = (f"{kind} {count}" for kind, count in sorted(self.failures.items()))
            yield f"messages that raised: {', '.join(told)}"
        if self.unfinished:
            yield f"programs with a message that was never over: {self.unfinished}"
        yield from self._told_transitions()
        for each in self.transitions:
            if each.guard is not None:
                failed = f", raised {each.failed}" if each.failed else ""
                yield f"guard of {each}: accepted {each.accepted}, refused {each.refused}{failed}"

    def _told_transitions(self) -> Iterator[str]:
        missing = self.not_taken
        taken = len(self.transitions) - len(missing)
        yield f"transitions taken: {taken} of {len(self.transitions)}"
        for each in missing[:_MOST_SHOWN]:
            yield f"  not taken: {each}"
        if len(missing) > _MOST_SHOWN:
            yield f"  not taken: {len(missing) - _MOST_SHOWN} more"
