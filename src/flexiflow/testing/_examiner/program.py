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
from keyword import iskeyword
from typing import TYPE_CHECKING, Any, TypeAlias, final

from flexiflow._text import safely
from flexiflow.testing._examiner import kit
from flexiflow.testing._examiner.steps import block, without_one

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
    from types import CodeType

    from flexiflow.testing._examiner.steps import Lines

_OURS = "flexiflow.testing._"
_SHARED = ("mark",)
"""What a program imports instead of defining it: what records its history uses that, too."""
_PROGRAM = ("__main__", "__mp_main__")
"""Names of the module that runs as a program; `multiprocessing` adds the second one."""
FUTURE = "from __future__ import annotations"
PROGRAMS = "flexiflow.testing.programs"
"""The module that has what programs import and do not define."""


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
            if name in _SHARED:
                self.add(PROGRAMS, name)
            elif definition:
                self.use(definition, module)
                self._definitions.append(definition)
            else:
                self._imports.setdefault(origin, []).append(name)

    def add(self, module: str, *names: str) -> None:
        """Import names from a module, whether they are used or not."""
        self._imports.setdefault(module, []).extend(names)

    def text(self, factories: Sequence[str], *parts: str) -> str:
        """Return the text: imports, factories, definitions, and parts."""
        future = f"{FUTURE}\n\n" if self._definitions else ""
        head = "\n".join([future + "\n".join(self._lines()), "", *factories])
        return "\n\n\n".join([head, *self._definitions, *parts])

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
    return getattr(given, "__name__", None) or safely(repr, given)


def name_factory(
    factory: Callable[..., object], alias: str = "factory", makes: str = "your bus"
) -> str:
    """Return the import of a factory, or a placeholder if it can't be imported."""
    place = place_of(factory)
    if place is not None:
        return _import(place, getattr(factory, "__qualname__", ""), alias)
    # A partial or a lambda knows no name, but may have one.
    for known, found in [*sys.modules.items()]:
        names = () if known in _PROGRAM else getattr(found, "__dict__", {}).items()
        for name, value in [*names]:
            if value is factory:
                return _import(known, name, alias)
    return f"{alias} = ...  # what makes {makes}"


def _import(module: str, name: str, alias: str) -> str:
    """Return the line that imports a name; a file may have a name that is none in Python."""
    if all(part.isidentifier() and not iskeyword(part) for part in module.split(".")):
        return f"from {module} import {name} as {alias}"
    return f"from importlib import import_module\n\n{alias} = import_module({module!r}).{name}"


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
        return _source(self.function)

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


@lru_cache(maxsize=1024)
def _source(function: Callable[..., object]) -> str:
    # A violation looks for the shortest of many scenes, which is to know the length of each.
    return getsource(function)


Case: TypeAlias = Program | Written
"""What a clause is tried with."""


def defined(head: str, lines: Lines) -> Callable[..., Awaitable[None]]:
    """Return an async function that does what some lines do, and prints nothing by itself.

    Args:
        head: its parameters.
        lines: what it does.
    """
    namespace: dict[str, Any] = {**vars(kit), "print": _be_silent}
    # The text is our own. It is run as it is shown, so that what is shown was run.
    exec(_compiled("\n".join(block(f"async def main({head}):", lines))), namespace)  # noqa: S102
    main: Callable[..., Awaitable[None]] = namespace["main"]
    return main


def _be_silent(*_: object) -> None: ...


@lru_cache(maxsize=64)
def _compiled(source: str) -> CodeType:
    return compile(source, "<program>", "exec")


def as_program(text: str, clause: str, run: Lines) -> str:
    """Return a text, and a test that runs some lines; it also runs as a program by itself."""
    name = f"test_{clause.lower()}"
    test = "\n".join(block(f"def {name}():", run))
    start = "\n".join(block('if __name__ == "__main__":', [f"{name}()"]))
    return "\n\n\n".join([text, test, f"{start}\n"])


def asserted(clause: str, run: Lines) -> Lines:
    """Return lines that run others, and assert that these raise nothing."""
    return block(f'with asserting("{clause}"):', run)


def show_program(
    program: Program,
    clause: str,
    factories: Sequence[str],
    backend: str,
    *made: str,
    mains: Sequence[Lines],
    uses: Sequence[str] = (),
) -> str:
    """Return a program with what it uses, and a test that runs it.

    Args:
        program: the program.
        clause: the number of the clause that it breaks.
        factories: the lines that import the factories.
        backend: the backend on which it runs.
        made: what is made before any loop runs.
        mains: the lines that are run, one after another.
        uses: what else of `PROGRAMS` these lines use.
    """
    names = ["main", "again"][: len(mains)]
    parts = [*made]
    for name, lines in zip(names, mains, strict=True):
        parts.append("\n".join(block(f"async def {name}():", lines)))
    listing = Listing()
    for part in parts:
        listing.use(part, program.function.__module__)
        listing.use(part, kit.__name__)
    listing.add("flexiflow.testing", "replay")
    listing.add(PROGRAMS, "asserting", *uses)
    options = f'backend="{backend}", decisions={program.decisions}'
    if not program.decisions:
        options += ", buses_yield=False"
    run = asserted(clause, [f"replay({name}, {options})" for name in names])
    return as_program(listing.text(factories, *parts), clause, run)


def show_script(
    script: Written,
    clause: str,
    factories: Mapping[str, str],
    backend: str,
    head: str,
    judge: str,
    **options: object,
) -> str:
    """Return a script with what it uses, and a test that judges what it does.

    Args:
        script: the script.
        clause: the number of the clause that it breaks.
        factories: the lines that import the factories, each under its name.
        backend: the backend on which it runs.
        head: the parameters of the function that does what the script does.
        judge: the function that judges it.
        options: what else it is judged with.
    """
    main = "\n".join(block(f"async def main({head}):", script.main()))
    listing = Listing()
    listing.use(main, kit.__name__)
    listing.add(PROGRAMS, judge)
    given = f'main, {", ".join(factories)}, clause="{clause}"'
    more = "".join(f", {name}={value!r}" for name, value in options.items())
    run = [f'{judge}({given}, backend="{backend}", decisions={script.decisions}{more})']
    return as_program(listing.text([*factories.values()], main), clause, run)


def operations(case: Case) -> int:
    """Count the places in a program that call one of the examined methods."""
    return len(re.findall(r"\b(?:bus|engine|component|desk)\.\w+[(,]", case.text))
