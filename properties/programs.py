"""Programs that first a model performs, and then the real thing, compared step by step.

What a program does is the same code for both: coroutines that run on a stage, the model's or the
real one. A coroutine that waits does so at a gate, which has a number. A step opens a gate, cancels
what an earlier step began, or begins something. Then everything runs until all of it waits.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from types import coroutine
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from anyio import CancelScope, Event, create_task_group, get_cancelled_exc_class, sleep
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from flexiflow.testing import replay
from flexiflow.testing._examiner.subject import Log
from flexiflow.testing._scheduling.checks import BACKENDS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterable

    from anyio.abc import TaskGroup

    Condition: TypeAlias = Callable[[], bool]
    Doing: TypeAlias = Coroutine[Any, Any, object]

MOST_OPENED = 20
"""How many gates are opened at the end, before the rest is cancelled."""


@dataclass(frozen=True)
class Open:
    """Open the gate with this number."""

    gate: int


@dataclass(frozen=True)
class Cancel:
    """Cancel what was begun with this number, by its scope or with asyncio's own means."""

    begun: int
    natively: bool


class Cancelled(BaseException):
    """A cancellation in a model."""


@coroutine
def until(condition: Condition) -> Generator[Condition]:
    """Wait until a condition holds, in a model."""
    while not condition():
        yield condition


class Going:
    """A coroutine in a model, with a context of its own, which runs whenever `go_on` is called.

    Attributes:
        cancelling: more than 0 while something is being cancelled.
    """

    cancelling: ClassVar[int] = 0

    def __init__(self, doing: Doing) -> None:
        self._doing = doing
        self._context = copy_context()
        self._may_go_on: Condition = lambda: True
        self.has_begun = self.is_over = False

    def is_ready(self) -> bool:
        return not self.is_over and self._may_go_on()

    def is_waiting(self) -> bool:
        return self.has_begun and not self.is_over

    def go_on(self) -> None:
        self.has_begun = self.is_over = True
        with suppress(StopIteration):
            self._may_go_on = self._context.run(self._doing.send, None)
            self.is_over = False

    def cancel(self) -> None:
        """Throw a cancellation in where it waits, and let it clean up."""
        waits, self.is_over = self.is_waiting(), True
        Going.cancelling += 1
        try:
            with suppress(StopIteration, Cancelled):
                if waits:
                    self._context.run(self._doing.throw, Cancelled())
        finally:
            Going.cancelling -= 1
            self._doing.close()


class ModelStage:
    """Where a model's coroutines run.

    Attributes:
        going: those that have not ended, by number.
        gates: the gates at which they wait, and whether each is open.
    """

    cancellation: type[BaseException] = Cancelled

    def __init__(self) -> None:
        self.going: dict[int, Going] = {}
        self.gates: dict[int, bool] = {}
        self._begun = 0

    def begin(self, doing: Doing) -> None:
        self.going[self._begun] = Going(doing)
        self._begun += 1

    def cancel(self, begun: int, *, natively: bool) -> None:
        self.going.pop(begun).cancel()

    def open(self, gate: int) -> None:
        self.gates[gate] = True

    async def wait(self, gate: int) -> None:
        self.gates[gate] = False
        try:
            await until(lambda: self.gates[gate])
        finally:
            del self.gates[gate]

    def settle(self) -> None:
        while ready := [each for each in self.going.values() if each.is_ready()]:
            ready[0].go_on()
            self.going = {number: each for number, each in self.going.items() if not each.is_over}


