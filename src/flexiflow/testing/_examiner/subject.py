"""What is examined: a `Subject` runs a case, and shows it as Python.

What the user's factory raises is no fault of what it makes, so it ends the examination. While a
case runs, the library's log is kept from the user's.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Self, TypeVar

import anyio

from flexiflow._cancellation import leaves
from flexiflow.testing._examiner.trace import Trace
from flexiflow.testing._scheduling.backends import run_scheduled
from flexiflow.testing._scheduling.checks import check_backend
from flexiflow.testing._scheduling.failures import TasksLeft

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable

    from hypothesis import strategies as st

    from flexiflow.testing._examiner.clause import Clause
    from flexiflow.testing._examiner.program import Case
    from flexiflow.testing._examiner.verdict import Verdict

_logger = logging.getLogger("flexiflow")
only_one: Final = threading.Lock()
_OPEN: Final = {"disabled": False, "filters": (), "propagate": False}
_T = TypeVar("_T")
_H = TypeVar("_H", bound=logging.Handler)
_Traced = TypeVar("_Traced", bound=Trace)


class FactoryFailed(BaseException):
    """A factory raised something, which is not the fault of what it makes.

    It is no `Exception`: Hypothesis would take that for a failure, and try it again.
    """

    def __init__(self, reason: BaseException) -> None:
        self.reason = reason


class NotOffered(BaseException):
    """A program uses something that the subject lacks, so it can't be tried.

    It is no `Exception`, so that no program takes it for an answer.
    """

    def __init__(self, lacks: Iterable[str]) -> None:
        super().__init__(*lacks)
        self.lacks = tuple(lacks)


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


class Subject(ABC, Generic[_Traced]):
    """A bus, an engine with its components, or a transport, as it is examined.

    Args:
        backend: the backend on which it runs.
        trace: the type of its traces.

    Attributes:
        kind: what it is, in a word.
        repeats: how often a case that breaks a clause is run again, to see whether it is flaky.
        offers: the optional parts that it has, which a clause may need.
    """

    kind: ClassVar[str]
    repeats: ClassVar[int] = 3
    offers: frozenset[str] = frozenset()

    def __init__(self, backend: str, trace: type[_Traced]) -> None:
        check_backend(backend)
        self.backend = backend
        self._new_trace = trace

    @abstractmethod
    def show(self, case: Case, clause: str) -> str:
        """Return a case as a program that fails with an assertion if it breaks the clause."""

    @abstractmethod
    def imports(self) -> list[str]:
        """Return the lines of Python that import what the user has given."""

    def arguments(self) -> str:
        """Return what the user has given, as the arguments of the check."""
        return "factory"

    @abstractmethod
    def play(self, case: Case, trace: _Traced, log: Log) -> None:
        """Run a case to its end, and note in the trace what happens."""

    def fit(self, case: Case, needs: tuple[str, ...]) -> Case:
        """Return a case without what the subject lacks, as far as the needs of a clause allow."""
        return case

    def attempt(self, case: Case) -> _Traced:
        """Run a case to its end, and return its trace."""
        return self.watch(partial(self.play, case))

    def watch(self, play: Callable[[_Traced, Log], None]) -> _Traced:
        """Call a function that runs something to its end, and return the trace."""
        trace = self._new_trace()
        try:
            with Log() as log:
                play(trace, log)
        except TasksLeft as exc:
            trace.tasks_left = exc.names
        except BaseException as exc:  # noqa: BLE001  whatever a faulty subject lets out
            self.note_left(exc, trace)
        return trace

    def note_left(self, exception: BaseException, trace: _Traced) -> None:
        """Note what left a case; raise what says nothing of the clause."""
        found = [*leaves(exception)]
        for leaf in found:
            if isinstance(leaf, KeyboardInterrupt | FactoryFailed | NotOffered):
                raise leaf from None
        if self.is_left_by(found, trace):
            trace.left = exception

    def is_left_by(self, found: list[BaseException], trace: _Traced) -> bool:
        """Return whether a case was left by any of these exceptions."""
        return True

    def cases_of(self, clause: Clause, cases: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
        """Draw what a clause is tried with, which has these cases."""
        return cases

    def scenes_of(self, clause: Clause) -> tuple[Case, ...]:
        """Return the cases that a clause is tried with before any are drawn."""
        return clause.scenes

    def examine_further(self, verdict: Verdict, examples: int, seed: int) -> Verdict:
        """Examine a clause beyond its cases, and return the verdict."""
        return verdict

    def run(
        self, main: Callable[[], Awaitable[None]], decisions: tuple[int, ...], trace: _Traced
    ) -> None:
        """Run an async function in an event loop of its own, under a schedule.

        Buses yield at every publish, except where there is no schedule.
        """

        async def watch() -> None:
            trace.cancellation = anyio.get_cancelled_exc_class()
            await main()

        run_scheduled(watch, backend=self.backend, decisions=decisions, buses_yield=bool(decisions))
