"""Puts other code into functions that are loaded, so that nothing is imported anew for a mutant."""

import ast
import builtins
import gc
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import CodeType, FunctionType
from typing import Any

import flexiflow
from tools.mutation.mutants import Mutant, find_function

Loaded = Mapping[tuple[str, str, int], list[FunctionType]]
"""The functions by their file, their name and their first line."""

PROBE = "__reached_by_a_test__"


def loaded_functions() -> Loaded:
    """Find all functions of the library, wherever decorators have put them."""
    for module in walk_packages(flexiflow.__path__, "flexiflow."):
        import_module(module.name)
    gc.unfreeze()
    found: defaultdict[tuple[str, str, int], list[FunctionType]] = defaultdict(list)
    for each in gc.get_objects():
        if type(each) is FunctionType and "flexiflow" in each.__code__.co_filename:
            code = each.__code__
            found[code.co_filename, code.co_qualname, code.co_firstlineno].append(each)
    gc.freeze()
    return dict(found)


def codes_within(code: CodeType) -> dict[str, CodeType]:
    """Name the codes of a module's functions and methods; of one name, the last."""
    found: dict[str, CodeType] = {}
    for each in code.co_consts:
        if isinstance(each, CodeType):
            found[each.co_qualname] = each
            if "<locals>" not in each.co_qualname:
                found.update(codes_within(each))
    return found


def swap(loaded: Loaded, path: Path, tree: ast.Module, names: Iterable[str]) -> None:
    """Give loaded functions the code that they have in a tree.

    Raises:
        KeyError: if there is no such function.
        ValueError: if the code uses other variables of an enclosing scope.
    """
    filename = str(path.resolve())
    codes = codes_within(compile(tree, filename, "exec"))
    for name in names:
        new = codes[name]
        for function in loaded[filename, name, new.co_firstlineno]:
            function.__code__ = new


def keep_class(tree: ast.Module, name: str) -> None:
    """Let a method know its class, though the mutant lost each `super()`; the code must fit."""
    extra = ast.parse("if 0: __class__").body
    find_function(tree, name).body[1:1] = extra
    ast.fix_missing_locations(tree)


def install(loaded: Loaded, mutant: Mutant) -> None:
    """Put a mutant in the place of what it changes."""
    tree = ast.parse(mutant.text)
    try:
        swap(loaded, mutant.path, tree, [mutant.function])
    except ValueError:
        keep_class(tree, mutant.function)
        swap(loaded, mutant.path, tree, [mutant.function])


def innermost(statement: ast.stmt, line: int) -> ast.stmt:
    """Find the innermost statement that has a line."""
    for child in ast.walk(statement):
        if (
            child is not statement
            and isinstance(child, ast.stmt)
            and child.lineno <= line <= (child.end_lineno or 0)
        ):
            return innermost(child, line)
    return statement


class Notes(ast.NodeTransformer):
    """Puts a call before some statements.

    Args:
        wanted: the numbers that are noted before each.
    """

    def __init__(self, wanted: Mapping[ast.AST, Iterable[int]]) -> None:
        self._wanted = wanted

    def visit(self, node: ast.AST) -> Any:
        """Look at a node, and at all within it."""
        self.generic_visit(node)
        calls = [ast.parse(f"{PROBE}({number})").body[0] for number in self._wanted.get(node, ())]
        for call in calls:
            for part in ast.walk(call):
                ast.copy_location(part, node)
        return [*calls, node] if calls else node


def probe(loaded: Loaded, mutants: Sequence[Mutant], reached: set[int]) -> None:
    """Have each statement that a mutant changes note the mutant's number before it runs."""
    setattr(builtins, PROBE, reached.add)
    for path in {each.path for each in mutants}:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names: set[str] = set()
        wanted: dict[ast.AST, list[int]] = {}
        for number, mutant in enumerate(mutants):
            if mutant.path == path:
                names.add(mutant.function)
                function = find_function(tree, mutant.function)
                target = innermost(function, mutant.line)
                target = function.body[0] if target is function else target
                wanted.setdefault(target, []).append(number)
        swap(loaded, path, Notes(wanted).visit(tree), names)
