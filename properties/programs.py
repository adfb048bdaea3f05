"""Programs that a model does first, and then what it is a model of, compared step by step.

What is done in a program is the same code for both: coroutines, on a `Stage` of a model or a real
one. A coroutine that waits does so at a gate, which has a number; a step opens a gate, or begins
something, or cancels what a step before has begun. Then all goes on until everything waits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextvars import copy_context
from dataclasses import dataclass
from types import coroutine
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, final

from anyio import CancelScope, Event, create_task_group, get_cancelled_exc_class, sleep
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from flexiflow.testing import replay
from properties.watching import logged

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterable
    from logging import LogRecord

    from anyio.abc import TaskGroup

    Condition: TypeAlias = Callable[[], bool]
    Doing: TypeAlias = Coroutine[Any, Any, object]

MOST_OPENED = 20
"""How many gates are opened in the end, before what is left is cancelled."""


@dataclass(frozen=True)
class Open:
    """Open the gate of this number."""

    gate: int


@dataclass(frozen=True)
class Cancel:
    """Cancel what was begun by the step of this number."""

    begun: int


class Cancelled(BaseException):
    """A cancellation in a model."""


@coroutine
def until(condition: Condition) -> Generator[Condition]:
    """Wait, in a model."""
    yield condition


@final
class Going:
    """Something that goes on in a model, in a context of its own, whenever `go_on` is called.

    Attributes:
        cancelling: whether something is being cancelled right now, more than 0.
    """

    cancelling: ClassVar[int] = 0

    def __init__(self, doing: Doing) -> None:
        self._doing = doing
        self._context = copy_context()
        self._may_go_on: Condition = lambda: True
        self.has_begun = self.is_over = False

    def is_ready(self) -> bool:
        """Say whether it may go on."""
        return not self.is_over and self._may_go_on()

    def go_on(self) -> None:
        """Go on until it waits."""
        self.has_begun = self.is_over = True
        try:
            self._may_go_on = self._context.run(self._doing.send, None)
        except StopIteration:
            return
        self.is_over = False

    def cancel(self) -> None:
        """Let it clean up, if it has begun."""
        begun, self.is_over = self.has_begun and not self.is_over, True
        Going.cancelling += 1
        try:
            if begun:
                self._context.run(self._doing.throw, Cancelled())
        except (StopIteration, Cancelled):
            pass
        finally:
            Going.cancelling -= 1
            self._doing.close()


class Stage(Protocol):
    """Where coroutines of a program go on."""

    cancellation: type[BaseException]

    def begin(self, doing: Doing) -> None:
        """Begin something."""

    def cancel(self, begun: int) -> None:
        """Cancel what was begun; its number is how much was begun before."""

    def open(self, gate: int) -> None:
        """Open a gate that somebody waits at."""

    async def wait(self, gate: int) -> None:
        """Wait until a gate is opened."""

    def waiting(self) -> set[int]:
        """Tell the gates that somebody waits at."""
        ...


@final
class ModelStage:
    """The stage of a model.

    Attributes:
        going: what goes on, by its number.
    """

    cancellation = Cancelled

    def __init__(self) -> None:
        self.going: dict[int, Going] = {}
        self._begun = 0
        self._gates: dict[int, bool] = {}

    def begin(self, doing: Doing) -> None:
        self.going[self._begun] = Going(doing)
        self._begun += 1

    def cancel(self, begun: int) -> None:
        self.going.pop(begun).cancel()

    def open(self, gate: int) -> None:
        self._gates[gate] = True

    async def wait(self, gate: int) -> None:
        self._gates[gate] = False
        try:
            await until(lambda: self._gates[gate])
        finally:
            del self._gates[gate]

    def waiting(self) -> set[int]:
        return {*self._gates}

    def settle(self) -> None:
        """Go on until everything waits."""
        while ready := [each for each in self.going.values() if each.is_ready()]:
            ready[0].go_on()
            self.going = {number: each for number, each in self.going.items() if not each.is_over}


@final
class RealStage:
    """The stage of tasks in a group, in virtual time."""

    def __init__(self, group: TaskGroup) -> None:
        self.cancellation = get_cancelled_exc_class()
        self._group = group
        self._scopes: list[CancelScope] = []
        self._gates: dict[int, Event] = {}

    def begin(self, doing: Doing) -> None:
        self._scopes.append(CancelScope())
        self._group.start_soon(self._run, doing, self._scopes[-1])

    async def _run(self, doing: Doing, scope: CancelScope) -> None:
        with scope:
            await doing

    def cancel(self, begun: int) -> None:
        self._scopes[begun].cancel()

    def open(self, gate: int) -> None:
        self._gates[gate].set()

    async def wait(self, gate: int) -> None:
        event = self._gates[gate] = Event()
        try:
            await event.wait()
        finally:
            del self._gates[gate]

    def waiting(self) -> set[int]:
        return {*self._gates}


class World(ABC):
    """What is done in a program, and what is seen of it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.trace: list[Any] = []

    async def start(self) -> None:
        """Do what comes before the program, in reality."""

    def log(self, failure: Any, record: LogRecord) -> None:
        """Note what is logged."""

    def in_any_order(self) -> bool:
        """Say whether what happened since the last look might come in another order too."""
        return False

    @abstractmethod
    async def do(self, act: Any) -> None:
        """Do what is neither `Open` nor `Cancel`."""

    @abstractmethod
    def state(self) -> object:
        """Tell how things are."""

    def perform(self, step: Any) -> None:
        """Begin a step."""
        match step:
            case Open(gate):
                self.stage.open(gate)
            case Cancel(begun):
                self.stage.cancel(begun)
            case _:
                self.stage.begin(self.do(step))

    def look(self, *, in_any_order: bool) -> tuple[list[Any], set[int], object]:
        """Tell what happened since the last look, who waits, and how things are."""
        trace, self.trace = self.trace, []
        if in_any_order:
            trace.sort(key=repr)
        return trace, self.stage.waiting(), self.state()


