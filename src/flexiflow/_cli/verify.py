"""`flexiflow verify`: check an object against its contract, or what is claimed of one (P1)."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import redirect_stdout
from errno import EBADF
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from flexiflow._cli.checks import load_target, try_contract, try_crashes, try_machine
from flexiflow._cli.choices import HOOKS, arguments_of, check_fit
from flexiflow._cli.display import open_display
from flexiflow._cli.found import check_free, write_tests
from flexiflow._cli.output import write
from flexiflow._cli.problems import CannotRun
from flexiflow._cli.session import report_writing_failure
from flexiflow._cli.target import unusable
from flexiflow.testing import ContractViolation
from flexiflow.testing._examiner.errors import traceback_of_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

    from flexiflow._cli.checks import Row, Target
    from flexiflow._cli.choices import Options
    from flexiflow._cli.display import Display

_T = TypeVar("_T")
BACKENDS: Final = ("asyncio", "trio")

_ROW: Final = "{:<8} {:<7} {:<12} {:>8}  {}"


def verify(options: Options) -> int:
    """Verify what a target names, show a table and what was found, and return the exit status.

    Raises:
        CannotRun: the target can't be used, or Hypothesis is not installed.
    """
    output: TextIO | None = sys.stdout
    # Standard output is for the table alone, so what the target prints goes elsewhere.
    with redirect_stdout(sys.stderr), open_display() as display:
        if output is None:
            closed = OSError(EBADF, "standard output is closed")
            return report_writing_failure(closed, display.tell)
        try:
            path = options.given.get("write")
            if path is not None:
                check_free(path)
            target = load_target(options.target, options.contract)
            check_fit(target, options)
            verification = _Verification(target, display, output)
            verification.run(arguments_of(target, options))
            if path is not None:
                targets = [
                    options.given[each] for each in ("engine", *HOOKS) if each in options.given
                ]
                told = write_tests(path, [target.name, *targets], verification.violations)
                display.tell(f"flexiflow: {told}")
            return verification.sum_up()
        except OSError as exc:
            return report_writing_failure(exc, display.tell)


@final
class _Verification:
    """One run of `flexiflow verify`.

    Attributes:
        violations: the violations that were found.
    """

    def __init__(self, target: Target, display: Display, output: TextIO) -> None:
        self._target = target
        self._display = display
        self._output = output
        self._words = Counter(held=0, violated=0)
        self._below: list[str] = []
        self._total = 0
        self._seed: int | None = None
        self._is_broken = False
        self.violations: list[ContractViolation] = []

    def run(self, given: dict[str, Any]) -> None:
        """Run the check on each backend, and show the results.

        Args:
            given: its arguments.
        """
        self._seed = given.get("seed")
        backends = self._choose(given.pop("backend", None))
        begin, total = self._prepare(given)
        self._total = total * len(backends)
        begun = [(name, self._begin(begin, name)) for name in backends]
        for backend, rows in begun:
            self._display.update(self._progress(backend))
            while (row := self._made(partial(next, rows, None))) is not None:
                self._take(backend, row)
                self._display.update(self._progress(backend))
        for text in self._below:
            self._show(f"\n{text}")
        self._display.make_way()

    def _choose(self, given: str | None) -> tuple[str, ...]:
        if given is not None:
            return (given,)
        installed = tuple(filter(find_spec, BACKENDS))
        if len(installed) < len(BACKENDS):
            self._display.tell("flexiflow: trio is not installed: verified on asyncio alone")
        return installed

    def _prepare(self, given: dict[str, Any]) -> tuple[Callable[[str], Iterator[Row]], int]:
        """Return what begins the check on a backend, and how many clauses it tries, if known."""
        match self._target.kind:
            case "machine":
                return partial(try_machine, given), 0
            case "crash":
                return partial(try_crashes, given), 0
            case kind:
                return try_contract(kind, given)

    def _begin(self, begin: Callable[[str], Iterator[Row]], backend: str) -> Iterator[Row]:
        self._display.update(f"{backend}: {self._target.does}")
        return self._made(partial(begin, backend))

    def _made(self, call: Callable[[], _T]) -> _T:
        """Call a function that runs the user's code; any exception that it raises is the user's."""
        try:
            return call()
        except KeyboardInterrupt:
            raise
        except BaseException as exc:
            what = f"{self._target.does} raised"
            found = unusable(self._target.name, what, exc, traceback_of_user(exc))
            if isinstance(exc, TypeError) and self._target.is_taken_for_bus:
                hint = "; what makes no bus needs --contract, or is a partial of its check"
                raise CannotRun(found.reason + hint, found.traceback) from exc
            raise found from exc

    def _take(self, backend: str, row: Row) -> None:
        if not self._words.total():
            self._show(_ROW.format("backend", "clause", "verdict", "examples", "what is promised"))
        self._words[row.word] += 1
        self._show(_ROW.format(backend, row.clause, row.word, row.tried, row.promise))
        self._below += [str(each) for each in (row.found, row.report) if each]
        self._is_broken |= row.found is not None
        if isinstance(row.found, ContractViolation):
            self.violations.append(row.found)

    def sum_up(self) -> int:
        """Tell how often there was which verdict, and the seed; return the exit status."""
        seed = "" if self._seed is None else f", seed: {self._seed}"
        status = 1 if self._is_broken else 0
        self._display.sum_up(f"{self._counts()}{seed}", status)
        return status

    def _progress(self, backend: str) -> str:
        done = f"{self._words.total()} of {self._total} clauses"
        begun = done if self._total else f"{backend}: {self._target.does}"
        return f"{begun}, {self._counts()}"

    def _counts(self) -> str:
        return ", ".join(f"{word}: {count}" for word, count in self._words.items())

    def _show(self, text: str) -> None:
        self._display.make_way()
        write(self._output, text)
