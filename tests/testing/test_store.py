"""`check_store` (P1): what it refuses, what it finds, and how it tells."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from anyio import sleep_forever

from flexiflow import StateConflict
from flexiflow.extras.stores import MemoryStateStore
from flexiflow.testing import ContractViolation, check_store
from flexiflow.testing._examiner.acts import Act, Acts
from flexiflow.testing._store import subject as subject_module
from flexiflow.testing._store.desk import open_desk
from flexiflow.testing._store.subject import StoreSubject
from properties.faults.of_stores import ForgetsTheLimit, TakesNeverForATime
from properties.reference.store import PlainStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

QUICK: Any = {"examples": 10, "seed": 3}


class Entered(PlainStore):
    """A store that works only within `async with`."""

    entered = 0

    async def __aenter__(self) -> None:
        self.entered += 1

    async def __aexit__(self, *_: object) -> None:
        self.entered -= 1

    async def load(self, name: str) -> Any:
        assert self.entered
        return await super().load(name)


@asynccontextmanager
async def cleaned_up(beside: PlainStore | None = None) -> AsyncGenerator[PlainStore]:
    """Make a store, or another one with the same data."""
    yield PlainStore() if beside is None else beside


def plain(beside: MemoryStateStore | None = None) -> MemoryStateStore:
    """Make a store; it is the same for all who share the data."""
    return beside or MemoryStateStore()


class Bare:
    """A store without `versions`."""

    def __init__(self) -> None:
        self._store = PlainStore()
        self.load, self.save = self._store.load, self._store.save
        self.due, self.delete = self._store.due, self._store.delete


@pytest.mark.same_everywhere
@pytest.mark.parametrize("factory", [Entered, cleaned_up, plain, Bare])
def test_stores_of_all_kinds_are_checked(factory: Any, backend: str) -> None:
    """P1: entered or not, cleaned up or not, one or two, with former versions or without."""
    check_store(factory, backend=backend, **QUICK)


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        (3, "factory must be callable"),
        (object, "factory must make a store, which has `load`, or an async context manager"),
        (type("Half", (), {"load": print, "save": print}), "a store has .*lacks due"),
    ],
)
def test_what_makes_no_store_is_refused(factory: Any, said: str) -> None:
    """P1: the message says what would be right."""
    with pytest.raises(TypeError, match=said):
        check_store(factory, backend="asyncio", **QUICK)


def test_what_a_factory_raises_is_no_violation() -> None:
    """P1: it leaves as it is."""
    made: list[PlainStore] = []

    def break_down() -> PlainStore:
        if made:
            raise LookupError("no more stores")
        made.append(PlainStore())
        return made[0]

    with pytest.raises(LookupError, match="no more stores"):
        check_store(break_down, backend="asyncio", **QUICK)


@pytest.mark.unmeasured
@pytest.mark.same_everywhere
def test_a_violation_is_a_program(backend: str) -> None:
    """P1: it runs by itself, and fails in the same way."""
    with pytest.raises(ContractViolation) as found:
        check_store(ForgetsTheLimit, backend=backend, **QUICK)
    violation = found.value
    assert violation.clause == "K2"
    assert "due(" in violation.history
    with pytest.raises(AssertionError, match=r"due\("):
        exec(violation.counterexample, {"__name__": "__main__"})  # noqa: S102 - it is our own


def test_a_program_with_an_infinite_time_runs_by_itself() -> None:
    """P1: an infinite time can't be written as it is shown."""
    script = Acts((Act("save", ("a", "new", None, math.inf)), Act("due", (math.inf, 1))))
    program = StoreSubject(TakesNeverForATime, backend="asyncio").show(script, "K2")
    with pytest.raises(AssertionError, match=r"due\(inf"):
        exec(program, {"__name__": "__main__"})  # noqa: S102 - it is our own


@asynccontextmanager
async def shared(beside: PlainStore | None = None) -> AsyncGenerator[PlainStore]:
    """Make a faulty store, or another one with the same data."""
    yield ForgetsTheLimit() if beside is None else beside


@pytest.mark.unmeasured
@pytest.mark.same_everywhere
def test_a_violation_of_two_stores_says_that_there_are_two() -> None:
    """P1: the program makes both."""
    with pytest.raises(ContractViolation) as found:
        check_store(shared, backend="asyncio", **QUICK)
    assert "open_store(factory, twice=True)" in found.value.counterexample
    assert "flexiflow.testing._" not in found.value.counterexample


def test_a_store_that_hangs_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: a script does not run for ever."""

    class Hangs(PlainStore):
        async def load(self, name: str) -> Any:
            await sleep_forever()

    monkeypatch.setattr(subject_module, "_PATIENCE", 0.01)
    with pytest.raises(ContractViolation, match=r"it had not ended after 0\.01 seconds"):
        check_store(Hangs, backend="asyncio", examples=1, seed=1)


async def test_a_save_that_comes_late_is_no_fault() -> None:
    """P1: what a cancelled call does may be seen only after the next one."""

    class Late(PlainStore):
        late = 1

        async def save(self, name: str, state: str, data: Any, **given: Any) -> int:
            if self.late and state == "after that":
                self.late -= 1
                given["expected"] = await super().save(name, "cancelled", {"n": 0}, **given)
                raise StateConflict(name, 0, given["expected"])
            return await super().save(name, state, data, **given)

        async def load(self, name: str) -> Any:
            found = await super().load(name)
            return found._replace(due=1.5) if found and found.state == "cancelled" else found

    async with open_desk(Late) as desk:
        await desk.cancel("a", 0)
        await desk.load("a")


async def test_a_store_that_refuses_after_a_cancellation_is_at_fault() -> None:
    """P1: it must go on."""

    class Refuses(PlainStore):
        async def save(self, name: str, state: str, data: Any, **given: Any) -> int:
            if state == "after that":
                raise StateConflict(name, 0, 0)
            return await super().save(name, state, data, **given)

    async with open_desk(Refuses) as desk:
        with pytest.raises(AssertionError, match="can't be saved after a save that was cancelled"):
            await desk.cancel("a", 0)
