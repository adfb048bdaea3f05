"""`flexiflow verify`: check a bus, a component or a transport against its contract (P1)."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from errno import EBADF
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, final

from flexiflow import Component
from flexiflow._cli.display import open_display
from flexiflow._cli.found import check_free, write_tests
from flexiflow._cli.output import write
from flexiflow._cli.problems import CannotRun
from flexiflow._cli.session import report_writing_failure
from flexiflow._cli.target import load, unusable
from flexiflow.testing._examiner.errors import traceback_of_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import TextIO

    from flexiflow._cli.display import Display
    from flexiflow.testing import ContractViolation
    from flexiflow.testing._examiner.clause import Clause
    from flexiflow.testing._examiner.examine import Subject, Verdict

_T = TypeVar("_T")
BACKENDS: Final = ("asyncio", "trio")

HOOKS: Final = ("restart", "damage", "insert", "empty")
"""The names of the hooks that `check_transport` takes."""
_ROW: Final = "{:<8} {:<7} {:<11} {:>8}  {}"
_A: Final = {"bus": "a bus", "component": "a component", "transport": "a transport"}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The arguments of `flexiflow verify`.

    Attributes:
        target: names a function or class that makes the object to verify.
        contract: what kind of object that is; the clauses for that kind are tried.
        engine: names a function or class that makes an engine for components; None for `Engine`.
        hooks: the targets of the hooks for a transport, by their names in `HOOKS`.
        terms: further arguments of `check_transport`, by name.
        backends: the backends to verify on; none for all that are installed.
        examples: how many programs each clause is tried with.
        seed: the seed that the programs are drawn from.
        clauses: the names of the clauses to try; none for all of them.
        strict: whether a clause that needs what is not offered has failed.
        write: the file that the violations are written to, as tests, or None.
    """

    target: str
    contract: Literal["bus", "component", "transport"]
    engine: str | None = None
    hooks: Mapping[str, str] = field(default_factory=dict[str, str])
    terms: Mapping[str, float] = field(default_factory=dict[str, float])
    backends: tuple[str, ...]
    examples: int
    seed: int
    clauses: tuple[str, ...] = ()
    strict: bool = False
    write: str | None = None


def verify(options: Options) -> int:
    """Examine what the target makes, show a table and each violation, and return the exit status.

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
            return _Verification(options, display, output).run()
        except OSError as exc:
            return report_writing_failure(exc, display.tell)


@final
class _Verification:
    """One run of `flexiflow verify`."""

    def __init__(self, options: Options, display: Display, output: TextIO) -> None:
        self._options = options
        self._display = display
        self._output = output
        self._violations: list[ContractViolation] = []
        self._words = Counter(held=0, violated=0)
        self._total = 0

    def run(self) -> int:
        """Examine the object on each backend, show the results, and return the exit status."""
        if self._options.write is not None:
            check_free(self._options.write)
        examine, clauses = _prepare(self._options)
        backends = self._options.backends or tuple(filter(find_spec, BACKENDS))
        if not self._options.backends and len(backends) < len(BACKENDS):
            self._display.tell("flexiflow: trio is not installed: verified on asyncio alone")
        examinations = [(name, self._begin(examine, name)) for name in backends]
        self._show(_ROW.format("backend", "clause", "verdict", "examples", "what is promised"))
        self._total = len(clauses) * len(backends)
        self._display.update(self._progress())
        for backend, verdicts in examinations:
            while (verdict := self._made(partial(next, verdicts, None))) is not None:
                self._take(backend, verdict)
        return self._sum_up()

    def _begin(self, examine: Callable[..., Iterator[Verdict]], backend: str) -> Iterator[Verdict]:
        self._display.update(f"{backend}: making {_A[self._options.contract]}")
        how: dict[str, Any] = {"examples": self._options.examples, "seed": self._options.seed}
        return self._made(partial(examine, backend=backend, **how))

    def _made(self, call: Callable[[], _T]) -> _T:
        """Call a function that runs the factory; any exception that it raises is the factory's."""
        try:
            return call()
        except KeyboardInterrupt:
            raise
        except BaseException as exc:
            what = f"making {_A[self._options.contract]} raised"
            raise unusable(self._options.target, what, exc, traceback_of_user(exc)) from exc

    def _take(self, backend: str, verdict: Verdict) -> None:
        clause, word = verdict.clause, verdict.word
        self._words[word] += 1
        if verdict.violation is not None:
            self._violations.append(verdict.violation)
        row = (
            backend,
            clause.identifier,
            word,
            verdict.examples,
            clause.title + self._why(verdict),
        )
        self._show(_ROW.format(*row))
        self._display.update(self._progress())

    def _why(self, verdict: Verdict) -> str:
        """Return why a clause was not checked, or only in part, as text."""
        missing = verdict.missing
        return f" (this {self._options.contract} has {missing})" if missing else ""

    def _sum_up(self) -> int:
        for violation in self._violations:
            self._show(f"\n{violation}")
        self._display.make_way()
        if self._options.write is not None:
            targets = [self._options.target, self._options.engine, *self._options.hooks.values()]
            given = [target for target in targets if target is not None]
            told = write_tests(self._options.write, given, self._violations)
            self._display.tell(f"flexiflow: {told}")
        self._display.tell(f"{self._counts()}, seed: {self._options.seed}")
        return 1 if self._violations else 0

    def _progress(self) -> str:
        return f"{self._words.total()} of {self._total} clauses, {self._counts()}"

    def _counts(self) -> str:
        return ", ".join(f"{word}: {count}" for word, count in self._words.items())

    def _show(self, text: str) -> None:
        self._display.make_way()
        write(self._output, text)


