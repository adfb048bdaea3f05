"""The recorder of components: stands in for an engine, and notes in a history what happens.

It stands in for the engine's bus and the components' factory too.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

import anyio

from flexiflow._machine import StateMachine
from flexiflow.events import HANDLER_FAILED, MESSAGE_RECEIVED, STATE_CHANGED
from flexiflow.testing._component.trace import HANDLED, Message, Moment
from flexiflow.testing._examiner.trace import NOBODY

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from flexiflow.testing._component.trace import History

NUMBER = "number"
"""The key of a message under which it carries its number, to be recognised by."""


class ComponentRecorder(logging.Handler):
    """Stands in for the engine, its bus and the components' factory, and notes what happens.

    Args:
        factory: makes a component.
        engine: makes the engine that hosts them.
        history: where to note it.
    """

    def __init__(
        self, factory: Callable[..., Any], engine: Callable[..., Any], history: History
    ) -> None:
        super().__init__()
        self._factory = factory
        self._new_engine = engine
        self._history = history
        self._components: dict[str, Any] = {}
        self._within: ContextVar[tuple[int, ...]] = ContextVar("within", default=())

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
        self._history.rows = machine.transitions
        rows = [
            replace(
                row,
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
            await bus.subscribe(HANDLER_FAILED, "recorder", self._reported, priority=1)
        await self._engine.register(component)

    async def subscribe(
        self, event: str, component: str, observer: Callable[[Any], Any], **options: Any
    ) -> None:
        """Subscribe an observer, wrapped to show which message its sends are within."""

        async def call(data: dict[str, Any]) -> None:
            with self._inside(self._number_of(data)):
                result = observer(data)
                if iscoroutinefunction(observer):
                    await result

        await self._engine.bus.subscribe(event, component, call, **options)

    async def send(self, name: str, message: Mapping[str, Any]) -> Any:
        """Send a message, and note what that returned or raised."""
        messages = self._history.messages
        number, task = len(messages), anyio.get_current_task().id
        messages.append(Message(number, name, message["type"], self._within.get(), task))
        self._note("sent", number, name)
        try:
            outcome = await self._engine.send(name, {**message, NUMBER: number})
        except BaseException as exc:
            self._note("raised", number, name, value=exc)
            raise
        self._note("returned", number, name, value=outcome)
        return outcome

    def print(self, *words: Any) -> None:
        """Note a state that the program prints after its component's name."""
        if len(words) > 1 and words[0] in self._components:
            self._note("seen", NOBODY, words[0])

    def emit(self, record: logging.LogRecord) -> None:
        """Note a record of the log."""
        self._note("logged", NOBODY, "", value=record)

    def _received(self, data: dict[str, Any]) -> None:
        self._note("received", self._number_of(data), data["component"], value=data)

    def _changed(self, data: dict[str, Any]) -> None:
        self._note("changed", self._number_of(data), data["component"], value=data)

    def _reported(self, data: dict[str, Any]) -> None:
        self._note("reported", NOBODY, data["component_name"], value=data)

    def _number_of(self, data: dict[str, Any]) -> int:
        """Return the number of the message that an observed event is about, or -1."""
        if "message" in data:
            number: int = data["message"].get(NUMBER, NOBODY)
            return number
        # `state.changed` does not name its message: it is the one that the component handled last
        # in this task.
        task, name = anyio.get_current_task().id, data.get("component")
        mine = [
            each.number
            for each in self._history.moments
            if (each.task, each.component) == (task, name) and each.what in HANDLED
        ]
        return mine[-1] if mine else NOBODY

    def _disguise(
        self, function: Callable[[Any, Any], Any] | None, row: int, begins: str, ends: str
    ) -> Callable[[Any, Any], Any] | None:
        if function is None:
            return None

        def call(message: dict[str, Any], component: Any) -> Any:
            with self._noted(message, component, row, begins):
                answer = function(message, component)
            self._note(ends, message.get(NUMBER, NOBODY), component.name, row, answer)
            return answer

        async def async_call(message: dict[str, Any], component: Any) -> Any:
            with self._noted(message, component, row, begins):
                answer = await function(message, component)
            self._note(ends, message.get(NUMBER, NOBODY), component.name, row, answer)
            return answer

        return async_call if iscoroutinefunction(function) else call

    @contextmanager
    def _noted(
        self, message: dict[str, Any], component: Any, row: int, begins: str
    ) -> Generator[None]:
        number = message.get(NUMBER, NOBODY)
        self._note(begins, number, component.name, row)
        try:
            with self._inside(number):
                yield
        except BaseException as exc:
            self._note("failed", number, component.name, row, exc)
            raise

    @contextmanager
    def _inside(self, number: int) -> Generator[None]:
        """Mark what is sent meanwhile as sent from within the handling of a message."""
        token = self._within.set((*self._within.get(), number))
        try:
            yield
        finally:
            self._within.reset(token)

    def _note(
        self, what: str, number: int, name: str, row: int = NOBODY, value: Any = None
    ) -> None:
        component = self._components.get(name)
        state = None if component is None else component.state
        task = anyio.get_current_task().id
        self._history.moments.append(Moment(what, number, name, row, value, state, task))
