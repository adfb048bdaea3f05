"""Examine a bus, a component, or a transport, clause by clause (P1).

A `Subject` stands for what is examined: it runs a *case*, and shows it as Python. A case is a
script, which is data, or a program, which is an async function. For each clause, in the contract's
order:

1. Hypothesis draws a case of the clause. All is drawn before an event loop starts; the schedule of
   the tasks is a part of the case.
2. The subject runs the case in a new event loop, and returns a trace of what happened.
3. The clause judges the trace; a program also claims by itself. A complaint, or an exception that
   left the case, means that the case breaks the clause.
4. Once a case breaks it, Hypothesis shrinks that, if it can do so well; then parts of the smallest
   case are left out, one at a time, as long as what is left still breaks the clause.
5. The smallest case becomes a `ContractViolation`, with its program, its history, and the seed.

After `examples` cases without a complaint the clause holds. A clause that has no cases, or needs
what the subject does not offer, is not tried. What the user's factory raises is no violation: it
ends the examination. Meanwhile the library's log is kept from the user's.
"""

from __future__ import annotations

import logging
import secrets
import threading
from abc import ABC, abstractmethod
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from random import Random
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, Self, TypeVar, final

import anyio
import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity
from hypothesis.errors import Flaky

from flexiflow._cancellation import leaves
from flexiflow.testing._examiner.program import buses_yield, operations
from flexiflow.testing._examiner.trace import Trace
from flexiflow.testing._examiner.violation import EXAMPLES, ContractViolation
from flexiflow.testing._scheduling.backends import run_scheduled
from flexiflow.testing._scheduling.checks import check_backend, check_int
from flexiflow.testing._scheduling.failures import TasksLeft

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator

    from hypothesis import strategies as st

    from flexiflow.testing._examiner.clause import Clause
    from flexiflow.testing._examiner.program import Case

_logger = logging.getLogger("flexiflow")
only_one: Final = threading.Lock()
_OPEN: Final = {"disabled": False, "filters": (), "propagate": False}
_T = TypeVar("_T")
_H = TypeVar("_H", bound=logging.Handler)


class FactoryFailed(BaseException):
    """A factory raised something, which is not the fault of what it makes.

    It is no `Exception`: Hypothesis would take that for a failure, and try it again.
    """

    def __init__(self, reason: BaseException) -> None:
        self.reason = reason


def unblamed(factory: Callable[..., _T]) -> Callable[..., _T]:
    """Return the same factory, except that what it raises ends the whole examination."""

    @wraps(factory)
    def make(*arguments: Any, **options: Any) -> _T:
        with out_of_factory():
            return factory(*arguments, **options)

    return make


@contextmanager
def out_of_factory() -> Generator[None]:
    """Mark what the block raises as a factory's, which ends the whole examination."""
    try:
        yield
    except BaseException as exc:
        raise FactoryFailed(exc) from exc


class Log(ExitStack):
    """Keeps what is logged on purpose from the user's log, for one thread at a time."""

    def __enter__(self) -> Self:
        self.enter_context(only_one)
        # A checker sees all records, however the user has set up the log.
        for name, value in _OPEN.items():
            self.callback(setattr, _logger, name, getattr(_logger, name))
            setattr(_logger, name, value)
        self.callback(_logger.setLevel, _logger.level)
        _logger.setLevel(logging.DEBUG)
        self.callback(logging.disable, logging.root.manager.disable)
        logging.disable(logging.NOTSET)
        self.enter(logging.NullHandler())
        return super().__enter__()

    def enter(self, handler: _H) -> _H:
        """Add a handler, which sees what is logged from now on."""
        _logger.addHandler(handler)
        self.callback(_logger.removeHandler, handler)
        return handler


_Traced = TypeVar("_Traced", bound=Trace)

_SETTINGS: Final = hypothesis.settings(
    database=None,
    deadline=None,
    derandomize=False,
    phases=[Phase.generate, Phase.shrink],
    print_blob=False,
    report_multiple_bugs=False,
    suppress_health_check=[
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
        HealthCheck.large_base_example,
        HealthCheck.nested_given,
        HealthCheck.too_slow,
    ],
    verbosity=Verbosity.quiet,
)


@final
@dataclass(frozen=True)
class Verdict:
    """The result of examining one clause.

    Attributes:
        clause: the clause.
        examples: how many cases were tried, up to the one that broke it; 0 if it was not checked.
        violation: how it is broken, or None if it held.
        lacks: what the subject would have to offer for the clause to be checked.
    """

    clause: Clause
    examples: int
    violation: ContractViolation | None
    lacks: tuple[str, ...] = ()


