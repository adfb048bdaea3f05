"""`check_transport` finds each planted fault, and complains of no correct transport (P1)."""

from functools import partial
from random import Random
from typing import Any
from uuid import UUID

import pytest

from flexiflow.extras.durable import MemoryTransport, _tickets
from flexiflow.testing import ContractViolation, check_transport
from flexiflow.testing._examiner.clause import Clause
from flexiflow.testing._examiner.examine import examine
from flexiflow.testing._transport.contract import TRANSPORT_CONTRACT
from flexiflow.testing._transport.subject import TransportSubject
from properties.faults.of_transports import (
    TRANSPORT_FAULTS,
    TransportFault,
    damage,
    empty,
    insert,
)
from properties.profile import (
    CORRECT_SEED,
    IS_LONG,
    by_turns,
    each_broken,
    find_fault,
    in_the_long_run,
)
from properties.seeds import seed_for

SEED = 1
CLAUSES = {clause.identifier: clause for clause in TRANSPORT_CONTRACT}
SETUP: dict[str, Any] = {
    "damage": damage,
    "insert": insert,
    "empty": empty,
    "lease": None,
    "scale": 1.0 if IS_LONG else 0.02,
}


@pytest.fixture(autouse=True)
def _same_tickets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the same tickets in every run: by their order, some faults are found sooner or later."""
    if not IS_LONG:
        random = Random(SEED)
        monkeypatch.setattr(_tickets, "uuid4", lambda: UUID(int=random.getrandbits(128)))


@each_broken(TRANSPORT_FAULTS)
def test_a_fault_is_found_by_its_clause(fault: TransportFault, clause: str, backend: str) -> None:
    """P1: the clause that a fault breaks finds it, by a script of at most 8 calls."""
    find_fault(
        partial(
            examine,
            TransportSubject,
            [CLAUSES[clause]],
            fault.transport,
            backend=backend,
            seed=seed_for(fault.name, SEED),
            **SETUP,
        ),
        most=8,
    )


@in_the_long_run
@pytest.mark.parametrize("fault", TRANSPORT_FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_named_by_a_clause_that_it_breaks(fault: TransportFault, backend: str) -> None:
    """P1: of all clauses, in order, the first that is found broken is one that the fault breaks."""
    with pytest.raises(ContractViolation) as found:
        check_transport(fault.transport, backend=backend, seed=SEED, **SETUP)
    assert found.value.clause in fault.clauses


@pytest.mark.parametrize(
    ("clause", "backend"),
    by_turns(TRANSPORT_CONTRACT),
    ids=lambda each: getattr(each, "identifier", each),
)
def test_the_transport_in_memory_keeps_each_clause(backend: str, clause: Clause) -> None:
    """P1: the transport in memory holds, whatever is tried."""
    how: dict[str, Any] = {"backend": backend, "seed": CORRECT_SEED, **SETUP}
    examples = 10_000 if IS_LONG else 30
    [verdict] = examine(TransportSubject, [clause], MemoryTransport, examples=examples, **how)
    assert verdict.violation is None, str(verdict.violation)


def test_each_clause_is_broken_by_some_fault() -> None:
    """P1: there is no checker that was never seen to fail."""
    assert set(CLAUSES) == {clause for fault in TRANSPORT_FAULTS for clause in fault.clauses}
