"""`check_component` finds each fault, and finds none where there is none (P1)."""

import os
from collections import Counter
from collections.abc import Iterable
from itertools import takewhile

import pytest

from flexiflow import Component, Engine
from flexiflow.testing import ContractViolation, check_component
from flexiflow.testing._component_contract import COMPONENT_CONTRACT
from flexiflow.testing._component_run import examine_component, execute
from flexiflow.testing._component_script import ComponentScript, Row, Send
from flexiflow.testing._component_turns import run_to_completion
from flexiflow.testing._contract import Clause
from properties.faults import of_turns
from properties.faults.of_components import COMPONENT_FAULTS, ComponentFault
from properties.faults.plain_engine import PlainComponent, PlainEngine

SEED = 1
IS_LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
EXAMPLES = 10_000 if IS_LONG else 200
# Where time is short, few examples for the clauses that are to hold: the plain ones prove those.
FEW = 1_000 if IS_LONG else 3


def violations(
    fault: ComponentFault, backend: str, clauses: Iterable[Clause], examples: int
) -> list[ContractViolation]:
    """Check some clauses of what has a fault."""
    verdicts = examine_component(
        fault.component,
        clauses,
        engine=fault.engine,
        backend=backend,
        examples=examples,
        seed=SEED,
    )
    return [verdict.violation for verdict in verdicts if verdict.violation is not None]


@pytest.mark.parametrize("fault", COMPONENT_FAULTS, ids=lambda fault: fault.name)
def test_each_fault_is_found_named_and_shrunk(fault: ComponentFault, backend: str) -> None:
    """P1: a fault of a component or an engine is found, named by its clause, and shrunk."""
    before = list(
        takewhile(lambda clause: clause.identifier != fault.clauses[0], COMPONENT_CONTRACT)
    )
    [named] = COMPONENT_CONTRACT[len(before) : len(before) + 1]

    assert violations(fault, backend, before, FEW) == []
    [violation] = violations(fault, backend, [named], 200)
    assert violation.operations <= 5, violation


SENDS_ON = Row("t0", action=(Send("a", "t1"),))
SENDS_OVER = Row("t0", action=(Send("b", "t1"),))
ONE, NEXT = Send("a", "t0"), Row("t1")


@pytest.mark.parametrize(
    ("faulty", "rows", "steps", "complaint"),
    [
        (of_turns.HandlesAtOnceAndTells, (SENDS_ON, NEXT), (ONE,), "not deferred"),
        (of_turns.HandlesAtOnce, (SENDS_ON, NEXT), (ONE,), "in the midst of another one"),
        (of_turns.DefersWhatIsNested, (SENDS_OVER, NEXT), (ONE,), "could be waited for"),
        (of_turns.ReturnsBeforeTheDeferred, (SENDS_ON, NEXT), (ONE, ONE), "had ended"),
        (PlainComponent, (SENDS_ON, NEXT), (ONE,), None),
    ],
)
def test_run_to_completion_is_judged_by_what_happened(
    faulty: type[PlainComponent],
    rows: tuple[Row, ...],
    steps: tuple[Send, ...],
    complaint: str | None,
    backend: str,
) -> None:
    """P1: the judgement on run to completion (C4) says what went wrong."""
    script = ComponentScript(rows, steps)
    history = execute(script, factory=faulty, engine=PlainEngine, backend=backend)

    told = run_to_completion(history)
    assert (told is None) if complaint is None else (told is not None and complaint in told)


def test_plain_ones_keep_the_contract(backend: str) -> None:
    """P1: nothing is found wrong with an engine and components that keep the contract."""
    check_component(
        PlainComponent, engine=PlainEngine, backend=backend, examples=EXAMPLES // 5, seed=SEED
    )


def test_flexiflow_keeps_its_contract(backend: str) -> None:
    """P1: nothing is found wrong with FlexiFlow's own engine and components."""
    check_component(Component, engine=Engine, backend=backend, examples=EXAMPLES, seed=SEED)


def test_each_clause_has_a_fault() -> None:
    """P1: every clause of components is shown to be found broken."""
    broken = Counter(fault.clauses[0] for fault in COMPONENT_FAULTS)

    assert sorted(broken) == sorted(clause.identifier for clause in COMPONENT_CONTRACT)
