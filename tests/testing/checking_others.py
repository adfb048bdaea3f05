"""Checks an adapter in a process of its own; `test_others.py` starts it.

    python -m tests.testing.checking_others module:name <programs.json

Some buses leave so much behind that the garbage collector would disturb other tests. Standard
output gets the verdict of each clause, and which of the programs break one of their clauses.
"""

import json
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from hypothesis import Phase, settings

from flexiflow.testing._bus.contract import CONTRACT
from flexiflow.testing._bus.subject import BusSubject
from flexiflow.testing._examiner import examine, kit
from flexiflow.testing.programs import judge_bus

ADAPTERS = "examples/verify_others"


def verdicts(factory: Callable[[], Any]) -> dict[str, str]:
    """Return what the checker finds for each clause; a flaky violation is one, too.

    Nothing is made smaller, which would take most of the time.
    """
    setattr(examine, "_SETTINGS", settings(examine._SETTINGS, phases=[Phase.generate]))  # noqa: B010  it is Final
    how: dict[str, Any] = {"backend": "asyncio", "examples": 20, "seed": 1}
    return {
        verdict.clause.identifier: "violated" if verdict.violation else verdict.word
        for verdict in examine.examine(BusSubject, CONTRACT, factory, **how)
    }


def be_silent(*_: object) -> None:
    """Stand in for `print`: standard output gets only what was found."""


def breaks(factory: Callable[[], Any], clauses: list[str], program: str) -> bool:
    """Return whether a program breaks one of its clauses.

    The order of blinker's receivers is another one each time, so a program gets several chances.
    """
    namespace = {**vars(kit), "print": be_silent}
    exec(program, namespace)  # noqa: S102  the page's own
    for clause in clauses * 50:
        try:
            judge_bus(namespace["main"], factory, clause=clause, backend="asyncio", decisions=())
        except AssertionError:
            return True
    return False


def main() -> None:
    """Check the adapter that the command line names."""
    sys.path.insert(0, ADAPTERS)
    module, name = sys.argv[1].split(":")
    factory = getattr(import_module(module), name)
    broken = [breaks(factory, *each) for each in json.load(sys.stdin)]
    print(json.dumps({"verdicts": verdicts(factory), "broken": broken}))  # noqa: T201  a program


if __name__ == "__main__":
    main()
