"""The engine, compared with its model: any program, with sends that overlap and are nested."""

from __future__ import annotations

from ast import literal_eval
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from flexiflow import (
    Component,
    DuplicateComponent,
    Engine,
    StateMachine,
    Transition,
    UnknownComponent,
    events,
    on,
)
from properties.engine_model import Failed, ModelEngine
from properties.programs import ModelStage, ProgramMachine, World

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping

    from properties.programs import Stage

NAMES = ("a", "b", "c")
STATES = ("x", "y")
OBSERVED = (
    events.COMPONENT_REGISTERED,
    events.MESSAGE_RECEIVED,
    events.STATE_CHANGED,
    events.HANDLER_FAILED,
)


@dataclass(frozen=True)
class Send:
    """Send a message.

    A message from within the handling of another is sent behind a gate. So only different
    components run at the same time, and what happens in each of them is determined.

    Attributes:
        name: the component that it is sent to.
        fate: where it fails, or that its action unregisters the component, or that no transition
            takes it.
        target: the state that it leads to; None for an internal transition.
        waits: whether its action waits at a gate before it ends.
        then: what its action sends, one after another.
        observed: whether an observer of its arrival sends that instead.
    """

    name: str
    fate: Literal["passes", "guard fails", "guard refuses", "action fails", "leaves", "ignored"]
    target: str | None
    waits: bool
    then: tuple[Send, ...]
    observed: bool


@dataclass(frozen=True)
class Register:
    """Register a new component."""

    name: str


@dataclass(frozen=True)
class Unregister:
    """Unregister a component."""

    name: str


class Subscribed(Component):
    """A component with a subscription of its own."""

    @on("tick")
    def hear(self, data: object) -> None:
        """Do nothing: the subscription is all that matters."""


class RealEngine:
    """An engine, with the interface of its model."""

    def __init__(self, makes: frozenset[str], guard: Any, action: Any) -> None:
        rows = [Transition("*", f"to {each}", each, guard, action) for each in (None, *STATES)]
        self.machine = StateMachine(STATES[0], rows)
        self.engine = Engine(component_factory=lambda n: self.make(n) if n in makes else None)
        self.send = self.engine.send
        self.unregister = self.engine.unregister

    def make(self, name: str) -> Component:
        return Subscribed(name, machine=self.machine)

    async def register(self, name: str) -> None:
        await self.engine.register(self.make(name))

    def states(self) -> dict[str, tuple[str | None, int]]:
        # Each component has one subscription, and one that isn't registered has none.
        owners = [each.component_name for each in self.engine.bus.subscriptions()]
        assert sorted(owners) == sorted([*self.engine.components, *["watcher"] * len(OBSERVED)])
        return {
            name: (each.state, len(each._flexiflow_actor.mailbox.deferred or ()))
            for name, each in self.engine.components.items()
        }


