"""Examine a machine: draw programs until one breaks a claim, or there were enough (P6)."""

from __future__ import annotations

import reprlib
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from hypothesis import strategies as st

from flexiflow._names import check_component_name
from flexiflow.testing._examiner.clause import Clause
from flexiflow.testing._examiner.examine import examine
from flexiflow.testing._examiner.violation import ContractViolation
from flexiflow.testing._machine.claims import make_claims
from flexiflow.testing._machine.draft import drafts
from flexiflow.testing._machine.subject import MachineSubject
from flexiflow.testing._scheduling.checks import check_backend, check_int

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow.testing._machine.claims import Claim
    from flexiflow.testing._machine.report import MachineReport
    from flexiflow.testing._machine.subject import MachineTrace


def examine_machine(
    make: Callable[[], Any],
    *,
    backend: str,
    messages: object,
    examples: int,
    seed: int | None,
    **claimed: object,
) -> MachineReport:
    """Try to break each claim, and return what was tried.

    Raises:
        Exception: what `check_machine` raises.
    """
    check_backend(backend)
    check_int("examples", examples, least=1)
    if seed is None:
        seed = secrets.randbits(32)
    check_int("seed", seed, least=0)
    drawn, claims = _strategies(messages), make_claims(**claimed)
    subject = MachineSubject(make, names=tuple(drawn), claims=claims, backend=backend)
    clause = Clause(
        "P6",
        "claims",
        "What is claimed holds.",
        drafts(drawn, subject.times),
        _complaint,
        is_shrunk=False,
    )
    [verdict] = examine(lambda: subject, [clause], examples=examples, seed=seed)
    if verdict.violation is not None and subject.claim is not None:
        raise _named(verdict.violation, subject.claim)
    return subject.report(verdict.examples, seed)


def _complaint(trace: MachineTrace) -> str | None:
    return None if trace.violation is None else trace.violation.complaint


def _named(found: ContractViolation, claim: Claim) -> ContractViolation:
    """Return a violation of the claim, in place of one of the whole."""
    return ContractViolation(
        clause=claim.name,
        sentence=claim.sentence,
        complaint=found.complaint,
        counterexample=found.counterexample,
        history=found.history,
        operations=found.operations,
        backend=found.backend,
        seed=found.seed,
        verdict=found.verdict,
        recurrence=found.recurrence,
        error=found.error,
    )


def _strategies(given: object) -> dict[str, st.SearchStrategy[Any]]:
    """Return what draws messages, by the component's name.

    Raises:
        TypeError: it is not a mapping, a name is no str, or something in it draws nothing.
        ValueError: it is empty, or a name is.
    """
    if not isinstance(given, Mapping):
        raise TypeError(
            "messages must map the names of components to Hypothesis strategies, like "
            f"{{'order-1': st.sampled_from(...)}}, not {reprlib.repr(given)}"
        )
    if not given:
        raise ValueError("messages must have a strategy for one component or more, and is empty")
    drawn = cast("Mapping[object, object]", given)
    strategies: dict[str, st.SearchStrategy[Any]] = {}
    for name, each in drawn.items():
        if not isinstance(each, st.SearchStrategy):
            raise TypeError(
                f"messages[{name!r}] must be a Hypothesis strategy of messages, "
                f"not {reprlib.repr(each)}"
            )
        strategies[check_component_name(name)] = each
    return strategies
