"""The engine, held against its model: any program, step by step, with sends that overlap."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from anyio import CancelScope, Event, create_task_group, get_cancelled_exc_class, sleep
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

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
from flexiflow._bus import subscriptions
from flexiflow.testing import replay
from properties.engine_model import (
    INITIAL,
    Cancel,
    Failed,
    Message,
    Model,
    Open,
    Register,
    Step,
    Unregister,
)
from properties.watching import logged

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from anyio.abc import TaskGroup

NAMES = ("a", "b", "c")
MOST_OPENED = 20
"""How many gates are opened in the end, before what is left is cancelled."""


class Subscribed(Component):
    """A component with a subscription of its own."""

    @on("tick")
    def hear(self, data: object) -> None:
        """Hear it."""


@dataclass
class Hosted:
    """The same as the model with the real engine."""

    group: TaskGroup
    makes: frozenset[str]
    trace: defaultdict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    outcomes: dict[int, str] = field(default_factory=dict[int, str])
    gates: dict[int, Event] = field(default_factory=dict[int, Event])
    scopes: list[CancelScope] = field(default_factory=list[CancelScope])
    sent: int = 0

    async def start(self) -> None:
        """Make the engine, and watch it."""
        rows = [
            Transition("*", f"to {target}", target, self._guard, self._act)
            for target in (None, "x", "y")
        ]
        self.machine = StateMachine(INITIAL, rows)
        self.engine = Engine(component_factory=self._make)
        for event, note in {
            events.COMPONENT_REGISTERED: self._registered,
            events.MESSAGE_RECEIVED: self._received,
            events.STATE_CHANGED: self._changed,
            events.HANDLER_FAILED: self._reported,
        }.items():
            await self.engine.bus.subscribe(event, "watcher", note)

    async def perform(self, step: Step) -> None:
        """Do a step, and wait until nothing moves."""
        match step:
            case Register(name):
                try:
                    await self.engine.register(Subscribed(name, machine=self.machine))
                except DuplicateComponent:
                    self.trace[name].append("duplicate")
            case Unregister(name):
                try:
                    await self.engine.unregister(name)
                except UnknownComponent:
                    self.trace[name].append("unknown")
            case Open(number):
                self.gates[number].set()
            case Cancel(task):
                self.scopes[task].cancel()
            case Message():
                self.scopes.append(CancelScope())
                self.group.start_soon(self._begin, step, self.scopes[-1])
        # In virtual time it ends when nothing else can happen.
        await sleep(1)

    def look(self) -> tuple[Any, ...]:
        """Tell what has happened, what came of what, who is there in which state, and who waits."""
        trace, self.trace = dict(self.trace), defaultdict(list)
        owners = [each.component_name for each in subscriptions(self.engine.bus)]
        assert sorted(owners) == sorted([*self.engine.components, *["watcher"] * 4])
        states = {
            name: (each.state, len(each._flexiflow_actor.mailbox.deferred or ()))
            for name, each in self.engine.components.items()
        }
        return trace, dict(self.outcomes), states, {*self.gates}

    async def _begin(self, message: Message, scope: CancelScope) -> None:
        with scope:
            await self._send(message)

    async def _send(self, message: Message) -> None:
        self.sent += 1
        number = self.sent
        trigger = "ignored" if message.fate == "ignored" else f"to {message.target}"
        content = {"type": trigger, "message": message, "number": number}
        try:
            outcome = (await self.engine.send(message.name, content)).value
        except Failed:
            outcome = "failed"
        except UnknownComponent:
            outcome = "unknown"
        except get_cancelled_exc_class():
            self.outcomes[number] = "cancelled"
            raise
        self.outcomes[number] = outcome

    def _make(self, name: str) -> Component | None:
        return Subscribed(name, machine=self.machine) if name in self.makes else None

    def _registered(self, data: Mapping[str, Any]) -> None:
        self.trace[data["component"]].append("registered")

    async def _received(self, data: Mapping[str, Any]) -> None:
        content = data["message"]
        self.trace[data["component"]].append(("received", content["number"]))
        if content["message"].observed:
            await self._send_then(content)

    def _changed(self, data: Mapping[str, Any]) -> None:
        self.trace[data["component"]].append((data["from_state"], data["to_state"]))

    def _reported(self, data: Mapping[str, Any]) -> None:
        self.trace[data["component_name"]].append("reported")

    def _guard(self, content: Mapping[str, Any], _: object) -> bool:
        if content["message"].fate == "guard fails":
            raise Failed
        return True

    async def _act(self, content: Mapping[str, Any], _: object) -> None:
        message: Message = content["message"]
        if not message.observed:
            await self._send_then(content)
        if message.waits:
            await self._pass_gate(content["number"])
        if message.fate == "action fails":
            raise Failed

    async def _send_then(self, content: Mapping[str, Any]) -> None:
        for each in content["message"].then:
            await self._pass_gate(content["number"])
            await self._send(each)

    async def _pass_gate(self, number: int) -> None:
        gate = self.gates[number] = Event()
        try:
            await gate.wait()
        finally:
            del self.gates[number]


async def run(makes: frozenset[str], program: list[tuple[Step, Any]]) -> None:
    """Do on the real engine what a model has done."""
    async with create_task_group() as group:
        hosted = Hosted(group, makes)
        await hosted.start()
        with logged(lambda _, record: hosted.trace[record.args[1]].append("logged")):
            for step, expected in program:
                await hosted.perform(step)
                assert hosted.look() == expected


def messages(*then: st.SearchStrategy[Message]) -> st.SearchStrategy[Message]:
    """Draw messages that send other messages."""
    return st.builds(
        Message,
        name=st.sampled_from(NAMES),
        fate=st.sampled_from(
            ["passes", "passes", "passes", "guard fails", "action fails", "ignored"]
        ),
        target=st.sampled_from([None, "x", "y"]),
        waits=st.booleans(),
        then=st.lists(st.one_of(then), max_size=2 * len(then)).map(tuple),
        observed=st.booleans(),
    )


nested = messages(messages(messages(messages())))


class EngineMachine(RuleBasedStateMachine):
    """A program, drawn with the model at hand; in the end it is run on the real engine.

    Args:
        backend: on which.
    """

    def __init__(self, backend: str) -> None:
        super().__init__()
        self._backend = backend
        self._program: list[tuple[Step, Any]] = []

    def _perform(self, step: Step) -> None:
        self._model.perform(step)
        self._program.append((step, self._model.look()))

    @initialize(
        makes=st.frozensets(st.sampled_from(NAMES)),
        schedule=st.lists(st.integers(0, 3), max_size=20),
    )
    def begin(self, makes: frozenset[str], schedule: list[int]) -> None:
        """Register those that the factory doesn't make."""
        self._model = Model(makes)
        self._schedule = schedule
        for name in NAMES:
            if name not in makes:
                self._perform(Register(name))

    @rule(message=nested)
    def send(self, message: Message) -> None:
        """Send, perhaps while other sends wait."""
        self._perform(message)

    @precondition(lambda self: self._model.waiting)
    @rule(place=st.integers(0, 9))
    def open(self, place: int) -> None:
        """Let a message go on."""
        self._perform(Open(self._one_of(self._model.waiting, place)))

    @precondition(lambda self: self._model.tasks)
    @rule(place=st.integers(0, 9))
    def cancel(self, place: int) -> None:
        """Cancel one of the sends that overlap."""
        self._perform(Cancel(self._one_of(self._model.tasks, place)))

    @rule(name=st.sampled_from(NAMES), kind=st.sampled_from([Register, Unregister]))
    def register_or_unregister(self, name: str, kind: type[Register | Unregister]) -> None:
        """Change who is there."""
        self._perform(kind(name))

    def _one_of(self, numbers: Iterable[int], place: int) -> int:
        known = sorted(numbers)
        return known[place % len(known)]

    def teardown(self) -> None:
        """Bring everything to its end, and do the same with the real engine."""
        for _ in range(MOST_OPENED):
            if self._model.waiting:
                self._perform(Open(min(self._model.waiting)))
        while self._model.tasks:
            self._perform(Cancel(min(self._model.tasks)))
        replay(
            partial(run, self._model.makes, self._program),
            backend=self._backend,
            decisions=self._schedule,
        )


def test_any_program_goes_as_in_the_model(backend: str) -> None:
    """C1 C2 C3 C4 C5 C6: all is as in the model, step by step, and nobody waits for ever."""
    run_state_machine_as_test(partial(EngineMachine, backend))  # type: ignore[arg-type]