def _prepare(options: Options) -> tuple[Callable[..., Iterator[Verdict]], Sequence[Clause]]:
    """Load the target; return the function that examines it, and the clauses that are tried.

    Raises:
        CannotRun: the target can't be used, there is no such clause, or Hypothesis is not
            installed.
    """
    subject, contract = _import_contract(options.contract)
    # Imported only here, as above.
    from flexiflow.testing._examiner.examine import examine  # noqa: PLC0415
    from flexiflow.testing._examiner.selection import select  # noqa: PLC0415

    factory = _load_factory(options.target, _A[options.contract])
    if options.contract == "bus":
        _refuse_components(options.target, factory)
    terms: dict[str, Any] = {**options.terms}
    terms |= {name: load(target) for name, target in options.hooks.items()}
    if options.contract == "component":
        engine = options.engine and _load_factory(options.engine, "an engine")
        terms["engine"] = engine or None
    try:
        clauses = select(contract, options.clauses or None)
    except ValueError as exc:
        raise CannotRun(f"--clause: {exc}") from None
    terms["strict"] = options.strict or bool(options.clauses)
    return partial(examine, subject, clauses, factory, **terms), clauses


def _import_contract(kind: str) -> tuple[type[Subject[Any]], Sequence[Clause]]:
    """Import what examines an object of some kind, and its contract.

    Raises:
        CannotRun: Hypothesis is not installed.
    """
    # Imported only here: the testing kit needs Hypothesis, which is an extra.
    try:
        from flexiflow.testing._bus.contract import CONTRACT  # noqa: PLC0415
        from flexiflow.testing._bus.subject import BusSubject  # noqa: PLC0415
        from flexiflow.testing._component.contract import COMPONENT_CONTRACT  # noqa: PLC0415
        from flexiflow.testing._component.subject import ComponentSubject  # noqa: PLC0415
        from flexiflow.testing._transport.contract import TRANSPORT_CONTRACT  # noqa: PLC0415
        from flexiflow.testing._transport.subject import TransportSubject  # noqa: PLC0415
    except ModuleNotFoundError as exc:
        if exc.name != "hypothesis":
            raise
        raise CannotRun(
            "verify needs Hypothesis, which is not installed: pip install flexiflow[testing]"
        ) from None
    contracts: dict[str, tuple[type[Subject[Any]], Sequence[Clause]]] = {
        "bus": (BusSubject, CONTRACT),
        "component": (ComponentSubject, COMPONENT_CONTRACT),
        "transport": (TransportSubject, TRANSPORT_CONTRACT),
    }
    return contracts[kind]


def _load_factory(target: str, what: str) -> Callable[..., Any]:
    factory = load(target)
    if not callable(factory):
        raise CannotRun(
            f"target {target!r} must be a function, or a class, that makes {what}; it is no "
            f"callable, but of type {type(factory).__qualname__}"
        )
    return factory


def _refuse_components(target: str, factory: object) -> None:
    if isinstance(factory, type) and issubclass(factory, Component):
        raise CannotRun(
            f"target {target!r} makes components, not buses; to verify those: --contract component"
        )
