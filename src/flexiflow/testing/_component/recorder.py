"""What stands in for an engine, its bus and the components' factory, and notes what happens."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

import anyio

from flexiflow._machine import StateMachine, Transition
from flexiflow.events import HANDLER_FAILED, MESSAGE_RECEIVED, STATE_CHANGED
from flexiflow.testing._component.judgements import HANDLED, Message
from flexiflow.testing._examiner.recorder import Recorder, disguise
from flexiflow.testing._examiner.trace import NOBODY

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from flexiflow.testing._component.judgements import ComponentTrace
    from flexiflow.testing._examiner.recorder import Handed

NUMBER: Final = "number"
"""The key of a message under which it carries its number, to be recognised by."""


class ComponentRecorder(Recorder):
    """Stands in for the engine, its bus and the components' factory, and notes what happens.

    Args:
        factory: makes a component.
        engine: makes the engine that hosts them.
        trace: where to note what happens.
    """

    def __init__(
        self, factory: Callable[..., Any], engine: Callable[..., Any], trace: ComponentTrace
    ) -> None:
        super().__init__(trace)
        self._factory = factory
        self._new_engine = engine
        self._trace = trace
        self._components: dict[str, Any] = {}
        self._within: ContextVar[tuple[int, ...]] = ContextVar("within", default=())

    def who(self, seat: int, act: int, component: str) -> str:
        """Return the name of a message, or of a component."""
        return self._trace.messages[act].name if act >= 0 else component

    def seen(self, component: str) -> object:
        """Return the state of a component, if it is known."""
        return getattr(self._components.get(component), "state", None)

    @property
    def bus(self) -> ComponentRecorder:
        """Where to subscribe: the recorder itself."""
        return self

    def new_engine(self) -> ComponentRecorder:
        """Make the engine."""
        self._engine = self._new_engine()
        self._observes = False
        return self

    def factory(self, name: str, *, machine: StateMachine) -> Any:
        """Make a component, whose guards and actions are wrapped so that their calls are noted."""
        self._trace.rows = machine.transitions
        rows = [
            Transition(
                row.source,
                row.trigger,
                row.target,
                guard=self._disguise(row.guard, number, "asked", "answered"),
                action=self._disguise(row.action, number, "acts", "acted"),
            )
            for number, row in enumerate(machine.transitions)
        ]
        self._components[name] = made = self._factory(
            name, machine=StateMachine(machine.initial, rows)
        )
        return made

    async def register(self, component: Any) -> None:
        """Register a component, after the observers of the recorder's own."""
        if not self._observes:
            self._observes = True
            bus = self._engine.bus
            await bus.subscribe(MESSAGE_RECEIVED, "recorder", self._received, priority=1)
            await bus.subscribe(STATE_CHANGED, "recorder", self._changed, priority=1)
            await bus.subscribe(HANDLER_FAILED, "recorder", self._announced, priority=1)
        await self._engine.register(component)

    async def subscribe(
        self, event: str, component: str, observer: Callable[[Any], Any], **options: Any
    ) -> None:
        """Subscribe an observer, wrapped to show which message its sends are within."""

        @contextmanager
        def around(data: dict[str, Any]) -> Generator[Handed]:
            with self._inside(self._number_of(data)):
                yield (data,), []

        await self._engine.bus.subscribe(event, component, disguise(observer, around), **options)

    async def send(self, name: str, message: Mapping[str, Any]) -> Any:
        """Send a message, and note what that returned or raised."""
        messages = self._trace.messages
        number, task = len(messages), anyio.get_current_task().id
        messages.append(Message(number, name, message["type"], self._within.get(), task))
        where: Any = {"act": number, "component": name}
        with self.noted("sent", "returned", fails="raised", **where) as answers:
            outcome = await self._engine.send(name, {**message, NUMBER: number})
            answers.append(outcome)
        return outcome

    def print(self, *words: Any) -> None:
        """Note a state that the program prints after its component's name."""
        if len(words) > 1 and words[0] in self._components:
            self.note("seen", component=words[0])

    def _received(self, data: dict[str, Any]) -> None:
        self.note("received", data, act=self._number_of(data), component=data["component"])

    def _changed(self, data: dict[str, Any]) -> None:
        self.note("changed", data, act=self._number_of(data), component=data["component"])

    def _announced(self, data: dict[str, Any]) -> None:
        self.note("announced", data, component=data["component_name"])

    def _number_of(self, data: dict[str, Any]) -> int:
        """Return the number of the message that an observed event is about, or -1."""
        if "message" in data:
            number: int = data["message"].get(NUMBER, NOBODY)
            return number
        # `state.changed` does not name its message: it is the one that the component handled last
        # in this task.
        task, name = anyio.get_current_task().id, data.get("component")
        mine = [
            each.act
            for each in self._trace.all(*HANDLED)
            if (each.task, each.component) == (task, name)
        ]
        return mine[-1] if mine else NOBODY

    def _disguise(
        self, function: Callable[..., Any] | None, row: int, begins: str, ends: str
    ) -> Callable[..., Any] | None:
        @contextmanager
        def around(message: dict[str, Any], component: Any) -> Generator[Handed]:
            number = message.get(NUMBER, NOBODY)
            where: Any = {"seat": row, "act": number, "component": component.name}
            with self.noted(begins, ends, **where) as answers, self._inside(number):
                yield (message, component), answers

        return None if function is None else disguise(function, around)

    @contextmanager
    def _inside(self, number: int) -> Generator[None]:
        """Mark what is sent meanwhile as sent from within the handling of a message."""
        token = self._within.set((*self._within.get(), number))
        try:
            yield
        finally:
            self._within.reset(token)