class EngineWorld(World):
    """An engine, or a model of one, and what happens in its components.

    Args:
        makes: the names of the components that its factory makes.
        stage: where they run.
    """

    def __init__(self, makes: frozenset[str], stage: Stage) -> None:
        super().__init__(stage)
        self.engine: Any = (
            ModelEngine(STATES[0], makes, self._guard, self._act, self._observe, self._logged)
            if isinstance(stage, ModelStage)
            else RealEngine(makes, self._guard, self._act)
        )
        self._sent = 0

    async def start(self) -> None:
        for event in OBSERVED:
            observer = partial(self._observe, event)
            await self.engine.engine.bus.subscribe(event, "watcher", observer)

    def emit(self, record: logging.LogRecord) -> None:
        assert isinstance(record.args, tuple)
        self._logged(literal_eval(str(record.args[1])))

    def _logged(self, name: str) -> None:
        self.trace.append((name, "logged"))

    def is_unordered(self) -> bool:
        had_namesakes: bool = self.engine.had_namesakes()
        return had_namesakes

    def look(self, *, unordered: bool) -> tuple[Any, set[int], object]:
        # Components run in parallel: only the order within each of them is determined.
        trace, gates, state = super().look(unordered=unordered)
        apart = defaultdict[str, list[Any]](list)
        for name, *what in trace:
            apart[name].append(what)
        return apart, gates, state

    def state(self) -> object:
        return self.engine.states()

    async def do(self, act: Send | Register | Unregister) -> None:
        match act:
            case Send():
                await self._send(act)
            case Register(name):
                await self._try(name, self.engine.register(name))
            case Unregister(name):
                await self._try(name, self.engine.unregister(name))

    async def _send(self, act: Send) -> None:
        self._sent += 1
        trigger = "ignored" if act.fate == "ignored" else f"to {act.target}"
        message = {"type": trigger, "target": act.target, "act": act, "number": self._sent}
        # Noted apart from what happens in the component, where others may have run by then.
        await self._try(f"outcome of {self._sent}", self.engine.send(act.name, message))

    async def _try(self, where: str, doing: Any) -> None:
        try:
            self.trace.append((where, await doing))
        except (Failed, UnknownComponent, DuplicateComponent) as exc:
            self.trace.append((where, type(exc)))
        except self.stage.cancellation:
            self.trace.append((where, "cancelled"))
            raise

    async def _observe(self, event: str, data: Mapping[str, Any]) -> None:
        name = data.get("component") or data["component_name"]
        message = data.get("message", {"number": None})
        states = data.get("from_state"), data.get("to_state")
        self.trace.append((name, event, message["number"], states))
        if event == events.MESSAGE_RECEIVED and message["act"].observed:
            await self._send_then(message)

    def _guard(self, message: Mapping[str, Any], _: object) -> bool:
        act: Send = message["act"]
        if act.fate == "guard fails":
            raise Failed
        return act.fate != "guard refuses"

    async def _act(self, message: Mapping[str, Any], _: object) -> None:
        act: Send = message["act"]
        if not act.observed:
            await self._send_then(message)
        if act.waits:
            await self.stage.wait(message["number"])
        if act.fate == "leaves":
            await self._try(act.name, self.engine.unregister(act.name))
        if act.fate == "action fails":
            raise Failed

    async def _send_then(self, message: Mapping[str, Any]) -> None:
        for each in message["act"].then:
            await self.stage.wait(message["number"])
            await self._send(each)


FATES = ("guard fails", "guard refuses", "action fails", "leaves", "ignored")


def sends(*then: st.SearchStrategy[Send]) -> st.SearchStrategy[Send]:
    """Draw messages that send other messages."""
    return st.builds(
        Send,
        name=st.sampled_from(NAMES),
        fate=st.sampled_from(["passes"] * 4 + [*FATES]),
        target=st.sampled_from([None, *STATES]),
        waits=st.booleans(),
        then=st.lists(st.one_of(then), max_size=2 * len(then)).map(tuple),
        observed=st.booleans(),
    )


class EngineMachine(ProgramMachine):
    """Programs of an engine whose factory makes the component "c"."""

    @initialize()
    def begin(self) -> None:
        self.perform(Register("a"))
        self.perform(Register("b"))

    @rule(act=sends(sends(sends(sends()))))
    def send(self, act: Send) -> None:
        self.perform(act)

    @rule(name=st.sampled_from(NAMES), kind=st.sampled_from([Register, Unregister]))
    def register_or_unregister(self, name: str, kind: type[Register | Unregister]) -> None:
        self.perform(kind(name))


def test_any_program_goes_as_in_the_model() -> None:
    """C1 to C6: all is as in the model, step by step, and nobody waits for ever."""
    world = partial(EngineWorld, frozenset("c"))
    run_state_machine_as_test(partial(EngineMachine, world))  # type: ignore[arg-type]


def test_a_former_component_goes_on_beside_a_new_one_of_its_name() -> None:
    """C1, C3: the message in hand of an unregistered component is in no order with the new one's.

    When its observers are told of the transition, the new component may have begun a message of
    another sender: the engine may yield in between (D6).
    """
    machine = EngineMachine(partial(EngineWorld, frozenset("c")))
    machine.begin()
    machine.choose([])
    to_b, last = _passing("b"), _passing("a", waits=True)
    machine.send(_passing("c", _passing("b", _passing("c", last, to_b)), target="x"))
    machine.open(0)
    machine.register_or_unregister("c", Unregister)
    for _ in range(3):
        machine.open(0)
    for name in ("a", "a", "c"):
        machine.send(_passing(name))
    machine.open(0)
    machine.teardown()


def _passing(name: str, *then: Send, target: str | None = None, waits: bool = False) -> Send:
    return Send(name, "passes", target, waits, then, observed=False)
