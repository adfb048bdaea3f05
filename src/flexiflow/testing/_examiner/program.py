"""What a clause is tried with, and how it is shown as a program that anyone can run.

A case is a script, which is data, or a program, which is a function. What is shown contains the
definitions and imports that it uses, found by its names.
"""

from __future__ import annotations

import ast
import re
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from importlib import import_module
from inspect import Parameter, getsource, signature
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeAlias, final

from flexiflow.testing._examiner import kit
from flexiflow.testing._examiner.steps import block, without_one

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from types import CodeType

    from flexiflow.testing._examiner.steps import Lines

_OURS = "flexiflow.testing._"


@final
class Listing:
    """The definitions and imports that a text uses, found by its names."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._imports: dict[str, list[str]] = {}
        self._definitions: list[str] = []

    def use(self, text: str, module: str) -> None:
        """Add what a text uses of a module, and what that uses."""
        for name, (origin, definition) in _names_of(module).items():
            if name in self._seen or name not in _used(text):
                continue
            if origin.startswith(_OURS) and origin != module:
                self.use(name, origin)
                continue
            self._seen.add(name)
            if definition:
                self.use(definition, module)
                self._definitions.append(definition)
            else:
                self._imports.setdefault(origin, []).append(name)

    def program(self, factories: Sequence[str], *parts: str, run: str) -> str:
        """Return the program: imports, factories, definitions, parts, and the lines that run it."""
        self._imports.setdefault("flexiflow.testing", []).append("replay")
        future = "from __future__ import annotations\n\n" if self._definitions else ""
        head = "\n".join([future + "\n".join(self._lines()), "", *factories])
        return "\n\n\n".join([head, *self._definitions, *parts, f"{run}\n"])

    def _lines(self) -> Iterator[str]:
        for origin, names in sorted(self._imports.items()):
            if origin:
                yield f"from {origin} import {', '.join(sorted(names))}"
            else:
                yield from (f"import {name}" for name in sorted(names))


@cache
def _used(text: str) -> frozenset[str]:
    """Return the names that a text uses and does not set."""
    names = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)]
    known = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    return frozenset({node.id for node in names} - known)


@cache
def _names_of(module: str) -> dict[str, tuple[str, str]]:
    """Return the names of a module, each with where it is from, and its definition if it has one.

    What is imported for type checkers is left out: annotations are not evaluated.
    """
    source = getsource(import_module(module))
    lines, names = source.split("\n"), dict[str, tuple[str, str]]()
    for node in ast.parse(source).body:
        match node:
            case ast.Import(aliases):
                names |= {alias.name: ("", "") for alias in aliases}
            case ast.ImportFrom(origin, aliases):
                names |= {alias.name: (str(origin), "") for alias in aliases}
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                first = min(each.lineno for each in (node, *node.decorator_list))
                names[node.name] = module, "\n".join(lines[first - 1 : node.end_lineno])
            case ast.Assign([ast.Name(name)]) | ast.AnnAssign(ast.Name(name)):
                names[name] = module, "\n".join(lines[node.lineno - 1 : node.end_lineno])
            case _:
                pass
    return names


def literal(value: Any) -> str:
    """Return a value as an expression; of a function or class, its name."""
    given: Any = value
    if isinstance(value, partial):
        return f"partial({literal(given.func)})"
    if isinstance(value, tuple):
        return f"({', '.join(map(literal, given))}{',' * (len(given) == 1)})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name!r}: {literal(given[name])}' for name in given)}}}"
    return getattr(given, "__name__", None) or repr(given)


def name_factory(
    factory: Callable[..., object], alias: str = "factory", makes: str = "your bus"
) -> str:
    """Return the import of a factory, or a placeholder if it can't be imported."""
    place = place_of(factory)
    if place is not None:
        return f"from {place} import {getattr(factory, '__qualname__', '')} as {alias}"
    return f"{alias} = ...  # what makes {makes}"


def place_of(function: object) -> str | None:
    """Return the module from which a function or class can be imported, or None."""
    name, module = getattr(function, "__qualname__", ""), getattr(function, "__module__", "")
    for place in accumulate(str(module).split("."), "{}.{}".format):
        if place != "__main__" and getattr(sys.modules.get(place), name, None) is function:
            return place
    return None


class _Named:
    """A case; `show` shows what is in it."""

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002, FBT001  a protocol
        # Hypothesis formats each case that fails, which takes longer than to find it, and prints
        # nothing of that here.
        printer.text(type(self).__name__)


class Written(_Named, ABC):
    """A script: a case that is written as lines of Python.

    Attributes:
        decisions: the schedule of the tasks.
    """

    decisions: tuple[int, ...]

    @property
    def text(self) -> str:
        """What calls the methods that are examined."""
        return "\n".join(self.main())

    @abstractmethod
    def smaller(self) -> Iterator[Case]:
        """Yield cases with something left out."""

    @abstractmethod
    def main(self) -> Lines:
        """Return what is done, as lines of Python."""


@dataclass(frozen=True)
class Program(_Named):
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
        heard = [("heard", list[Any]())] if "heard" in signature(self.function).parameters else []
        runs = [("run", run)] if self.runs > 1 else []
        return (*heard, *self.given, *runs)


Case: TypeAlias = Program | Written
"""What a clause is tried with."""


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
        if isinstance(case, Program):
            listing.use(part, case.function.__module__)
        listing.use(part, kit.__name__)
    options = f'backend="{backend}", decisions={case.decisions}'
    if not buses_yield(case):
        options += ", buses_yield=False"
    runs = "\n".join(f"replay({name}, {options})" for name in names)
    return listing.program(factories, *parts, run=runs)


def operations(case: Case) -> int:
    """Count the places in a program that call one of the examined methods."""
    return len(re.findall(r"\b(?:bus|engine|component|desk)\.\w+[(,]", case.text))
