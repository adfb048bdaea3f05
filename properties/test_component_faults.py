"""`check_component` finds each planted fault, and complains of no correct engine (P1)."""

from collections import Counter
from functools import partial

import pytest

from flexiflow import Component, Engine
from flexiflow.testing import ContractViolation, check_component
from flexiflow.testing._component.contract import COMPONENT_CONTRACT
from flexiflow.testing._component.judgements import all_or_nothing, run_to_completion
from flexiflow.testing._component.script import ComponentScript, Fail, Row, Send
from flexiflow.testing._component.subject import ComponentSubject
from flexiflow.testing._examiner.examine import examine
from flexiflow.testing._examiner.steps import Step, Together, Wait
from properties.faults import of_turns
from properties.faults.of_components import COMPONENT_FAULTS, ComponentFault
from properties.profile import CORRECT_SEED, IS_LONG, each_broken, find_fault, in_the_long_run
from properties.reference.engine import PlainComponent, PlainEngine
from properties.reference.lasting import LastingComponent, LastingEngine
from properties.seeds import seed_for

SEED = 1
EXAMPLES = 10_000 if IS_LONG else 20
CLAUSES = {clause.identifier: clause for clause in COMPONENT_CONTRACT}


@each_broken(COMPONENT_FAULTS)
def test_a_fault_is_found_by_its_clause(fault: ComponentFault, clause: str, backend: str) -> None:
    """P1: the check of the clause that it breaks finds it, with a program of at most 5 calls."""
    find_fault(
        partial(
            examine,
            ComponentSubject,
            [CLAUSES[clause]],
            fault.component,
            engine=fault.engine,
            backend=backend,
            seed=seed_for(fault.name, SEED),
        ),
        most=5,
    )


@in_the_long_run
@pytest.mark.parametrize("fault", COMPONENT_FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_named_by_a_clause_that_it_breaks(fault: ComponentFault, backend: str) -> None:
    """P1: of all clauses, in order, the first that is found broken is one that the fault breaks."""
    with pytest.raises(ContractViolation) as found:
        check_component(fault.component, engine=fault.engine, backend=backend, seed=SEED)

    assert found.value.clause in fault.clauses


SENDS_ON = Row("t0", action=(Send("a", "t1"),))
SENDS_OVER = Row("t0", action=(Send("b", "t1"),))
FAILS_AFTERWARDS = Row("t0", action=(Send("a", "t1"), Fail()))
WAITS = Row("t0", action=(Wait(9),))
ONE, NEXT = Send("a", "t0"), Row("t1")
THREE = Together(((ONE,),) * 3)
GIVEN_UP = Together(((ONE,), (Send("a", "t0", cancelled_after=1),)))


@pytest.mark.measured
@pytest.mark.parametrize(
    ("faulty", "rows", "steps", "complaint"),
    [
        (of_turns.HandlesAtOnceAndTells, (SENDS_ON, NEXT), (ONE,), "not deferred"),
        (of_turns.HandlesAtOnce, (SENDS_ON, NEXT), (ONE,), "in the midst of another one"),
        (of_turns.DefersWhatIsNested, (SENDS_OVER, NEXT), (ONE,), "could be waited for"),
        (of_turns.ReturnsBeforeTheDeferred, (SENDS_ON, NEXT), (ONE, ONE), "had ended"),
        (of_turns.DropsWhenItIsBusy, (WAITS,), (THREE,), "was never handled"),
        (
            of_turns.LosesDeferredOnFailure,
            (FAILS_AFTERWARDS, NEXT),
            (ONE,),
            "was deferred, and never handled",
        ),
        (PlainComponent, (SENDS_ON, NEXT), (ONE,), None),
        (PlainComponent, (FAILS_AFTERWARDS, NEXT), (ONE,), None),
        (PlainComponent, (WAITS,), (GIVEN_UP,), None),
    ],
)
def test_run_to_completion_is_judged_by_what_happened(
    faulty: type[PlainComponent],
    rows: tuple[Row, ...],
    steps: tuple[Step, ...],
    complaint: str | None,
    backend: str,
) -> None:
    """P1: the judgement on run to completion (C4) says what went wrong."""
    script = ComponentScript(rows, steps)
    trace = ComponentSubject(faulty, engine=PlainEngine, backend=backend).attempt(script)

    told = run_to_completion(trace)
    assert (told is None) if complaint is None else (told is not None and complaint in told)


@pytest.mark.measured
def test_a_failure_that_was_raised_is_no_complaint(backend: str) -> None:
    """P1: the judgement on what fails (C6) lets pass what was raised, and changed nothing."""
    script = ComponentScript((Row("t0", action=(Fail(),)),), (ONE,))
    trace = ComponentSubject(PlainComponent, engine=PlainEngine, backend=backend).attempt(script)

    assert [entry.what for entry in trace.all("failed")] == ["failed"]
    assert all_or_nothing(trace) is None


def test_plain_ones_keep_the_contract(backend: str) -> None:
    """P1: no complaint about a plain engine with components that keep the contract."""
    check_component(
        PlainComponent, engine=PlainEngine, backend=backend, examples=EXAMPLES, seed=CORRECT_SEED
    )


def test_lasting_ones_keep_the_contract(backend: str) -> None:
    """P1: no complaint about a plain engine with a store, which runs."""
    check_component(
        LastingComponent,
        engine=LastingEngine,
        backend=backend,
        examples=EXAMPLES // 5,
        seed=CORRECT_SEED,
    )


def test_flexiflow_keeps_its_contract(backend: str) -> None:
    """P1: no complaint about FlexiFlow's own engine and components."""
    check_component(Component, engine=Engine, backend=backend, examples=EXAMPLES, seed=CORRECT_SEED)


def test_each_clause_has_a_fault() -> None:
    """P1: every clause of components is broken by some fault that is found."""
    broken = Counter(fault.clauses[0] for fault in COMPONENT_FAULTS)

    assert sorted(broken) == sorted(clause.identifier for clause in COMPONENT_CONTRACT)
