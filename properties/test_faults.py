"""The proof of the proof: `check_bus` finds each planted fault, and names a clause it breaks."""

from functools import cache, partial

import pytest

from flexiflow import EventBus
from flexiflow.testing import ContractViolation, check_bus
from flexiflow.testing._bus.contract import CONTRACT
from flexiflow.testing._bus.subject import BusSubject
from flexiflow.testing._examiner.clause import Clause
from flexiflow.testing._examiner.examine import examine
from properties.faults import FAULTS, Fault
from properties.profile import (
    CORRECT_SEED,
    IS_LONG,
    by_turns,
    each_broken,
    find_fault,
    in_the_long_run,
)
from properties.reference.bus import Plain
from properties.seeds import seed_for
from properties.variants import VARIANTS

CLAUSES = {clause.identifier: clause for clause in CONTRACT}
SEED = 13


@cache
def our_own(backend: str) -> BusSubject:
    """Give our own bus, the same for all clauses: so it is crossed once."""
    return BusSubject(EventBus, backend)


@pytest.mark.parametrize(
    ("clause", "backend"), by_turns(CONTRACT), ids=lambda each: getattr(each, "identifier", each)
)
def test_the_bus_keeps_each_clause(backend: str, clause: Clause) -> None:
    """P1: our own bus holds, whatever is tried."""
    examples = 10_000 if IS_LONG else 30
    subject = partial(our_own, backend)
    [verdict] = examine(subject, [clause], examples=examples, seed=CORRECT_SEED)
    assert verdict.violation is None, str(verdict.violation)


@pytest.mark.parametrize(("bus", "backend"), by_turns(VARIANTS))
def test_another_bus_keeps_the_contract(backend: str, bus: type[Plain]) -> None:
    """P1: what is checked is the contract, not how our own bus keeps it."""
    check_bus(bus, backend=backend, examples=1_000 if IS_LONG else 3, seed=CORRECT_SEED)


@each_broken(FAULTS)
def test_a_fault_is_found_by_its_clause(fault: Fault, clause: str, backend: str) -> None:
    """P1: the clause that a fault breaks finds it, by a program of at most 5 operations."""
    find_fault(
        partial(
            examine,
            BusSubject,
            [CLAUSES[clause]],
            fault.bus,
            backend=backend,
            seed=seed_for(fault.name, SEED),
        ),
        most=5,
        # The more examples, the more crossings, of which each one is looked at.
        fewer=(20, 80),
    )


def test_every_clause_is_broken_by_some_fault() -> None:
    """P1: there is no checker that was never seen to fail."""
    assert set(CLAUSES) == {clause for fault in FAULTS for clause in fault.clauses}


@in_the_long_run
@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_fault_is_named_by_the_right_clause(backend: str, fault: Fault) -> None:
    """P1: the first clause that `check_bus` names is one that the fault breaks."""
    with pytest.raises(ContractViolation) as found:
        check_bus(fault.bus, backend=backend, seed=SEED)
    assert found.value.clause in fault.clauses
