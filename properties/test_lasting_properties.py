"""Components whose states last and take time: kills, timers and work, and cancellations (K3, M)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import pytest
from anyio import CancelScope, create_task_group, current_time, get_cancelled_exc_class, sleep
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from flexiflow import Component, Engine, EngineNotRunning, Outcome, State, StateMachine, Transition
from flexiflow.testing import cancel_everywhere, replay
from flexiflow.testing._component.parts import Shelf, noted, working
from flexiflow.testing._examiner.kit import Boom, cancel_after
from flexiflow.testing._examiner.subject import Log
from flexiflow.testing._examiner.trace import NOBODY
from properties.lasting_model import AFTER, ROWS, TIMED, WORK, Message, Model
from properties.profile import IS_LONG

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from anyio.abc import TaskGroup


@dataclass(frozen=True)
class Kill:
    """Drop the engine in mid-air, and go on with a new one over the same store."""


@dataclass(frozen=True)
class Pause:
    """Let some time pass."""

    seconds: float


@dataclass(frozen=True)
class Halt:
    """Leave `running()` for some time."""

    seconds: float


Step = Message | Kill | Pause | Halt
Entry = tuple[float, str, Any]

sends = st.builds(
    Message,
    st.sampled_from(["go", "go", "go", "again", "note", "other"]),
    st.sampled_from([0.0, 0.0, 1.0, 4.0]),
    st.sampled_from(["passes"] * 4 + ["action fails", "save fails before", "save fails after"]),
)
steps: st.SearchStrategy[Step] = st.one_of(
    sends,
    sends,
    sends,
    st.builds(Pause, st.sampled_from([1.0, 2.0, 4.0, 7.0])),
    st.builds(Kill),
    st.builds(Halt, st.sampled_from([1.0, 4.0])),
)


class Reality:
    """What the model is a model of."""

    def __init__(self) -> None:
        self.shelf = Shelf()
        self.trace: list[tuple[float, str, Any]] = []
        self.begin = current_time()
        rows = [
            Transition(source, trigger, target, action=self._act)
            for (source, trigger), target in ROWS.items()
        ]
        timed = State(TIMED, after=(AFTER, "late"), during=self._work, done="done")
        self.machine = StateMachine("s0", rows, states=[timed])

    def note(self, what: str, value: Any = None) -> None:
        self.trace.append((round(current_time() - self.begin, 6), what, value))

    async def run(self, program: list[Step]) -> None:
        """Perform a program, and at its end wait until nothing more can happen."""
        steps = iter(program)
        while self.is_going_on:
            async with create_task_group() as group:
                engine = Engine(store=self.shelf)
                await engine.bus.subscribe("state.changed", "o", self._changed)
                await engine.register(Component("a", machine=self.machine))
                await self._live(steps, engine, group)

    is_going_on = True

    async def _live(self, steps: Iterator[Step], engine: Engine, group: TaskGroup) -> None:
        """Perform steps until the engine is killed."""
        step: Step = Pause(0.0)
        while not isinstance(step, Kill):
            async with engine.running():
                for step in steps:
                    if isinstance(step, Kill):
                        group.cancel_scope.cancel()
                    if isinstance(step, Kill | Halt):
                        break
                    await self._do(step, engine, group)
                else:
                    self.is_going_on = False
                    group.cancel_scope.cancel()
                    return
            if isinstance(step, Halt):
                await sleep(step.seconds / 2)
                group.start_soon(self._send, engine, Message("go", number=NOBODY))
                await sleep(step.seconds / 2)

    async def _do(self, step: Message | Pause | Halt, engine: Engine, group: TaskGroup) -> None:
        if isinstance(step, Message):
            group.start_soon(self._send, engine, step)
            await sleep(0.01)
        else:
            await sleep(step.seconds)

    async def _send(self, engine: Engine, message: Message) -> None:
        try:
            outcome = await engine.send("a", {"type": message.trigger, "message": message})
            self.note("outcome", (message.number, outcome.name))
        except Boom:
            self.note("outcome", (message.number, "failed"))
        except EngineNotRunning:
            self.note("outcome", (message.number, "EngineNotRunning"))
        except get_cancelled_exc_class():
            self.note("outcome", (message.number, "cancelled"))
            raise

    async def _act(self, given: Mapping[str, Any], _: object) -> None:
        message: Message = given.get("message", Message(given["type"]))
        if message.takes:
            await sleep(message.takes)
        if message.fate == "action fails":
            raise Boom
        if message.fate.startswith("save"):
            self.shelf.fails = message.fate.rpartition(" ")[2]

    async def _work(self, _: object) -> None:
        self.note("work begins")
        try:
            await sleep(WORK)
        except get_cancelled_exc_class():
            self.note("work is cancelled")
            raise
        self.note("work ends")

    def _changed(self, data: Mapping[str, Any]) -> None:
        self.note("changed", (data["from_state"], data["to_state"]))


def numbered(program: list[Step]) -> list[Step]:
    """Number the messages, and make all times differ, so that nothing happens at the same time."""
    steps: list[Step] = []
    for number, step in enumerate(program):
        odd = 0.0137 * (number + 1) ** 1.5
        match step:
            case Message(takes=takes):
                steps.append(replace(step, number=number, takes=takes + odd if takes else 0.0))
            case Pause(seconds) | Halt(seconds):
                steps.append(replace(step, seconds=seconds + odd))
            case _:
                steps.append(step)
    return [*steps, Pause(60.0)]


def in_model(program: list[Step]) -> Model:
    """Perform a program in the model."""
    model = Model()
    for step in program:
        match step:
            case Message():
                model.send(step)
                model.pass_time(model.now + 0.01)
            case Pause(seconds):
                model.pass_time(model.now + seconds)
            case Halt(seconds):
                model.halt()
                model.pass_time(model.now + seconds / 2)
                model.send(Message("go", number=NOBODY))
                model.pass_time(model.now + seconds / 2)
                model.resume()
            case _:
                model.kill()
    model.kill()
    return model


def told(trace: list[Entry]) -> list[Entry]:
    """Return what happened, by time, without work that was cancelled as it began."""
    begun = {time for time, what, _ in trace if what == "work begins"}
    vain = {time for time, what, _ in trace if what == "work is cancelled"} & begun
    kept = Counter(trace)
    for time in vain:
        pairs = min(kept[time, each, None] for each in ("work begins", "work is cancelled"))
        kept -= Counter(
            {(time, each, None): pairs for each in ("work begins", "work is cancelled")}
        )
    return sorted(kept.elements(), key=repr)


@given(
    program=st.lists(steps, min_size=2, max_size=12),
    schedule=st.lists(st.integers(0, 3), max_size=20),
)
def test_what_lasts_and_takes_time_goes_as_in_the_model(
    backend: str, program: list[Step], schedule: list[int]
) -> None:
    """K3, K4, M1 to M4: whatever is sent, fails, waits, ends or is killed, all is as in the model.

    At the same time, things may happen in any order.
    """
    given = numbered(program)

    async def scenario() -> None:
        reality = Reality()
        with Log():
            await reality.run([*given, Kill()])
        model = in_model(given)
        assert told(reality.trace) == told(model.trace)
        stored = reality.shelf.stored.get("a")
        assert ("s0" if stored is None else stored.state) == model.stored[0]

    replay(scenario, backend=backend, decisions=schedule)


class AllParts:
    """A transition with a guard, work, exit, action, entry, a save, observers, and a timer."""

    STEPS = ("guard in s0", "exit in s0", "action in s0", "entry in s0", "changed in s1")

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.shelf = Shelf()
        self.has_returned = False

    def component(self) -> Component:
        rows = [
            Transition("s0", "go", "s1", guard=self._step("guard"), action=self._step("action")),
            Transition("s1", "late", "s2"),
            Transition("s1", "go", "s2"),
            Transition("s2", "go", "s0"),
        ]
        old, new = (working(self.heard, f"{each} work", cleans_up=0.1) for each in ("old", "new"))
        states = [
            State("s0", exit=self._step("exit"), during=old),
            State("s1", entry=self._step("entry"), during=new, after=(5.0, "late")),
        ]
        return Component("a", machine=StateMachine("s0", rows, states=states))

    def _step(self, what: str) -> Any:
        note = noted(self.heard, what, answer=True)

        async def step(message: object, component: object) -> object:
            await checkpoint()
            return note(message, component)

        return step

    async def engine(self, component: Component) -> Engine:
        engine = Engine(store=self.shelf)

        async def observe(_: object) -> None:
            self.heard.append(f"changed in {component.state}")
            await checkpoint()

        await engine.bus.subscribe("state.changed", "o", observe)
        await engine.register(component)
        return engine

    def stored(self) -> str:
        return self.shelf.state("a") or "s0"

    def check(self) -> None:
        """Check what was done, in which order, and that it was stored before it was told."""
        steps = [each for each in self.heard if "work" not in each]
        assert steps == [*self.STEPS[: len(steps)]]
        assert not self.has_returned or len(steps) == len(self.STEPS)
        assert self.stored() == "s1" or self.STEPS[-1] not in steps
        assert self.stored() == "s0" or self.STEPS[-2] in steps
        for work in ("old work", "new work"):
            running = self.heard.count(f"{work} begins") - self.heard.count(f"{work} ends")
            assert running == (work == self.works)

    works: str | None = None


@pytest.mark.parametrize(
    ("backend", "style"), [("asyncio", "scope"), ("asyncio", "native"), ("trio", "scope")]
)
def test_an_engine_may_be_dropped_anywhere_in_a_transition(
    backend: str, style: Literal["scope", "native"]
) -> None:
    """K3, M1, M4: Nothing is left of it, and the next engine goes on with what is stored."""
    parts = AllParts()

    async def scenario() -> None:
        parts.__init__()  # type: ignore[misc]
        engine = await parts.engine(parts.component())
        async with engine.running():
            await checkpoint()
            assert await engine.send("a", {"type": "go"}) is Outcome.TRANSITIONED
            parts.has_returned = True
            await checkpoint()

    async def check() -> None:
        parts.check()
        stored = parts.stored()
        component = parts.component()
        engine = await parts.engine(component)
        assert component.state == stored
        parts.heard.clear()
        async with engine.running():
            await sleep(6)
        state, work = ("s2", "new") if stored == "s1" else ("s0", "old")
        assert (component.state, parts.stored()) == (state, state)
        assert [each for each in parts.heard if "work" in each] == [
            f"{work} work begins",
            f"{work} work ends",
        ]

    assert cancel_everywhere(scenario, backend=backend, style=style, check=check) > 10


@pytest.mark.parametrize("turns", range(0, 60, 1 if IS_LONG else 2))
def test_a_send_may_be_cancelled_anywhere_in_a_transition(backend: str, turns: int) -> None:
    """K3, M1, M3: The component goes on with what is stored, and its work runs, once."""

    async def scenario() -> None:
        parts = AllParts()
        component = parts.component()
        engine = await parts.engine(component)
        with Log():
            async with engine.running():
                await sleep(0.5)
                async with create_task_group() as group:
                    with CancelScope() as scope:
                        group.start_soon(cancel_after, scope, turns)
                        await engine.send("a", {"type": "go"})
                        parts.has_returned = True
                    group.cancel_scope.cancel()
                await sleep(1.5)
                parts.works = "new work" if parts.stored() == "s1" else "old work"
                parts.check()
                assert component.state == parts.stored()
                await sleep(5)
                assert component.state == ("s2" if parts.shelf.saves else "s0")

    replay(scenario, backend=backend, decisions=())
