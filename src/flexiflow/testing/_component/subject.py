"""Components and their engine, as they are examined (P1)."""

from __future__ import annotations

from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, Final, cast, final

from flexiflow.testing._component.recorder import ComponentRecorder
from flexiflow.testing._component.trace import ComponentTrace
from flexiflow.testing._examiner.examine import Subject
from flexiflow.testing._examiner.execute import Log, unblamed
from flexiflow.testing._examiner.listing import name_factory
from flexiflow.testing._examiner.program import Program, defined, show
from flexiflow.testing._scheduling.backends import run_scheduled

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow.testing._examiner.program import Case, Written

_COMPONENT: Final = ("name", "machine", "state", "handle_message")
_ENGINE: Final = ("bus", "components", "register", "unregister", "send")


@final
class ComponentSubject(Subject[ComponentTrace]):
    """Components, and the engine that hosts them.

    Args:
        factory: makes a component.
        engine: makes an engine.
        backend: the backend on which they run.

    Raises:
        TypeError: a factory isn't callable, is async, or what it makes lacks an attribute.
    """

    def __init__(
        self, factory: Callable[..., Any], engine: Callable[..., Any], backend: str
    ) -> None:
        super().__init__(backend, ComponentTrace)
        for role, each in (("factory", factory), ("engine", engine)):
            if not callable(each):
                raise TypeError(f"{role} must be callable, not {each!r}")
        self._factory = factory
        self._engine = engine
        with Log():
            component, host = run_scheduled(self._probe, backend=backend)
        _check_parts("factory", component, _COMPONENT)
        _check_parts("engine", host, _ENGINE)

    async def _probe(self) -> tuple[object, object]:
        return self._factory("probe", machine=None), self._engine()

    def play(self, case: Case, trace: ComponentTrace, log: Log) -> None:
        """Run a case to its end; a script has a recorder in place of engine and factory."""
        factory, engine = unblamed(self._factory), unblamed(self._engine)
        if isinstance(case, Program):
            self.run(lambda: case.start(factory, engine), case, trace)
            return
        recorder = log.enter(ComponentRecorder(factory, engine, trace))
        self.run(recorded(cast("Written", case), recorder), case, trace)

    def show(self, case: Case) -> str:
        """Return a case as a program that anyone can run."""
        factories = [
            name_factory(self._factory, "factory", "your component"),
            name_factory(self._engine, "new_engine", "your engine"),
        ]
        if isinstance(case, Program):
            lines = [case.call("factory", "new_engine")]
        else:
            lines = cast("Written", case).main()
        return show(case, factories, self.backend, mains=[lines])


def recorded(case: Written, recorder: ComponentRecorder) -> Callable[[], Any]:
    """Return the async function that a script defines, run on a recorder."""
    names = {each: getattr(recorder, each) for each in ("print", "factory", "new_engine")}
    return defined(case.main(), **names)


def _check_parts(role: str, made: object, parts: tuple[str, ...]) -> None:
    if iscoroutine(made):
        made.close()
        raise TypeError(f"{role} must be sync, not {made!r}")
    missing = [name for name in parts if not hasattr(made, name)]
    if missing:
        raise TypeError(
            f"what {role} makes must have {', '.join(parts)}; {made!r} lacks {', '.join(missing)}"
        )
