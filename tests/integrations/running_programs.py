"""Runs programs one after another in a process of their own; `test_comparison.py` starts it.

    python -m tests.integrations.running_programs <programs.json

Some libraries leave so much behind that it would disturb other tests. Standard output gets what
each program has printed.
"""

import json
import logging
import sys
import traceback
from contextlib import redirect_stdout
from io import StringIO


def run(program: str) -> str:
    """Run a program, and return what it prints, and what leaves it."""
    printed = StringIO()
    with redirect_stdout(printed):
        try:
            exec(program, {"__name__": "__main__"})  # noqa: S102  the page's own
        except Exception:  # noqa: BLE001  the test shows it
            printed.write(traceback.format_exc())
    logging.disable(logging.NOTSET)
    return printed.getvalue()


if __name__ == "__main__":
    print(json.dumps([run(program) for program in json.load(sys.stdin)]))  # noqa: T201  a program
