"""Tries mutants in processes that are forked when the tests are collected.

So nothing is loaded, and no test collected, anew. A mutant is tried with the tests that reach the
statement that it changes: first with the fastest of each file.
"""

import json
import os
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tools.mutation.kits import Kit
from tools.mutation.mutants import Mutant
from tools.mutation.swapping import Loaded, install, loaded_functions, probe

FEW = 40
"""How many tests are tried at first, before the others by their duration."""
LONGEST = 8.0
"""Seconds: of the tests that reach a statement, the fastest ones that take so long together."""
SPARE = 60
"""Seconds of processor time that a mutant may use beyond four times what its tests take."""
STILL = 30.0
"""Seconds after which a process that uses no processor time hangs."""
MOST_MEMORY = 4 * 2**30
"""Bytes of address space: a mutant that grows without end fails before the machine does."""

UNFIT = 3
"""The status of a process that could not put a mutant in place."""


class Reached(NamedTuple):
    """What a test does without a fault.

    Attributes:
        seconds: how much processor time it takes.
        mutants: the numbers of those whose statements it runs.
    """

    seconds: float
    mutants: list[int]


class Verdict(NamedTuple):
    """What came of a mutant.

    Attributes:
        is_killed: whether it was noticed.
        by: the test, the kit or the limit that noticed it.
        tests: how many tests were to notice it.
    """

    is_killed: bool
    by: str
    tests: int


class Trial:
    """A plugin of pytest's: runs the tests that reach a mutant, in place of all tests.

    Args:
        mutants: what is tried.
        kits: what is asked where the tests notice nothing.
        results: the file that the verdicts are appended to.
        reach: the file that tells what each test reaches; it is made if it is not there.
    """

    def __init__(
        self, mutants: Sequence[Mutant], kits: Mapping[str, Kit], *, results: Path, reach: Path
    ) -> None:
        self._mutants = mutants
        self._kits = kits
        self._results = results
        self._reach = reach
        self._failed: set[str] = set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Try the mutants, after the tests have been tried without any."""
        session.config.pluginmanager.unregister(name="terminalreporter")
        loaded = loaded_functions()
        every = {each.nodeid: each for each in session.items}
        others = {name: each for name, each in every.items() if twin_of(name) in every}
        items = {name: each for name, each in every.items() if name not in others}
        changes = [str(each.change) for each in self._mutants]
        known = read_reach(self._reach, changes)
        new = [each for name, each in items.items() if name not in known]
        if new:
            in_a_fork(lambda: self._look(loaded, new))
        known = read_reach(self._reach, changes)
        reaching: dict[int, dict[str, float]] = {number: {} for number in range(len(changes))}
        for name, reached in known.items():
            for number in reached.mutants if name in items else ():
                reaching[number][name] = reached.seconds
        twins = {twin_of(name): each for name, each in others.items()}
        self._check(items.values())
        for number, mutant in enumerate(self._mutants):
            seconds = reaching[number]
            tests = choose(seconds)
            chosen = [items[name] for name in tests]
            chosen += [twins[name] for name in tests[:FEW] if name in twins]
            self._try(loaded, mutant, chosen, 2 * sum(seconds[name] for name in tests))
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember the tests that fail."""
        if report.failed:
            self._failed.add(report.nodeid)

    def _look(self, loaded: Loaded, tests: Sequence[pytest.Item]) -> None:
        """Note what each test reaches; one that fails without a fault can't judge any."""
        reached: set[int] = set()
        probe(loaded, self._mutants, reached)
        with self._reach.open("a", encoding="utf-8") as file:
            print(json.dumps([str(each.change) for each in self._mutants]), file=file)
            for test, after in zip_longest(tests, tests[1:]):
                reached.clear()
                began = time.process_time()
                run_item(test, after)
                seconds = round(time.process_time() - began, 4)
                wanted = [] if test.nodeid in self._failed else sorted(reached)
                print(json.dumps([test.nodeid, seconds, wanted]), file=file, flush=True)

    def _check(self, tests: Iterable[pytest.Item]) -> None:
        """See that tests pass where mutants are tried, as long as there is no fault.

        Raises:
            RuntimeError: one fails; so it would for each mutant.
        """
        few = [*tests][:FEW]

        def attempt(note: Callable[[str], None]) -> None:
            for test, after in zip_longest(few, few[1:]):
                note(test.nodeid)
                run_item(test, after)
                if self._failed:
                    os._exit(1)

        failed, by = tried(attempt, SPARE)
        if failed:
            message = f"{by} fails without a fault"
            raise RuntimeError(message)

    def _try(
        self, loaded: Loaded, mutant: Mutant, tests: Sequence[pytest.Item], expected: float
    ) -> None:
        """Try one mutant, and write down what comes of it.

        Args:
            loaded: the functions of the library.
            mutant: what is tried.
            tests: those that are to notice it.
            expected: how many seconds of processor time they take.
        """

        def attempt(note: Callable[[str], None]) -> None:
            try:
                install(loaded, mutant)
            except (LookupError, ValueError, SyntaxError):
                os._exit(UNFIT)
            for test, after in zip_longest(tests, tests[1:]):
                note(test.nodeid)
                run_item(test, after)
                if self._failed:
                    os._exit(1)
            for name, kit in self._kits.items():
                note(name)
                kit()

        began = time.monotonic()
        is_killed, by = tried(attempt, SPARE + 4 * expected)
        verdict = Verdict(is_killed, by if is_killed else "", len(tests))
        took = round(time.monotonic() - began, 1)
        with self._results.open("a", encoding="utf-8") as file:
            print(json.dumps([mutant.part, *mutant.change, *verdict, took]), file=file)


