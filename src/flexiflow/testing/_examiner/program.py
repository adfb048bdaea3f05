"""What a checker tries: a script, which is data, or a program, which is a function."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from inspect import Parameter, getsource, signature
from typing import TYPE_CHECKING, Any, Protocol

from flexiflow.testing._examiner import kit
from flexiflow.testing._examiner.listing import Listing, literal
from flexiflow.testing._examiner.steps import block, without_one

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
    from types import CodeType

    from flexiflow.testing._examiner.steps import Lines

KIT = kit.__name__


class Case(Protocol):
    """What a checker tries."""

    @property
    def decisions(self) -> tuple[int, ...]:
        """The schedule of the tasks."""
        ...

    @property
    def text(self) -> str:
        """What calls the methods that are examined."""
        ...

    def smaller(self) -> Iterable[Case]:
        """Yield cases with something left out."""
        ...


class Written(Case, Protocol):
    """A case that is written as lines of Python."""

    def main(self) -> Lines:
        """Return what is done, as lines of Python."""
        ...


@dataclass(frozen=True)
class Program:
    """A program that itself claims what a clause promises.

    Attributes:
        function: an async function, which is called with what is examined.
        given: the options that it is called with, too.
        runs: how many runs it is called in, one after another; it is then given its `run`, too.
        decisions: the schedule, as `run_scheduled` takes it.
    """

    function: Callable[..., Awaitable[None]]
    given: tuple[tuple[str, Any], ...] = ()
    runs: int = 1
    decisions: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """The function's text."""
        return getsource(self.function)

    def smaller(self) -> Iterator[Program]:
        """Yield programs with a shorter schedule; the function itself is not shrunk."""
        return (replace(self, decisions=less) for less in without_one(self.decisions))

    @property
    def takes(self) -> int:
        """How many of what is examined the function takes."""
        kinds = [each.kind for each in signature(self.function).parameters.values()]
        return kinds.count(Parameter.POSITIONAL_OR_KEYWORD)

    def start(self, *arguments: object, run: int = 1) -> Awaitable[None]:
        """Call the function."""
        return self.function(*arguments, **dict(self._options(run)))

    def call(self, *arguments: str, run: int = 1) -> str:
        """Return the call of the function as a line of Python."""
        given = (f"{name}={literal(value)}" for name, value in self._options(run))
        return f"await {self.function.__name__}({', '.join([*arguments, *given])})"

    def _options(self, run: int) -> tuple[tuple[str, Any], ...]:
        return (*self.given, *((("run", run),) if self.runs > 1 else ()))


def defined(lines: Lines, **names: object) -> Callable[[], Awaitable[None]]:
    """Return an async function that does what some lines do, and prints nothing by itself."""
    namespace: dict[str, Any] = {**vars(kit), "print": _be_silent, **names}
    # The text is our own. It is run as it is shown, so that what is shown was run.
    exec(_compiled("\n".join(block("async def main():", lines))), namespace)  # noqa: S102
    main: Callable[[], Awaitable[None]] = namespace["main"]
    return main


def _be_silent(*_: object) -> None: ...


@lru_cache(maxsize=64)
def _compiled(source: str) -> CodeType:
    return compile(source, "<program>", "exec")


def buses_yield(case: Case) -> bool:
    """Return whether buses yield at every publish: they do unless the case has no schedule."""
    return bool(case.decisions)


def show(
    case: Case, factories: Sequence[str], backend: str, *made: str, mains: Sequence[Lines]
) -> str:
    """Return a whole program, after what it uses and before the lines that run it.

    Args:
        case: the program, or what was written.
        factories: the lines that import the factories.
        backend: the backend on which it runs.
        made: what is made before any loop runs.
        mains: the lines that are run, one after another.
    """
    names = ["main", "again"][: len(mains)]
    parts = [*made]
    for name, lines in zip(names, mains, strict=True):
        parts.append("\n".join(block(f"async def {name}():", lines)))
    listing = Listing()
    for part in parts:
        listing.use(part, case.function.__module__ if isinstance(case, Program) else KIT)
    options = f'backend="{backend}", decisions={case.decisions}'
    if not buses_yield(case):
        options += ", buses_yield=False"
    runs = "\n".join(f"replay({name}, {options})" for name in names)
    return listing.program(factories, *parts, run=runs)


def operations(case: Case) -> int:
    """Count the places in a program that call one of the examined methods."""
    return len(re.findall(r"\b(?:bus|engine|component|desk)\.\w+[(,]", case.text))
