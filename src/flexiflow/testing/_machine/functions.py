"""The names of a user's functions, and how a program that is shown gets at them (P6)."""

from __future__ import annotations

import ast
import builtins
import linecache
from functools import lru_cache
from types import FunctionType
from typing import TYPE_CHECKING, NamedTuple, final

from flexiflow._callables import describe
from flexiflow.testing._examiner.program import place_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

_LAMBDA = "<lambda>"


@final
class Shown(NamedTuple):
    """A function in a program.

    Attributes:
        definition: the line that imports it, or that is to be filled in; or "".
        expression: what stands for it after that.
    """

    definition: str
    expression: str


def name_of(function: Callable[..., object]) -> str:
    """Return the name of a function; of a lambda, its text."""
    name = describe(function).rpartition(".")[2]
    if name != _LAMBDA:
        return name
    found = _find(function)
    return _LAMBDA if found is None else ast.unparse(found)


def show(function: Callable[..., object], alias: str) -> Shown:
    """Return how a program gets at a function.

    Args:
        function: can perhaps be imported, or is a lambda that uses nothing but its arguments.
        alias: what stands for it if neither is so and it has no name; it is to be filled in then.
    """
    place, name = place_of(function), name_of(function)
    if place is not None:
        return Shown(f"from {place} import {name}", name)
    found = _find(function)
    if found is not None and _is_self_contained(found):
        return Shown("", name)
    if name.isidentifier():
        return Shown(f"{name} = ...  # a function of your claims", name)
    return Shown(f"{alias} = ...  # {name}", alias)


def _find(function: object) -> ast.Lambda | None:
    """Return the syntax of a lambda, or None if its source is not there."""
    if not isinstance(function, FunctionType):
        return None
    return _parse(function.__code__.co_filename, function.__code__)


# Parsing a file takes longer than a program, and each violation is told with names.
@lru_cache(maxsize=64)
def _parse(file: str, code: CodeType) -> ast.Lambda | None:
    source = "".join(linecache.getlines(file))
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    spans = _spans(code)
    lambdas = (node for node in ast.walk(tree) if isinstance(node, ast.Lambda))
    return next((each for each in lambdas if _span(each.body) in spans), None)


def _spans(code: CodeType) -> set[tuple[int | None, ...]]:
    """Return the places in the source that belong to instructions."""
    return {(line, begin, last, end) for line, last, begin, end in code.co_positions()}


def _span(node: ast.expr) -> tuple[int | None, ...]:
    return node.lineno, node.col_offset, node.end_lineno, node.end_col_offset


def _is_self_contained(found: ast.Lambda) -> bool:
    """Return whether a lambda uses nothing but its arguments and builtins."""
    names = {node.id for node in ast.walk(found) if isinstance(node, ast.Name)}
    own = {node.arg for node in ast.walk(found) if isinstance(node, ast.arg)}
    return names <= own | {*dir(builtins)}
