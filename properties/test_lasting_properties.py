"""Components whose states last and take time: kills, timers and work, and cancellations (K3, M)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import CancelScope, create_task_group, current_time, get_cancelled_exc_class, sleep
from hypothesis import given
from hypothesis import strategies as st

from flexiflow import Component, Engine, Outcome, State, StateMachine, Transition
from flexiflow.testing import cancel_everywhere, replay
from flexiflow.testing._component.parts import Shelf, noted, working
from flexiflow.testing._examiner.examine import Log
from flexiflow.testing._examiner.kit import Boom, cancel_after
from properties.lasting_model import AFTER, ROWS, TIMED, WORK, Message, Model
from properties.profile import IS_LONG

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anyio.abc import TaskGroup


@dataclass(frozen=True)
class Kill:
    """Drop the engine in mid-air, and go on with a new one over the same store."""


@dataclass(frozen=True)
class Pause:
    """Let some time pass."""

    seconds: float


Step = Message | Kill | Pause
Entry = tuple[float, str, Any]

sends = st.builds(
    Message,
    st.sampled_from(["go", "go", "go", "again", "note", "other"]),
    st.sampled_from([0.0, 0.0, 1.0, 4.0]),
    st.sampled_from(["passes"] * 4 + ["action fails", "save fails before", "save fails after"]),
)
steps: st.SearchStrategy[Step] = st.one_of(
    sends, sends, st.builds(Pause, st.sampled_from([1.0, 2.0, 4.0, 7.0])), st.builds(Kill)
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
        lives: list[list[Step]] = [[]]
        for step in program:
            if isinstance(step, Kill):
                lives.append([])
            else:
                lives[-1].append(step)
        for life in lives:
            async with create_task_group() as group:
                engine = Engine(store=self.shelf)
                await engine.bus.subscribe("state.changed", "o", self._changed)
                await engine.register(Component("a", machine=self.machine))
                async with engine.running():
                    await self._live(life, engine, group)
                    # The senders are killed before the engine that they wait for.
                    self.is_killing = True
                    group.cancel_scope.cancel()
            self.is_killing = False

    is_killing = False

    async def _live(self, life: list[Step], engine: Engine, group: TaskGroup) -> None:
        for step in life:
            if isinstance(step, Pause):
                await sleep(step.seconds)
            else:
                group.start_soon(self._send, engine, step)
                await sleep(0.01)

    async def _send(self, engine: Engine, message: Message) -> None:
        try:
            outcome = await engine.send("a", {"type": message.trigger, "message": message})
            self.note("outcome", (message.number, outcome.name))
        except Boom:
            self.note("outcome", (message.number, "failed"))
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
            case Pause(seconds):
                steps.append(Pause(seconds + odd))
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
        kept -= Counter({(time, each, None): pairs for each in ("work begins", "work is cancelled")})
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
