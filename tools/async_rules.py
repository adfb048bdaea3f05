"""Runs flake8, without the half of flake8-async that no rule in use needs.

It builds a second syntax tree of each file, and goes through it several times, for rules that
`tox.ini` turns off. That takes three quarters of its time.
"""

import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any


def find_nothing(skipped: Any) -> Iterator[Any]:
    """Find nothing, without looking.

    Raises:
        RuntimeError: a rule in use needs that half, as may be after an update.
    """
    if skipped.visitors:
        kinds = ", ".join(type(each).__name__ for each in skipped.visitors)
        raise RuntimeError(f"{kinds} would find nothing; disable its rules, or run flake8 itself")
    return iter(())


# It is not installed where types are checked.
runner: Any = import_module("flake8_async.runner")
# Not only in the main module: processes that flake8 starts may import it under another name.
runner.Flake8AsyncRunner_cst.run = find_nothing

if __name__ == "__main__":
    sys.exit(import_module("flake8.main.cli").main())