class Subject(ABC, Generic[_Traced]):
    """A bus, an engine with its components, or a transport, as it is examined.

    Args:
        backend: the backend on which it runs.
        trace: the type of its traces.

    Attributes:
        offers: the optional parts that it has, which a clause may need.
    """

    offers: frozenset[str] = frozenset()

    def __init__(self, backend: str, trace: type[_Traced]) -> None:
        check_backend(backend)
        self.backend = backend
        self._new_trace = trace

    @abstractmethod
    def show(self, case: Case) -> str:
        """Return a case as a program that anyone can run."""

    @abstractmethod
    def play(self, case: Case, trace: _Traced, log: Log) -> None:
        """Run a case to its end, and note in the trace what happens."""

    def attempt(self, case: Case) -> _Traced:
        """Run a case to its end, and return its trace."""
        trace = self._new_trace()
        try:
            with Log() as log:
                self.play(case, trace, log)
        except TasksLeft as exc:
            trace.tasks_left = exc.names
        except BaseException as exc:  # noqa: BLE001  whatever a faulty subject lets out
            self.note_left(exc, trace)
        return trace

    def note_left(self, exception: BaseException, trace: _Traced) -> None:
        """Note what left a case; raise it if it is Ctrl-C, or comes from a factory."""
        found = [*leaves(exception)]
        for leaf in found:
            if isinstance(leaf, KeyboardInterrupt | FactoryFailed):
                raise leaf from None
        if self.is_left_by(found, trace):
            trace.left = exception

    def is_left_by(self, found: list[BaseException], trace: _Traced) -> bool:  # noqa: ARG002
        """Return whether a case was left by any of these exceptions."""
        return True

    def examine_further(self, verdict: Verdict, seed: int) -> Verdict:  # noqa: ARG002
        """Examine a clause beyond its cases, and return the verdict."""
        return verdict

    def run(self, main: Callable[[], Awaitable[None]], case: Case, trace: _Traced) -> None:
        """Run an async function in an event loop of its own, under the schedule of a case."""

        async def watch() -> None:
            trace.cancellation = anyio.get_cancelled_exc_class()
            await main()

        run_scheduled(
            watch,
            backend=self.backend,
            decisions=case.decisions,
            buses_yield=buses_yield(case),
        )


def examine(
    new_subject: Callable[..., Subject[Any]],
    clauses: Iterable[Clause],
    *given: Any,
    examples: int = EXAMPLES,
    seed: int | None = None,
    **options: Any,
) -> Iterator[Verdict]:
    """Try to break one clause after another, and yield its verdict.

    Args:
        new_subject: the type of what is examined.
        clauses: the clauses.
        given: what the subject is made from.
        examples: how many cases a clause is tried with.
        seed: draws the same cases again; if None, one is drawn.
        options: what else the subject is made from, the backend among them.

    Raises:
        Exception: what `check_bus` raises, except for a violation; already at the call.
    """
    # First, since making the subject calls what the user has given.
    check_int("examples", examples, least=1)
    if seed is None:
        seed = secrets.randbits(32)
    check_int("seed", seed, least=0)
    return _examine(new_subject(*given, **options), clauses, examples, seed)


def _examine(
    subject: Subject[Any], clauses: Iterable[Clause], examples: int, seed: int
) -> Iterator[Verdict]:
    for clause in clauses:
        try:
            verdict = subject.examine_further(_search(clause, subject, examples, seed), seed)
        except FactoryFailed as exc:
            raise exc.reason from None
        yield verdict


def _search(clause: Clause, subject: Subject[Any], examples: int, seed: int) -> Verdict:
    """Search for a case that breaks a clause."""
    lacks = tuple(need for need in clause.needs if need not in subject.offers)
    if clause.cases is None or lacks:
        return Verdict(clause, 0, None, lacks)
    return _Search(clause, clause.cases, subject).run(examples, seed)


class _Broken(Exception):
    """Raised when a case breaks the clause, for Hypothesis to find and to shrink."""


class _Search:
    """The search for a case that breaks a clause."""

    def __init__(
        self, clause: Clause, cases: st.SearchStrategy[Case], subject: Subject[Any]
    ) -> None:
        self._clause = clause
        self._cases = cases
        self._subject = subject
        self._tried = 0
        self._found: list[tuple[Case, str, Trace]] = []

    def run(self, examples: int, seed: int) -> Verdict:
        """Try at most so many cases; make the first that breaks the clause as small as possible.

        At most as many scenes are tried before that.
        """
        scenes = self._clause.scenes
        for case in Random(seed).sample(scenes, min(examples, len(scenes))):  # noqa: S311
            self._tried += 1
            if self._breaks(case):
                return Verdict(self._clause, self._tried, self._violation(seed))
        drawing = hypothesis.given(self._cases)(self._attempt)
        phases = _SETTINGS.phases if self._clause.is_shrunk else (Phase.generate,)
        settings = hypothesis.settings(_SETTINGS, max_examples=examples, phases=phases)
        try:
            hypothesis.seed(seed)(settings(drawing))()
        except (_Broken, Flaky):
            # A flaky case, too, broke the clause once.
            return Verdict(self._clause, self._tried, self._violation(seed))
        return Verdict(self._clause, self._tried, None)

    def _attempt(self, case: Case) -> None:
        self._tried += not self._found
        if self._breaks(case):
            self._break()

    def _break(self) -> NoReturn:
        # Always from the same line, so that Hypothesis takes all of them for one bug.
        raise _Broken

    def _breaks(self, case: Case) -> bool:
        trace = self._subject.attempt(case)
        complaint = self._clause.judge(trace)
        if complaint is not None:
            # Only the last one is used, and a trace holds all that happened.
            self._found = [(case, complaint, trace)]
        return complaint is not None

    def _violation(self, seed: int) -> ContractViolation:
        # Of the smallest case that Hypothesis found, more can often be left out.
        while any(map(self._breaks, self._found[0][0].smaller())):
            pass
        [(case, complaint, trace)] = self._found
        return ContractViolation(
            clause=self._clause.identifier,
            sentence=self._clause.sentence,
            complaint=complaint,
            counterexample=self._subject.show(case),
            history=trace.story(),
            operations=operations(case),
            backend=self._subject.backend,
            seed=seed,
        )
