"""Components as a subject: what they offer, and how their cases run and are shown."""

from __future__ import annotations

from contextlib import suppress
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, Final, final

from flexiflow._component import Component
from flexiflow._engine import Engine
from flexiflow._errors import DuplicateAnswer
from flexiflow._machine import StateMachine, Transition
from flexiflow._text import safely
from flexiflow._text import show as quote
from flexiflow.testing._component.judgements import ComponentTrace
from flexiflow.testing._component.parts import IDLE, MARKED, Shelf
from flexiflow.testing._component.recorder import ComponentRecorder
from flexiflow.testing._examiner.kit import Factories
from flexiflow.testing._examiner.program import (
    Program,
    defined,
    name_factory,
    show_program,
    show_script,
)
from flexiflow.testing._examiner.subject import Log, Subject, unblamed
from flexiflow.testing._scheduling.backends import run_scheduled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flexiflow.testing._examiner.program import Case

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
