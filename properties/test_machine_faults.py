"""`check_machine` finds each planted fault, and complains of no correct machine (P6)."""

from collections.abc import Iterator
from typing import Any

import pytest

from flexiflow import Engine
from flexiflow.testing import ContractViolation, check_machine
from flexiflow.testing._machine.draft import Draft
from flexiflow.testing._machine.script import Script
from properties.faults.of_machines import MACHINE_FAULTS
from properties.profile import CORRECT_SEED, IS_LONG, by_turns
from properties.reference.shop import CLAIMS, MESSAGES, Shop, engine_of

SEEDS = (1, 2, 3) if IS_LONG else (1,)


def check(shop: type[Shop], backend: str, seed: int | None, **options: Any) -> Any:
    """Check a shop with all claims."""

    def make() -> Engine:
        return engine_of(shop())

    return check_machine(make, backend=backend, messages=MESSAGES, seed=seed, **CLAIMS, **options)


def leave_all(_: Draft) -> Iterator[Script]:
    """Shrink nothing, which takes most of the time."""
    return iter(())


@pytest.mark.parametrize(
    ("fault", "backend"),
    [
        pytest.param(fault, backend, id=f"{fault[0].__name__}-{backend}")
        for fault, backend in by_turns(MACHINE_FAULTS)
    ],
)
def test_a_fault_is_found(
    fault: tuple[type[Shop], str], backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P6: with each of three seeds in the long run, as a violation of the claim that it breaks."""
    if not IS_LONG:
        monkeypatch.setattr(Draft, "smaller", leave_all)
    shop, claim = fault
    for seed in SEEDS:
        with pytest.raises(ContractViolation) as found:
            check(shop, backend, seed)
        assert found.value.clause == claim


def test_a_correct_machine_passes(backend: str) -> None:
    """P6: each claim holds, and none is inconclusive or was never put to the test."""
    report = check(Shop, backend, CORRECT_SEED, examples=5_000 if IS_LONG else 100)
    assert [each.inconclusive for each in report.leads_to] == [0, 0, 0]
    assert all(each.held for each in report.leads_to)
    assert {each.target for each in report.not_taken} == {"lost"}
