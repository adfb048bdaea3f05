"""Examine a bus, clause by clause: `search` draws cases, which run on buses of the factory (P1)."""

from __future__ import annotations

from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from flexiflow.testing._bus.contract import CONTRACT
from flexiflow.testing._bus.offers import offers
from flexiflow.testing._bus.recorder import Recorder
from flexiflow.testing._bus.script import Script
from flexiflow.testing._examiner.examine import Subject, check_terms, search
from flexiflow.testing._examiner.execute import Log, be_silent, out_of_factory, run, unblamed
from flexiflow.testing._examiner.program import define, show
from flexiflow.testing._examiner.trace import Trace
from flexiflow.testing._examiner.violation import EXAMPLES
from flexiflow.testing._scheduling.backends import run_scheduled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from flexiflow.testing._examiner.clause import Clause
    from flexiflow.testing._examiner.examine import Verdict
    from flexiflow.testing._examiner.program import Case

METHODS = ("subscribe", "unsubscribe", "unsubscribe_all", "publish")


def examine(
    factory: Callable[[], Any],
    clauses: Iterable[Clause] = CONTRACT,
    *,
    backend: str,
    examples: int = EXAMPLES,
    seed: int | None = None,
) -> Iterator[Verdict]:
    """Examine one clause of the bus after another, and yield its verdict.

    Raises:
        Exception: what `check_bus` raises, except for a violation; already at the call.
    """
    drawn = check_terms(backend, examples, seed)
    how: dict[str, Any] = {"backend": backend, "is_async": probe(factory, backend)}
    subject = Subject(
        backend,
        lambda case: execute(case, factory, **how),
        lambda case: show(case, factory, **how),
        offers(factory, backend),
    )
    return search(clauses, subject, examples, drawn)


def probe(factory: Callable[[], object], backend: str) -> bool:
    """Call a factory, and return whether its result has to be awaited.

    Raises:
        TypeError: it isn't callable, or what it makes lacks one of the methods of a bus, or is the
            same bus again.
    """
    if not callable(factory):
        raise TypeError(f"factory must be callable without arguments, not {factory!r}")

    async def make() -> tuple[object, object, bool]:
        made: Any = factory()
        again: Any = factory()
        if isawaitable(made):
            return await made, await again, True
        return made, again, False

    with Log():
        bus, again, is_async = run_scheduled(make, backend=backend)
    missing = [name for name in METHODS if not callable(getattr(bus, name, None))]
    if missing:
        raise TypeError(
            f"factory must make a bus, with the methods {', '.join(METHODS)}, "
            f"not {bus!r}, which lacks {', '.join(missing)}"
        )
    if again is bus:
        raise TypeError(f"factory must make a new bus each time, not {bus!r} again")
    return is_async


def execute(
    case: Case, factory: Callable[[], Any], *, backend: str, is_async: bool = False
) -> Trace:
    """Run a case to its end, and return its trace.

    A script gets a recorder in place of the bus; a program, which asserts, gets the bus itself.
    """
    trace = Trace()
    namespace: dict[str, Any] = {"print": be_silent}

    def disguise(bus: object) -> object:
        if not isinstance(case, Script):
            return bus
        return log.enter(Recorder(bus, trace, namespace.get("mark")))

    async def make() -> object:
        with out_of_factory():
            return disguise(await factory())

    def make_at_once() -> object:
        return disguise(factory())

    if is_async:
        namespace["factory"] = make
    else:
        # If a second run is to come, the factory is called outside of any loop. That is tried too:
        # what it raises breaks the clause (B1).
        namespace["factory"] = make_at_once if case.again else unblamed(make_at_once)
    with Log() as log:
        run(case, define(case, is_async=is_async), namespace, trace, backend)
    return trace
