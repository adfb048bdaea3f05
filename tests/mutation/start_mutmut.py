"""Starts mutmut with what it does to the tests' surroundings taken back; run in a copy."""

import os
import resource
import runpy
import signal
from importlib import import_module
from typing import Any

MOST_MEMORY = 2 * 2**30
"""Bytes of address space: a mutant that grows without end fails before the machine does."""


LONGEST = 60
"""Seconds of processor time for the few tests that are tried at first."""


def leave_contexts_alone() -> None:
    """Keep mutmut's call stack, which it uses to tell who calls whom, out of the context.

    By contract (D2) a task whose context has changed runs no other handler.
    """
    # Not a plain import: type checkers run where mutmut is not installed.
    stack: Any = import_module("mutmut.core").MutmutCallStack
    stack.get = lambda: (None, 0)
    stack.set = lambda _: None
    stack.reset = lambda _: None


def try_the_fastest(number: int) -> None:
    """Try so many tests on each mutant, of those that run its function: the fastest ones.

    Most mutants fall to them; to collect all tests anew takes as long as to run a hundred.
    """
    runner: Any = import_module("mutmut.workers.isolation").ForkRunner
    state: Any = import_module("mutmut.state").state
    submit = runner.submit

    def submit_fastest(self: object, name: str, tests: list[str], *_: float) -> None:
        durations = state().duration_by_test
        fastest = sorted(tests, key=durations.__getitem__)[:number]
        expected = sum(map(durations.__getitem__, fastest))
        submit(self, name, fastest, LONGEST, expected)

    runner.submit = submit_fastest


if __name__ == "__main__":
    leave_contexts_alone()
    if fastest := os.environ.get("FASTEST_TESTS"):
        try_the_fastest(int(fastest))
    # A shell's background jobs ignore it, and tests of Ctrl-C would fail.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, resource.RLIM_INFINITY))
    runpy.run_module("mutmut", run_name="__main__", alter_sys=True)
