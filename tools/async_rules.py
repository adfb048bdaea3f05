"""Runs flake8 for the rules of flake8-async that `tox.ini` leaves, and for nothing else.

Run as it is, flake8 also searches for what pycodestyle and pyflakes find, flake8-async builds a
second syntax tree for rules that are turned off, and it asks each rule at each node of the first
whether it looks at such nodes. All that takes nine tenths of their time.
"""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# None of it is installed where types are checked.
plugin: Any = import_module("flake8_async")
runner: Any = import_module("flake8_async.runner")
finder: Any = import_module("flake8.plugins.finder")


FAULTY = """\
async def swallow(wait):
    try:
        await wait()
    except BaseException:
        pass
"""


def find_nothing(skipped: Any) -> Iterator[Any]:
    """Find nothing, without looking.

    Raises:
        RuntimeError: a rule in use needs that half, as may be after an update.
    """
    if skipped.visitors:
        kinds = ", ".join(type(each).__name__ for each in skipped.visitors)
        raise RuntimeError(f"{kinds} would find nothing; disable its rules, or run flake8 itself")
    return iter(())


@cache
def looks_at(kind: Any, method: str) -> bool:
    """Return whether a kind of rule has a method of its own for a kind of node."""
    return getattr(kind, method, None) is not getattr(ast.NodeVisitor, method, None)


def visit(self: Any, node: ast.AST) -> None:
    """Let each rule that looks at such nodes visit one, and then the others what is in it."""
    method = f"visit_{type(node).__name__}"
    rules = [*self.utility_visitors, *self.visitors]
    asked = [rule for rule in rules if looks_at(rule.__class__, method)]
    for rule in asked:
        getattr(rule, method)(node)
    # These went through what is in the node by themselves.
    through = {rule for rule in asked if rule.novisit}
    self.visitors -= through
    self.generic_visit(node)
    for rule in through:
        rule.novisit = False
    self.visitors |= through
    for rule in asked:
        rule.set_state(rule.outer.pop(node, {}))


def parse_nothing(_source: str) -> None:
    """Make no second syntax tree: only what finds nothing would look at it."""


def reports_alone(entries: Any, name: str, version: str) -> Iterator[Any]:
    """Yield what flake8 itself brings along: ways to report, but neither of its two searches."""
    reports = (each for each in entries if each.group == "flake8.report")
    return (finder.Plugin(name, version, each) for each in reports)


# Not only in the main module: processes that flake8 starts may import it under another name.
plugin.cst_parse_module_native = parse_nothing
runner.Flake8AsyncRunner_cst.run = find_nothing
runner.Flake8AsyncRunner.visit = visit
finder._flake8_plugins = reports_alone


def check_itself(main: Any) -> None:
    """Check that a fault is found: an update of flake8-async might leave nothing that looks.

    Raises:
        RuntimeError: it is not.
    """
    with TemporaryDirectory() as name:
        faulty, found = Path(name, "faulty.py"), Path(name, "found")
        faulty.write_text(FAULTY, "utf-8")
        main([str(faulty), f"--output-file={found}"])
        text = found.read_text("utf-8") if found.exists() else ""
    if "ASYNC103" not in text:
        raise RuntimeError(f"ASYNC103 is not found where it should be, only {text!r}")


if __name__ == "__main__":
    run: Any = import_module("flake8.main.cli").main
    check_itself(run)
    sys.exit(run())
