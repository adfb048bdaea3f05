"""The mutants that mutmut can make of a part of the library, and a sample of them."""

import ast
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from tools.mutation.changes import (
    Change,
    change_of,
    concerns_letters_of_sql,
    concerns_types_alone,
    edits_of,
)

SOURCE = Path("src/flexiflow")


class Function(NamedTuple):
    """A function as it is in the source.

    Attributes:
        path: the module's file.
        name: its name, with that of its class.
        place: the same, with the module.
        start: its first line, from 0.
        body: the first line of its body, from 0.
        margin: what its lines are indented by.
        module: the module as libcst has it.
        node: the function as libcst has it.
    """

    path: Path
    name: str
    place: str
    start: int
    body: int
    margin: str
    module: Any
    node: Any


class Mutant(NamedTuple):
    """A module's text with one fault.

    Attributes:
        part: the module, or the package, that it is counted with.
        change: what it changes.
        path: the module's file.
        function: the function's name, with that of its class.
        line: the first line that changes, from 1.
        text: the whole module.
    """

    part: str
    change: Change
    path: Path
    function: str
    line: int
    text: str


def mutmut() -> Any:
    """Import what makes mutants; type checkers run where it is not installed."""
    return import_module("mutmut.mutation.file_mutation")


def files_of(part: str) -> list[Path]:
    """Find the modules of a part, such as "_bus", "_delivery" or "extras.durable".

    What is in a package within a package is a part of its own.
    """
    path = SOURCE.joinpath(*part.split("."))
    files = sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    if not all(each.is_file() for each in files):
        message = f"there is no part {part!r} of the library"
        raise ValueError(message)
    return files


def find_function(tree: ast.Module, name: str) -> ast.FunctionDef | ast.AsyncFunctionDef:
    """Find a function in a module; of several with that name the last, which is not an overload."""
    body: list[ast.stmt] = tree.body
    *kinds, own = name.split(".")
    for kind in kinds:
        kinds_here = (each for each in body if isinstance(each, ast.ClassDef))
        body = next(each.body for each in kinds_here if each.name == kind)
    found = [
        each
        for each in body
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and each.name == own
    ]
    return found[-1]


def functions_of(path: Path, module: Any) -> dict[Any, Function]:
    """Name each function of a module, and each method of its classes."""
    cst: Any = import_module("libcst")
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    dotted = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    named = [(each, each.name.value) for each in module.body if isinstance(each, cst.FunctionDef)]
    for kind in module.body:
        if isinstance(kind, cst.ClassDef):
            named += [
                (each, f"{kind.name.value}.{each.name.value}")
                for each in kind.body.body
                if isinstance(each, cst.FunctionDef)
            ]
    found: dict[Any, Function] = {}
    for node, name in named:
        function = find_function(tree, name)
        start = min(each.lineno for each in (function, *function.decorator_list)) - 1
        body, margin = function.body[0].lineno - 1, " " * function.col_offset
        found[node] = Function(path, name, f"{dotted}.{name}", start, body, margin, module, node)
    return found


def possible(part: str) -> list[tuple[Function, Any]]:
    """List what can be changed, in the order of the source: the function, and mutmut's mutation."""
    found: list[tuple[Function, Any]] = []
    for path in files_of(part):
        module, mutations, *_ = mutmut().create_mutations(
            str(path), path.read_text(encoding="utf-8")
        )
        functions = functions_of(path, module)
        found += [
            (functions[each.contained_by_top_level_function], each)
            for each in mutations
            if each.contained_by_top_level_function in functions
        ]
    return found


def make(part: str, function: Function, mutation: Any) -> Mutant | None:
    """Make a mutant; None if it changes nothing that a test could notice.

    That is what is read by type checkers alone, what SQL takes for the same, and what runs once, as
    the module is loaded.
    """
    bare = function.node.with_changes(leading_lines=[])
    mutated = mutmut().deep_replace(bare, mutation.original_node, mutation.mutated_node)
    before, after = (function.module.code_for_node(each).splitlines() for each in (bare, mutated))
    edits = edits_of(before, after)
    change = change_of(function.place, before, edits)
    if not edits or concerns_types_alone(change) or concerns_letters_of_sql(change):
        return None
    first = function.start + edits[0].start
    if first < function.body:
        return None
    lines = function.path.read_text(encoding="utf-8").splitlines()
    for edit in reversed(edits):
        lines[function.start + edit.start : function.start + edit.stop] = [
            f"{function.margin}{each}" for each in edit.lines
        ]
    text = "\n".join(lines)
    return Mutant(part, change, function.path, function.name, first + 1, text)


def draw(part: str, number: int | None, seed: int) -> tuple[int, list[Mutant]]:
    """Draw so many mutants of a part, spread over all its functions; all if there is no number.

    Every so-and-so-many-th is drawn, in the order of the source, from a start that the seed sets;
    each has the same chance.

    Returns:
        How many there are, and those that are drawn, in a random order.
    """
    every = possible(part)
    chosen = every
    if number is not None and number < len(every):
        step = len(every) / number
        chance = Random(f"{seed} {part}")
        start = chance.uniform(0, step)
        chosen = [every[int(start + turn * step)] for turn in range(number)]
        chance.shuffle(chosen)
    return len(every), [*_made(part, chosen)]


def _made(part: str, chosen: Sequence[tuple[Function, Any]]) -> Iterator[Mutant]:
    """Make the mutants, each change once."""
    seen: set[Change] = set()
    for function, mutation in chosen:
        mutant = make(part, function, mutation)
        if mutant is not None and mutant.change not in seen:
            seen.add(mutant.change)
            yield mutant