class RealStage:
    """Where real tasks run, in virtual time."""

    def __init__(self, group: TaskGroup) -> None:
        self.cancellation = get_cancelled_exc_class()
        self.gates: dict[int, Event] = {}
        self._group = group
        self._scopes: list[CancelScope] = []
        self._tasks: dict[CancelScope, asyncio.Task[Any] | None] = {}

    def begin(self, doing: Doing) -> None:
        self._scopes.append(CancelScope())
        self._group.start_soon(self._run, doing, self._scopes[-1])

    async def _run(self, doing: Doing, scope: CancelScope) -> None:
        is_asyncio = self.cancellation is asyncio.CancelledError
        self._tasks[scope] = task = asyncio.current_task() if is_asyncio else None
        # A native cancel ends here; a cancelled scope ends at its own block.
        with suppress(asyncio.CancelledError), scope:
            await doing
        if task is not None:
            task.uncancel()

    def cancel(self, begun: int, *, natively: bool) -> None:
        scope = self._scopes[begun]
        task = self._tasks[scope] if natively else None
        if task is None:
            scope.cancel()
        else:
            task.cancel()

    def open(self, gate: int) -> None:
        self.gates[gate].set()

    async def wait(self, gate: int) -> None:
        event = self.gates[gate] = Event()
        try:
            await event.wait()
        finally:
            del self.gates[gate]


Stage: TypeAlias = ModelStage | RealStage


class World(logging.Handler, ABC):
    """Performs the steps of a program, and records what happens, the log included."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage
        self.trace: list[Any] = []

    async def start(self) -> None:
        """Do what comes before the program, on the real stage."""

    def end(self) -> None:
        """Check what holds when the program has ended, on the real stage."""

    @abstractmethod
    async def do(self, act: Any) -> None:
        """Do what a step begins."""

    @abstractmethod
    def state(self) -> object:
        """Return the present state, to be compared."""

    def perform(self, step: Any) -> None:
        match step:
            case Open(gate):
                self.stage.open(gate)
            case Cancel(begun, natively):
                self.stage.cancel(begun, natively=natively)
            case _:
                self.stage.begin(self.do(step))

    def is_unordered(self) -> bool:
        """Return whether what happened in a model since the last look may come in any order."""
        return False

    def look(self, *, unordered: bool) -> tuple[Any, set[int], object]:
        """Return what happened since the last look, which gates are waited at, and the state."""
        trace, self.trace = self.trace, []
        if unordered:
            trace.sort(key=repr)
        return trace, {*self.stage.gates}, self.state()


class ProgramMachine(RuleBasedStateMachine):
    """Draws a program with the help of the model, and performs it for real at the end.

    On each backend, since to draw a program takes longer than to perform it.

    Args:
        world: makes a model on a model's stage, and the real thing on a real one.
    """

    def __init__(self, world: Callable[[Stage], World]) -> None:
        super().__init__()
        self._make = world
        self._stage = ModelStage()
        self._model = world(self._stage)
        self._program: list[tuple[Any, bool, Any]] = []
        self._schedule: list[int] = []

    def perform(self, step: object) -> None:
        self._model.perform(step)
        self._stage.settle()
        unordered = self._model.is_unordered()
        self._program.append((step, unordered, self._model.look(unordered=unordered)))

    @initialize(schedule=st.lists(st.integers(0, 3), max_size=20))
    def choose(self, schedule: list[int]) -> None:
        self._schedule = schedule

    @precondition(lambda self: self._stage.gates)
    @rule(place=st.integers(0, 9))
    def open(self, place: int) -> None:
        self.perform(Open(_one_of(self._stage.gates, place)))

    @precondition(lambda self: self._stage.going)
    @rule(place=st.integers(0, 9), natively=st.booleans())
    def cancel(self, place: int, natively: bool) -> None:
        self.perform(Cancel(_one_of(self._stage.going, place), natively))

    def teardown(self) -> None:
        """Bring everything to its end, and then do the same for real, on each backend."""
        for _ in range(MOST_OPENED):
            if self._stage.gates:
                self.perform(Open(min(self._stage.gates)))
        while self._stage.going:
            self.perform(Cancel(min(self._stage.going), natively=False))
        for backend in BACKENDS:
            replay(self._run, backend=backend, decisions=self._schedule)

    async def _run(self) -> None:
        with Log() as log:
            async with create_task_group() as group:
                world = log.enter(self._make(RealStage(group)))
                await world.start()
                for step, unordered, seen in self._program:
                    world.perform(step)
                    # In virtual time this ends when nothing else can happen.
                    await sleep(1)
                    assert world.look(unordered=unordered) == seen, step
            world.end()


def _one_of(numbers: Iterable[int], place: int) -> int:
    known = sorted(numbers)
    return known[place % len(known)]
