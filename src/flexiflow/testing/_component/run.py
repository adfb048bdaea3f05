"""Examine engines and their components, clause by clause (P1)."""

from __future__ import annotations

from functools import partial
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any

from flexiflow._engine import Engine
from flexiflow.testing._component.contract import COMPONENT_CONTRACT
from flexiflow.testing._component.recorder import ComponentRecorder
from flexiflow.testing._component.script import ComponentScript
from flexiflow.testing._component.trace import History
from flexiflow.testing._examiner.code import block
from flexiflow.testing._examiner.examine import Subject, check_terms, search
from flexiflow.testing._examiner.execute import Log, be_silent, run, unblamed
from flexiflow.testing._examiner.program import complete, name_factory, with_runs
from flexiflow.testing._examiner.violation import EXAMPLES
from flexiflow.testing._scheduling.backends import run_scheduled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from flexiflow.testing._examiner.clause import Clause
    from flexiflow.testing._examiner.examine import Verdict
    from flexiflow.testing._examiner.program import Case

_COMPONENT = ("name", "machine", "state", "handle_message")
_ENGINE = ("bus", "components", "register", "unregister", "send")


def examine_component(
    factory: Callable[..., Any],
    clauses: Iterable[Clause] = COMPONENT_CONTRACT,
    *,
    engine: Callable[..., Any] | None = None,
    backend: str,
    examples: int = EXAMPLES,
    seed: int | None = None,
) -> Iterator[Verdict]:
    """Examine one clause of components after another, and yield its verdict.

    Raises:
        Exception: what `check_component` raises, except for a violation; already at the call.
    """
    drawn = check_terms(backend, examples, seed)
    new_engine = Engine if engine is None else engine
    probe(factory, new_engine, backend)
    how: dict[str, Any] = {"factory": factory, "engine": new_engine, "backend": backend}
    subject = Subject(backend, partial(execute, **how), partial(show, **how))
    return search(clauses, subject, examples, drawn)


def probe(factory: Callable[..., Any], engine: Callable[..., Any], backend: str) -> None:
    """Make a component and an engine, and check that they can be examined.

    Raises:
        TypeError: a factory isn't callable, is async, or what it makes lacks an attribute.
    """
    for role, each in (("factory", factory), ("engine", engine)):
        if not callable(each):
            raise TypeError(f"{role} must be callable, not {each!r}")

    async def make() -> tuple[object, object]:
        return factory("probe", machine=None), engine()

    with Log():
        component, host = run_scheduled(make, backend=backend)
    _check_parts("factory", component, _COMPONENT)
    _check_parts("engine", host, _ENGINE)


def _check_parts(role: str, made: object, parts: tuple[str, ...]) -> None:
    if iscoroutine(made):
        made.close()
        raise TypeError(f"{role} must be sync, not {made!r}")
    missing = [name for name in parts if not hasattr(made, name)]
    if missing:
        raise TypeError(
            f"what {role} makes must have {', '.join(parts)}; {made!r} lacks {', '.join(missing)}"
        )


def execute(
    case: Case, *, factory: Callable[..., Any], engine: Callable[..., Any], backend: str
) -> History:
    """Run a case to its end, and return its history.

    A script gets a recorder in place of engine and factory; a program, which asserts, gets the real
    ones.
    """
    history, factory, engine = History(), unblamed(factory), unblamed(engine)
    namespace: dict[str, Any] = {"print": be_silent, "factory": factory, "new_engine": engine}
    with Log() as log:
        if isinstance(case, ComponentScript):
            recorder = log.enter(ComponentRecorder(factory, engine, history))
            namespace["print"] = recorder.print
            namespace["factory"] = recorder.factory
            namespace["new_engine"] = recorder.new_engine
        run(case, complete(define(case)), namespace, history, backend)
    return history


def define(case: Case) -> list[str]:
    """Return code that defines the async function to run, given `factory` and `new_engine`."""
    return ["\n".join(block("async def main():", case.main()))]


def show(
    case: Case, *, factory: Callable[..., Any], engine: Callable[..., Any], backend: str
) -> str:
    """Return the whole program of a case, with the imports of the factories."""
    factories = [
        name_factory(factory, "factory", "your component"),
        name_factory(engine, "new_engine", "your engine"),
    ]
    return with_runs(case, define(case), factories, backend)
