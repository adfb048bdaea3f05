"""`check_store` finds each planted fault, and complains of no correct store (P1)."""

import math
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import pytest

from flexiflow.extras.stores import MemoryStateStore, SqliteStateStore
from flexiflow.testing import ContractViolation, check_store
from flexiflow.testing._examiner.clause import Clause
from flexiflow.testing._examiner.examine import examine
from flexiflow.testing._store.contract import STORE_CONTRACT
from flexiflow.testing._store.desk import open_desk
from flexiflow.testing._store.subject import StoreSubject
from properties.faults.of_stores import STORE_FAULTS, StoreFault
from properties.profile import CORRECT_SEED, IS_LONG, each_broken, find_fault, in_the_long_run
from properties.reference.store import PlainStore

SEED = 1
CLAUSES = {clause.title: clause for clause in STORE_CONTRACT}


@each_broken(STORE_FAULTS)
def test_a_fault_is_found_by_its_part(fault: StoreFault, clause: str, backend: str) -> None:
    """K2: the part that a fault breaks finds it, by a script of at most 4 calls."""
    find_fault(
        partial(examine, StoreSubject, [CLAUSES[clause]], fault.store, backend=backend, seed=SEED),
        most=4,
    )


@in_the_long_run
@pytest.mark.parametrize("fault", STORE_FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_found_by_the_whole(fault: StoreFault, backend: str) -> None:
    """K2: a faulty store does not pass."""
    with pytest.raises(ContractViolation):
        check_store(fault.store, backend=backend, seed=SEED)


@pytest.mark.parametrize("clause", STORE_CONTRACT, ids=lambda clause: clause.title)
@pytest.mark.parametrize(
    "store", [PlainStore, MemoryStateStore, partial(MemoryStateStore, history=2)]
)
def test_a_store_in_memory_keeps_each_part(backend: str, store: Any, clause: Clause) -> None:
    """K2: a store in memory holds, whatever is tried."""
    how: dict[str, Any] = {"backend": backend, "seed": CORRECT_SEED}
    examples = 3_000 if IS_LONG else 15
    [verdict] = examine(StoreSubject, [clause], store, examples=examples, **how)
    assert verdict.violation is None, str(verdict.violation)


@pytest.mark.parametrize("store", [PlainStore, MemoryStateStore])
def test_a_component_that_is_never_due_is_not_returned(backend: str, store: Any) -> None:
    """K2: a component whose due time is infinite or None is not due, whatever `until` is."""

    async def main() -> None:
        async with open_desk(store) as desk:
            await desk.save("spent", "new", due=math.inf)
            await desk.save("without a time", "new")
            await desk.save("a", "new", due=2.0)
            await desk.due(math.inf, 3)

    anyio.run(main, backend=backend)


def test_two_stores_on_one_file_keep_each_part(backend: str) -> None:
    """K2: as two processes would use it."""
    numbers = count()
    with TemporaryDirectory() as folder:

        def make(beside: SqliteStateStore | None = None) -> SqliteStateStore:
            path = Path(folder, f"{next(numbers)}.db") if beside is None else beside.path
            return SqliteStateStore(path, history=2)

        how: dict[str, Any] = {"backend": backend, "seed": CORRECT_SEED}
        check_store(make, examples=1_000 if IS_LONG else 4, **how)


def test_each_part_is_broken_by_some_fault() -> None:
    """P1: there is no checker that was never seen to fail."""
    assert set(CLAUSES) == {clause for fault in STORE_FAULTS for clause in fault.clauses}
