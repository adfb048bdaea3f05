"""A store, as it is examined (P1).

First the factory is called, to see whether it makes a store. Then, for each part of clause K2,
Hypothesis draws steps, as `moves` defines them. They are done at a `Desk`, which calls a new store,
follows a model, and raises at the first difference. Scripts run in real time, for at most
`_PATIENCE` seconds each. What the factory raises ends the examination.
"""

from __future__ import annotations

import math
from functools import partial
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, Final, cast, final

import anyio

from flexiflow._callables import check_callable
from flexiflow._text import safely
from flexiflow.testing._examiner.kit import bounded
from flexiflow.testing._examiner.program import PROGRAMS, as_program, asserted, name_factory
from flexiflow.testing._examiner.steps import block
from flexiflow.testing._examiner.subject import Log, Subject, unblamed
from flexiflow.testing._examiner.trace import Entry, Trace
from flexiflow.testing._store.desk import open_desk

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flexiflow.testing._examiner.acts import Acts
    from flexiflow.testing._examiner.program import Case

_METHODS: Final = ("load", "save", "due", "delete")
_PATIENCE: Final = 60.0
"""After so many seconds, a script that still runs is stuck."""


@final
class StoreSubject(Subject[Trace]):
    """A store.

    Args:
        factory: makes one, new and empty, or returns a context manager that does.
        backend: the backend on which it runs.

    Raises:
        TypeError: the factory can't be one, or what it makes is no store.
    """

    kind = "store"
    repeats = 1

    def __init__(self, factory: Callable[..., Any], *, backend: str) -> None:
        super().__init__(backend, Trace)
        check_callable("factory", factory, 0)
        self._factory = factory
        self._make = unblamed(factory)
        self._twice = _takes_beside(factory)
        with Log():
            self._run(self._probe)

    async def _probe(self) -> None:
        made = self._make()
        if not hasattr(made, "load"):
            if not hasattr(made, "__aenter__"):
                raise TypeError(
                    "factory must make a store, which has `load`, or an async context manager "
                    f"that gives one, not {safely(repr, made)}"
                )
            async with made as store:
                self._look_at(store)
        else:
            self._look_at(made)

    def _look_at(self, store: object) -> None:
        missing = [name for name in _METHODS if not callable(getattr(store, name, None))]
        if missing:
            given = f"{safely(repr, store)} lacks {missing[0]}"
            raise TypeError(f"a store has {', '.join(_METHODS)}; {given}")
        if callable(getattr(store, "versions", None)):
            self.offers = frozenset(["versions"])

    def play(self, case: Case, trace: Trace, log: Log) -> None:  # noqa: ARG002
        """Play a script to its end, on a new store."""
        self._run(partial(self._play, cast("Acts", case), trace))

    async def _play(self, script: Acts, trace: Trace) -> None:
        history: list[str] = []
        try:
            async with open_desk(self._make, history, twice=self._twice) as desk:
                for method, given in script.acts:
                    await getattr(desk, method)(*given)
                await desk.finish()
        finally:
            trace.entries += map(Entry, history)

    def _run(self, main: Callable[[], Awaitable[None]]) -> None:
        anyio.run(bounded, main, _PATIENCE, backend=self.backend)

    def imports(self) -> list[str]:
        """Return the line that imports the factory."""
        return [name_factory(self._factory, makes="your store")]

    def show(self, case: Case, clause: str) -> str:
        """Return a script as a program that fails with an assertion if it breaks the clause."""
        script = cast("Acts", case)
        twice = ", twice=True" if self._twice else ""
        lines = [*script.main(), "await desk.finish()"]
        opened = block(f"async with open_store(factory{twice}) as desk:", lines)
        has_infinity = any(math.inf in each.given for each in script.acts)
        parts = [
            *(["from math import inf"] if has_infinity else []),
            "import anyio",
            f"from {PROGRAMS} import asserting, bounded, open_store",
            *self.imports(),
            *("", "", *block("async def main():", opened)),
        ]
        run = [f'anyio.run(bounded, main, {_PATIENCE}, backend="{self.backend}")']
        return as_program("\n".join(parts), clause, asserted(clause, run))


def _takes_beside(factory: Callable[..., Any]) -> bool:
    """Return whether a factory can make a store with the data of another one."""
    parameters = signature(factory).parameters.values()
    return any(each.kind is Parameter.VAR_KEYWORD or each.name == "beside" for each in parameters)
