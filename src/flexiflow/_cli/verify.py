"""`flexiflow verify`: a bus run through the contract, clause by clause (P1)."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, final

from flexiflow._cli.display import open_display
from flexiflow._cli.problems import CannotRun
from flexiflow._cli.session import report_writing_failure
from flexiflow._cli.target import load, unusable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

    from flexiflow._cli.display import Display
    from flexiflow.testing import ContractViolation
    from flexiflow.testing._examine import Verdict

BACKENDS: Final = ("asyncio", "trio")

_ROW: Final = "{:<8} {:<7} {:<9} {:>8}  {}"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `flexiflow verify` is asked for.

    Attributes:
        target: names a function, or a class, that makes a bus.
        backends: what to verify it on; none for every one that is installed.
        examples: how many programs a clause is tried with.
        seed: what draws the programs.
    """

    target: str
    backends: tuple[str, ...]
    examples: int
    seed: int


def verify(options: Options) -> int:
    """Examine what the target makes, show a table and each violation, and return the exit status.

    Raises:
        CannotRun: the target can't be used, or Hypothesis is not installed.
    """
    output = sys.stdout
    # Standard output is for the table alone, so what the target prints goes elsewhere.
    with redirect_stdout(sys.stderr), open_display() as display:
        try:
            return _Verification(options, display, output).run()
        except OSError as exc:
            return report_writing_failure(exc, display.tell)


@final
class _Verification:
    """One run of `flexiflow verify`."""

    def __init__(self, options: Options, display: Display, output: TextIO | None) -> None:
        self._options = options
        self._display = display
        self._output = output
        self._violations: list[ContractViolation] = []
        self._held = 0

    def run(self) -> int:
        """Examine, and show what comes of it."""
        examine, factory = _import_examine(), self._load()
        backends = self._options.backends or tuple(filter(find_spec, BACKENDS))
        if not self._options.backends and len(backends) < len(BACKENDS):
            self._display.tell("flexiflow: trio is not installed: verified on asyncio alone")
        examinations = [(name, self._begin(examine, factory, name)) for name in backends]
        self._show(_ROW.format("backend", "clause", "verdict", "examples", "what is promised"))
        for backend, verdicts in examinations:
            for verdict in verdicts:
                self._take(backend, verdict)
        return self._sum_up()

    def _load(self) -> Callable[[], Any]:
        factory = load(self._options.target)
        if not callable(factory):
            raise CannotRun(
                f"target {self._options.target!r} must be a function, or a class, that makes a "
                f"bus; it is no callable, but of type {type(factory).__qualname__}"
            )
        return factory

    def _begin(
        self, examine: Callable[..., Iterator[Verdict]], factory: Callable[[], Any], backend: str
    ) -> Iterator[Verdict]:
        self._display.update(f"{backend}: making a bus")
        try:
            return examine(
                factory,
                backend=backend,
                examples=self._options.examples,
                seed=self._options.seed,
            )
        except KeyboardInterrupt:
            raise
        except BaseException as exc:
            raise unusable(self._options.target, "making a bus raised", exc) from exc

    def _take(self, backend: str, verdict: Verdict) -> None:
        clause, violation = verdict.clause, verdict.violation
        if violation is None:
            self._held += 1
        else:
            self._violations.append(violation)
        word = "held" if violation is None else "violated"
        row = (backend, clause.identifier, word, verdict.examples, clause.title)
        self._show(_ROW.format(*row))
        self._display.update(self._counts())

    def _sum_up(self) -> int:
        for violation in self._violations:
            self._show(f"\n{violation}")
        self._display.make_way()
        self._display.tell(f"{self._counts()}, seed: {self._options.seed}")
        return 1 if self._violations else 0

    def _counts(self) -> str:
        return f"held: {self._held}, violated: {len(self._violations)}"

    def _show(self, text: str) -> None:
        self._display.make_way()
        print(text, file=self._output, flush=True)


def _import_examine() -> Callable[..., Iterator[Verdict]]:
    # Imported only here: what the kit needs is an extra of its own.
    try:
        from flexiflow.testing._examine import examine  # noqa: PLC0415
    except ModuleNotFoundError as exc:
        if exc.name != "hypothesis":
            raise
        raise CannotRun(
            "verify needs Hypothesis, which is not installed: pip install flexiflow[testing]"
        ) from None
    return examine