def twin_of(name: str) -> str:
    """Return the name of the same test on trio, for one on asyncio; else an empty one."""
    test, _, how = name.partition("[")
    return f"{test}[{how.replace('asyncio', 'trio')}" if "asyncio" in how else ""


def read_reach(path: Path, changes: Sequence[str]) -> dict[str, Reached]:
    """Read what each test reaches of some changes, if it was looked for all of them."""
    found: dict[str, Reached] = {}
    numbers: dict[int, int] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            first, *rest = json.loads(line)
            if rest and isinstance(rest[0], float | int):
                seconds, reached = rest
                if len(numbers) == len(changes):
                    mutants = [numbers[each] for each in reached if each in numbers]
                    found[first] = Reached(seconds, mutants)
            else:
                places = {change: number for number, change in enumerate([first, *rest])}
                numbers = {
                    places[change]: number
                    for number, change in enumerate(changes)
                    if change in places
                }
    return found


def choose(seconds: Mapping[str, float]) -> list[str]:
    """Put the tests into the order in which they are tried."""
    files: dict[str, list[str]] = {}
    for name in sorted(seconds, key=seconds.__getitem__):
        files.setdefault(name.partition("::")[0], []).append(name)
    lines = sorted(files.values(), key=len, reverse=True)
    few = [name for name in chain.from_iterable(zip_longest(*lines)) if name is not None][:FEW]
    rest: list[str] = []
    total = sum(seconds[name] for name in few)
    for name in sorted(seconds.keys() - set(few), key=seconds.__getitem__):
        total += seconds[name]
        if total > LONGEST:
            break
        rest.append(name)
    order = {name: number for number, name in enumerate(seconds)}
    return [*few, *sorted(rest, key=order.__getitem__)]


def run_item(item: pytest.Item, after: pytest.Item | None) -> None:
    """Run one test."""
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)


def in_a_fork(work: Callable[[], object]) -> None:
    """Do something in a process of its own, so that nothing of it stays here."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with os.fdopen(os.dup(2), "w") as told:
                silence()
                try:
                    work()
                    code = 0
                except Exception:
                    traceback.print_exc(file=told)
                    raise
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if status != 0:
        message = f"the tests could not be tried without a fault: status {status}"
        raise RuntimeError(message)


def silence() -> None:
    """Let nothing be written to the terminal."""
    empty = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(empty, number)
    os.close(empty)


def tried(work: Callable[[Callable[[str], None]], None], seconds: float) -> tuple[bool, str]:
    """Do something in a process of its own, that may use so much processor time.

    Args:
        work: what to do; it is given a function that notes what comes next.
        seconds: the limit.

    Returns:
        Whether it failed, and what it was about to do then.
    """
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setsid()
            os.close(readable)
            silence()
            limit = int(seconds) + 1
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
            resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
            work(lambda name: void(os.write(writable, f"{name}\n".encode())))
            code = 0
        finally:
            os._exit(code)
    os.close(writable)
    notes, status = watch(child, readable)
    os.close(readable)
    last = notes.decode(errors="replace").splitlines()[-1:] or ["as it is installed"]
    if status is None:
        return True, f"{last[0]} (hangs)"
    if os.WIFSIGNALED(status):
        return True, f"{last[0]} ({signal.Signals(os.WTERMSIG(status)).name})"
    if os.WEXITSTATUS(status) == UNFIT:
        message = "a mutant could not be put in place"
        raise RuntimeError(message)
    return status != 0, last[0]


def void(_: object) -> None:
    """Return nothing."""


def watch(child: int, readable: int) -> tuple[bytes, int | None]:
    """Wait for a process; end it, with all that it started, if it hangs.

    Returns:
        What it noted, and its status; None if it hung.
    """
    os.set_blocking(readable, False)
    notes = b""
    used, since = -1.0, time.monotonic()
    status: int | None = None
    while True:
        time.sleep(0.02)
        notes = notes[-10_000:] + read_all(readable)
        ended, code = os.waitpid(child, os.WNOHANG)
        if ended:
            status = code
            break
        now = used_by(child)
        if now != used:
            used, since = now, time.monotonic()
        elif time.monotonic() - since > STILL:
            break
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if status is None:
        os.waitpid(child, 0)
    return notes, status


def read_all(readable: int) -> bytes:
    """Read what is there."""
    try:
        return os.read(readable, 1_000_000)
    except BlockingIOError:
        return b""


def used_by(process: int) -> float:
    """Tell how much processor time a process has used; it differs while it waits for some."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    running = time.monotonic() if fields[0] in "RD" else 0
    return int(fields[11]) + int(fields[12]) + running


def run(
    folders: Iterable[str],
    mutants: Sequence[Mutant],
    kits: Mapping[str, Kit],
    *,
    results: Path,
    reach: Path,
) -> None:
    """Collect the tests in some folders, and try the mutants with them and with the kits."""
    trial = Trial(mutants, kits, results=results, reach=reach)
    arguments: list[Any] = ["-q", "--assert=plain", "-p", "no:cacheprovider", *folders]
    code = pytest.main(arguments, plugins=[trial])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        message = f"the tests ended with {code!r}"
        raise RuntimeError(message)
