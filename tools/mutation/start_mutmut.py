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

NEAREST = {
    "_actor": "messages component run_to_completion deferred_failures",
    "_admission": "factories engine",
    "_bus": "publish messages failures yielding subscribe filters",
    "_callables": "callables messages",
    "_cancellation": "strays observers cancellation exits",
    "_component": "marking component messages",
    "_dispatcher": "publish every_way failures yielding observers",
    "_engine": "messages engine factories",
    "_errors": "messages observers",
    "_limits": "limits messages",
    "_machine": "machine states messages",
    "_mailbox": "run_to_completion mailbox engine factories",
    "_mermaid": "machine states",
    "_names": "names messages",
    "_registry": "registry subscribe publish",
    "_reporting": "failures observers run_to_completion",
    "_states": "states",
    "_subscription": "subscribe filters messages",
    "_turns": "rings mailbox limits deadlocks run_to_completion",
    "concurrent": "siblings strays isolation exits modes cancellation",
    "retry": "retry messages",
    "sequential": "failures publish strays filters",
    "verdict": "strays failures observers cancellation exits",
}
"""The files of tests that are tried first on a module's mutants, in whichever folder they are."""


def leave_contexts_alone() -> None:
    """Keep mutmut's call stack, which it uses to tell who calls whom, out of the context.

    By contract (D2) a task whose context has changed runs no other handler.
    """
    # Not a plain import: type checkers run where mutmut is not installed.
    stack: Any = import_module("mutmut.core").MutmutCallStack

    def forget(_: object) -> None:
        """Keep nothing."""

    stack.get, stack.set, stack.reset = (lambda: (None, 0)), forget, forget


def try_the_nearest(number: int) -> None:
    """Try only so many tests on each mutant, of the nearest files, and of those the fastest.

    Most mutants fall to them; to collect all tests anew takes as long as to run a hundred.
    """
    runner: Any = import_module("mutmut.workers.isolation").ForkRunner
    state: Any = import_module("mutmut.state").state
    execute: Any = runner.submit

    def submit(self: object, mutant: str, tests: list[str], *_: float) -> None:
        durations = state().duration_by_test
        module = mutant.partition(".x")[0].rpartition(".")[2]
        files = {f"test_{name}.py" for name in NEAREST.get(module, "").split()}

        def rank(test: str) -> tuple[bool, float]:
            path = test.partition("::")[0]
            return path.rpartition("/")[2] not in files, durations[test]

        nearest = sorted(tests, key=rank)[:number]
        expected = sum(durations[test] for test in nearest)
        execute(self, mutant, nearest, LONGEST, expected)

    runner.submit = submit


if __name__ == "__main__":
    leave_contexts_alone()
    if few := os.environ.get("FEW_TESTS"):
        try_the_nearest(int(few))
    # A shell's background jobs ignore it, and tests of Ctrl-C would fail.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, resource.RLIM_INFINITY))
    runpy.run_module("mutmut", run_name="__main__", alter_sys=True)
