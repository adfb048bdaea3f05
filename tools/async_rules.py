"""Runs flake8, without those parts of flake8-async that no rule in use needs.

It follows the imports of each file twice: in the syntax tree of Python, which takes no time, and
in one of its own, for rules that `tox.ini` turns off. That takes three quarters of its time.
"""

import sys
from importlib import import_module
from typing import Any

runner: Any = import_module("flake8_async.runner")
runner.Flake8AsyncRunner_cst.run = lambda _: iter(())

if __name__ == "__main__":
    sys.exit(import_module("flake8.main.cli").main())