class ProgramMachine(RuleBasedStateMachine):
    """Draws a program, with the model at hand; in the end it is run in reality.

    Args:
        world: makes a model on a model's stage, and what it is a model of on a real one.
        backend: on which.
    """

    def __init__(self, world: Callable[[Stage], World], backend: str) -> None:
        super().__init__()
        self._make = world
        self._backend = backend
        self._stage = ModelStage()
        self._world = world(self._stage)
        self._program: list[tuple[Any, bool, Any]] = []
        self._schedule: list[int] = []

    def perform(self, step: object) -> None:
        """Do one more step in the model."""
        self._world.perform(step)
        self._stage.settle()
        in_any_order = self._world.in_any_order()
        seen = self._world.look(in_any_order=in_any_order)
        self._program.append((step, in_any_order, seen))

    @initialize(schedule=st.lists(st.integers(0, 3), max_size=20))
    def choose(self, schedule: list[int]) -> None:
        """Choose in which order tasks get their turns."""
        self._schedule = schedule

    @precondition(lambda self: self._stage.waiting())
    @rule(place=st.integers(0, 9))
    def open(self, place: int) -> None:
        """Let one who waits go on."""
        self.perform(Open(_one_of(self._stage.waiting(), place)))

    @precondition(lambda self: self._stage.going)
    @rule(place=st.integers(0, 9))
    def cancel(self, place: int) -> None:
        """Cancel one of those things that go on at the same time."""
        self.perform(Cancel(_one_of(self._stage.going, place)))

    def teardown(self) -> None:
        """Bring everything to its end, and do the same in reality."""
        for _ in range(MOST_OPENED):
            if self._stage.waiting():
                self.perform(Open(min(self._stage.waiting())))
        while self._stage.going:
            self.perform(Cancel(min(self._stage.going)))
        replay(self._run, backend=self._backend, decisions=self._schedule)

    async def _run(self) -> None:
        async with create_task_group() as group:
            world = self._make(RealStage(group))
            await world.start()
            with logged(world.log):
                for step, in_any_order, seen in self._program:
                    world.perform(step)
                    # In virtual time it ends when nothing else can happen.
                    await sleep(1)
                    assert world.look(in_any_order=in_any_order) == seen, step


def _one_of(numbers: Iterable[int], place: int) -> int:
    known = sorted(numbers)
    return known[place % len(known)]
