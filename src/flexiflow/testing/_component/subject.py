"""Components as a subject: their recorder, and how cases run and are shown.

The recorder calls an engine, and notes in a trace what happens. It stands in for the engine, for
its bus, and for the components' factory.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from contextvars import ContextVar
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, Final, final

import anyio

from flexiflow._component import Component
from flexiflow._engine import Engine
from flexiflow._errors import DuplicateAnswer
from flexiflow._machine import StateMachine, Transition
from flexiflow._text import safely
from flexiflow._text import show as quote
from flexiflow.events import HANDLER_FAILED, MESSAGE_RECEIVED, STATE_CHANGED
from flexiflow.testing._component.judgements import HANDLED, ComponentTrace, Message
from flexiflow.testing._component.parts import IDLE, MARKED, Shelf
from flexiflow.testing._examiner.examine import Log, Subject, unblamed
from flexiflow.testing._examiner.kit import Factories
from flexiflow.testing._examiner.program import (
    Program,
    defined,
    name_factory,
    show_program,
    show_script,
)
from flexiflow.testing._examiner.trace import NOBODY, Recorder, disguise
from flexiflow.testing._scheduling.backends import run_scheduled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Mapping

    from flexiflow.testing._examiner.program import Case
    from flexiflow.testing._examiner.trace import Handed

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


HEAD: Final = "factory, new_engine, print"
"""The parameters of the function that does what a script does."""
_COMPONENT: Final = ("name", "machine", "state", "handle_message")
_ENGINE: Final = ("bus", "components", "register", "unregister", "send")


@final
class ComponentSubject(Subject[ComponentTrace]):
    """Components, and the engine that hosts them.

    Args:
        factory: makes a component.
        engine: makes an engine; None stands for `Engine`.
        backend: the backend on which they run.

    Raises:
        TypeError: a factory isn't callable, is async, or what it makes lacks an attribute, or
            answers a query.
    """

    kind = "component"

    def __init__(
        self, factory: Callable[..., Any], *, engine: Callable[..., Any] | None, backend: str
    ) -> None:
        super().__init__(backend, ComponentTrace)
        engine = Engine if engine is None else engine
        for role, each in (("factory", factory), ("engine", engine)):
            if not callable(each):
                raise TypeError(f"{role} must be callable, not {safely(repr, each)}")
        self._factory = factory
        self._engine = engine
        with Log():
            component, host, offers = run_scheduled(self._probe, backend=backend)
        _check_parts("factory", component, _COMPONENT)
        _check_parts("engine", host, _ENGINE)
        self.offers = frozenset(offers)

    async def _probe(self) -> tuple[object, object, list[str]]:
        component, host = self._factory("probe", machine=None), self._engine()
        if isinstance(component, Component):
            await _check_company(self._factory)
        machine = StateMachine("s0", [Transition("s0", "go", "s1")])
        store: dict[str, Any] = {"store": Shelf()}
        few = {**store, "component_factory": self._factory, "max_components": 1}
        takes = {
            "factory(state=)": _takes(self._factory, "probe", machine=machine, state="s1"),
            "engine(store=)": _takes(self._engine, **store),
            "engine(max_components=)": _takes(self._engine, **few),
            "running": callable(getattr(host, "running", None)),
            IDLE: not await _subscribes(component, host),
            MARKED: isinstance(component, Component) and isinstance(self._factory, type),
        }
        return component, host, [part for part, is_there in takes.items() if is_there]

    def play(self, case: Case, trace: ComponentTrace, log: Log) -> None:
        """Run a case to its end; a script has a recorder in place of engine and factory."""
        if isinstance(case, Program):
            new = Factories(unblamed(self._factory), unblamed(self._engine))
            self.run(lambda: case.start(new), case.decisions, trace)
            return
        self.play_main(defined(HEAD, case.main()), case.decisions, trace, log)

    def play_main(
        self,
        main: Callable[..., Awaitable[None]],
        decisions: tuple[int, ...],
        trace: ComponentTrace,
        log: Log,
        *,
        tells: bool = False,
    ) -> None:
        """Call an async function with a recorder in place of factory, engine and `print`.

        Args:
            main: the function.
            decisions: the schedule.
            trace: where to note what happens.
            log: what is logged meanwhile.
            tells: whether what it prints is printed, too.
        """
        recorder = ComponentRecorder(unblamed(self._factory), unblamed(self._engine), trace)
        log.enter(recorder)

        def show(*words: object) -> None:
            if tells:
                print(*words)  # noqa: T201  as its reader expects
            recorder.print(*words)

        self.run(lambda: main(recorder.factory, recorder.new_engine, show), decisions, trace)

    def imports(self) -> list[str]:
        """Return the lines that import the factories."""
        return [*self._imports().values()]

    def _imports(self) -> dict[str, str]:
        return {
            "factory": name_factory(self._factory, "factory", "your component"),
            "new_engine": name_factory(self._engine, "new_engine", "your engine"),
        }

    def arguments(self) -> str:
        """Return the factories, as arguments of `check_component`."""
        return "factory, engine=new_engine"

    def show(self, case: Case, clause: str) -> str:
        """Return a case as a program that fails with an assertion if it breaks the clause."""
        imports, backend = self._imports(), self.backend
        if isinstance(case, Program):
            lines = [case.call("Factories(factory, new_engine)")]
            return show_program(case, clause, self.imports(), backend, mains=[lines])
        return show_script(case, clause, imports, backend, HEAD, "judge_component")


def _takes(factory: Callable[..., Any], *arguments: Any, **options: Any) -> bool:
    """Return whether a factory takes some options.

    A signature does not show it: a wrapper may take any option and hand it on in vain.
    """
    try:
        made = factory(*arguments, **options)
    except TypeError:
        return False
    if iscoroutine(made):
        made.close()
    return True


async def _check_company(factory: Callable[..., Any]) -> None:
    """Refuse components of which there can be only one at a time."""
    engine, problem = Engine(), None
    try:
        for name in ("one", "two"):
            await engine.register(factory(name, machine=None))
    except Exception as exc:  # noqa: BLE001  what raises anything else breaks a clause
        problem = exc
    if isinstance(problem, DuplicateAnswer):
        raise TypeError(
            "factory must make components without methods marked with @answers, since several of "
            f"them are registered at a time, and these answer {quote(problem.query)}"
        )


async def _subscribes(component: Any, engine: Any) -> bool:
    """Return whether a component has subscriptions of its own when it is registered."""
    # What lacks a part is refused later, and what raises breaks a clause.
    with suppress(Exception):
        await engine.register(component)
        return bool(engine.bus.unsubscribe_all("probe"))
    return False


def _check_parts(role: str, made: object, parts: tuple[str, ...]) -> None:
    if iscoroutine(made):
        made.close()
        raise TypeError(f"{role} must be sync, not {safely(repr, made)}")
    missing = [name for name in parts if not hasattr(made, name)]
    if missing:
        raise TypeError(
            f"what {role} makes must have {', '.join(parts)}; {safely(repr, made)} lacks "
            f"{', '.join(missing)}"
        )
