"""What an engine, its components and their machines do, as a reader of the contract would write it.

Whatever waits is a generator, which gives the condition for which it waits. Each message that is
sent from within another one is sent behind a gate. So tasks that go on at the same time are in
different components, and what happens in each component is determined, even where tasks cross.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

INITIAL = "x"


@dataclass(frozen=True)
class Message:
    """A message, what becomes of it, and what is sent while it is handled.

    Attributes:
        name: the component that it is sent to.
        fate: where it fails, or that no transition takes it.
        target: the state that it leads to; None for an internal transition.
        waits: whether its action waits at a gate before it ends.
        then: what is sent, each behind a gate, by its action.
        observed: whether that is sent by an observer of its arrival instead.
    """

    name: str
    fate: Literal["passes", "guard fails", "action fails", "ignored"] = "passes"
    target: str | None = INITIAL
    waits: bool = False
    then: tuple[Message, ...] = ()
    observed: bool = False


@dataclass(frozen=True)
class Register:
    """Register a new component."""

    name: str


@dataclass(frozen=True)
class Unregister:
    """Unregister a component."""

    name: str


@dataclass(frozen=True)
class Open:
    """Let the message of this number go on, at its next gate."""

    number: int


@dataclass(frozen=True)
class Cancel:
    """Cancel what a task does; tasks are numbered as they begin."""

    task: int


Step: TypeAlias = Message | Register | Unregister | Open | Cancel
"""One step of a program; a message is sent in a task of its own."""

Wait: TypeAlias = Callable[[], bool]
Run: TypeAlias = Generator[Wait, None, str]


class Failed(Exception):
    """What a guard or an action raises."""


class Cancelled(BaseException):
    """A cancellation."""


@dataclass(eq=False)
class Task:
    """Who sends, and for whose turn it waits."""

    run: Run
    wait: Wait = lambda: True
    awaits: Component | None = None


@dataclass(eq=False)
class Component:
    """A component: its queue, its deferred messages, its state."""

    name: str
    state: str = INITIAL
    registered: bool = True
    holder: Task | None = None
    waiting: deque[Task] = field(default_factory=deque[Task])
    deferred: deque[tuple[int, Message]] = field(default_factory=deque[tuple[int, Message]])

    def pass_on(self) -> None:
        """Give the turn to the first who waits, if anyone does."""
        self.holder = self.waiting.popleft() if self.waiting else None
        if self.holder is not None:
            self.holder.awaits = None


@dataclass
class Model:
    """The reference.

    Attributes:
        makes: the components that the factory makes.
        components: those that are registered.
        trace: what has happened in each component since the last look.
        outcomes: what came of each message, by number.
        opened: the messages whose gates are open.
        waiting: those that wait at theirs.
        tasks: what has begun and not ended, by number.
    """

    makes: frozenset[str]
    components: dict[str, Component] = field(default_factory=dict[str, Component])
    trace: defaultdict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    outcomes: dict[int, str] = field(default_factory=dict[int, str])
    opened: set[int] = field(default_factory=set[int])
    waiting: set[int] = field(default_factory=set[int])
    tasks: dict[int, Task] = field(default_factory=dict[int, Task])
    begun: int = 0
    sent: int = 0

    def perform(self, step: Step) -> None:
        """Do a step, and whatever then goes on."""
        match step:
            case Register(name):
                self._register(name)
            case Unregister(name):
                self._unregister(name)
            case Open(number):
                self.opened.add(number)
            case Cancel(number):
                self._cancel(self.tasks.pop(number))
            case Message():
                task = self.tasks[self.begun] = Task(iter(()))  # type: ignore[arg-type]
                task.run = self._send(task, step)
                self.begun += 1
        while ready := [number for number, task in self.tasks.items() if task.wait()]:
            self._advance(ready[0])

    def look(self) -> tuple[Any, ...]:
        """Tell what has happened, what came of what, who is there in which state, and who waits."""
        trace = {name: told for name, told in self.trace.items() if told}
        self.trace.clear()
        states = {each.name: (each.state, len(each.deferred)) for each in self.components.values()}
        return trace, dict(self.outcomes), states, {*self.waiting}

    def _advance(self, number: int) -> None:
        task = self.tasks[number]
        try:
            task.wait = next(task.run)
        except StopIteration:
            del self.tasks[number]

    def _cancel(self, task: Task) -> None:
        try:
            task.run.throw(Cancelled())
        except Cancelled:
            pass

    def _register(self, name: str) -> None:
        if name in self.components:
            self.trace[name].append("duplicate")
        else:
            self.components[name] = Component(name)
            self.trace[name].append("registered")

    def _unregister(self, name: str) -> None:
        component = self.components.pop(name, None)
        if component is None:
            self.trace[name].append("unknown")
            return
        component.registered = False
        component.waiting.clear()
        self.trace[name] += ["logged"] * len(component.deferred)
        self.trace[name] += ["reported"] * len(component.deferred)
        component.deferred.clear()

    def _send(self, task: Task, message: Message) -> Run:
        self.sent += 1
        number = self.sent
        try:
            outcome = yield from self._deliver(task, number, message)
        except Cancelled:
            self.outcomes[number] = "cancelled"
            raise
        self.outcomes[number] = outcome
        return outcome

    def _deliver(self, task: Task, number: int, message: Message) -> Run:
        """Handle a message when its turn has come, or defer it."""
        if message.name not in self.components:
            if message.name not in self.makes:
                return "unknown"
            self._register(message.name)
        component = self.components[message.name]
        if self._would_wait_for_itself(task, component):
            component.deferred.append((number, message))
            return "deferred"
        if component.holder is None:
            component.holder = task
        else:
            yield from self._queue(task, component)
            if component.holder is not task:
                return "unknown"
        try:
            return (yield from self._complete(task, component, number, message))
        finally:
            component.pass_on()

    def _would_wait_for_itself(self, task: Task, component: Component) -> bool:
        awaited = component.holder
        while awaited is not None and awaited is not task:
            awaited = awaited.awaits.holder if awaited.awaits else None
        return awaited is task

    def _queue(self, task: Task, component: Component) -> Generator[Wait]:
        component.waiting.append(task)
        task.awaits = component
        try:
            yield lambda: task not in component.waiting
        except Cancelled:
            component.waiting.remove(task)
            raise
        finally:
            task.awaits = None

    def _complete(self, task: Task, component: Component, number: int, message: Message) -> Run:
        """Handle what a cancelled send has left, the message itself, and what is deferred."""
        yield from self._catch_up(task, component)
        if not component.registered:
            return "unknown"
        try:
            outcome = yield from self._handle(task, component, number, message)
        except Failed:
            outcome = "failed"
        try:
            yield from self._catch_up(task, component)
        except Cancelled:
            if outcome == "failed":
                self.trace[component.name].append("logged")
            raise
        return outcome

    def _catch_up(self, task: Task, component: Component) -> Generator[Wait]:
        while component.deferred:
            number, message = component.deferred.popleft()
            try:
                yield from self._handle(task, component, number, message)
            except Failed:
                self.trace[component.name] += ["logged", "reported"]

    def _handle(self, task: Task, component: Component, number: int, message: Message) -> Run:
        self.trace[component.name].append(("received", number))
        if message.observed:
            yield from self._send_then(task, number, message)
        if message.fate == "ignored":
            return "ignored"
        if message.fate == "guard fails":
            raise Failed
        if not message.observed:
            yield from self._send_then(task, number, message)
        if message.waits:
            yield from self._pass_gate(number)
        if message.fate == "action fails":
            raise Failed
        if message.target is not None:
            self.trace[component.name].append((component.state, message.target))
            component.state = message.target
        return "transitioned"

    def _send_then(self, task: Task, number: int, message: Message) -> Generator[Wait]:
        for each in message.then:
            yield from self._pass_gate(number)
            yield from self._send(task, each)

    def _pass_gate(self, number: int) -> Generator[Wait]:
        self.waiting.add(number)
        try:
            yield lambda: number in self.opened
        finally:
            self.waiting.discard(number)
            self.opened.discard(number)
