"""Write programs that anyone can run: with the definitions and imports that they use."""

from __future__ import annotations

import ast
import sys
from functools import cache, partial
from importlib import import_module
from inspect import getsource
from itertools import accumulate
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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
    match value:
        case partial():
            return f"partial({literal(value.func)})"
        case tuple():
            return f"({', '.join(map(literal, value))}{',' * (len(value) == 1)})"
        case dict():
            return f"{{{', '.join(f'{each!r}: {literal(value[each])}' for each in value)}}}"
        case _:
            return getattr(value, "__name__", None) or repr(value)


def name_factory(
    factory: Callable[..., object], alias: str = "factory", makes: str = "your bus"
) -> str:
    """Return the import of a factory, or a placeholder if it can't be imported."""
    name, module = getattr(factory, "__qualname__", ""), getattr(factory, "__module__", "")
    packages = accumulate(str(module).split("."), "{}.{}".format)
    for place in packages:
        if place != "__main__" and getattr(sys.modules.get(place), name, None) is factory:
            return f"from {place} import {name} as {alias}"
    return f"{alias} = ...  # what makes {makes}"
