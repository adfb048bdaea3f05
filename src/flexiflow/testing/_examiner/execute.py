"""Run a case, and note what leaves it.

`Log` keeps what is logged on purpose from the user's log; `FactoryFailed` ends an examination.
"""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import anyio

from flexiflow._cancellation import leaves
from flexiflow.testing._examiner.program import buses_yield, mains
from flexiflow.testing._scheduling.backends import run_scheduled
from flexiflow.testing._scheduling.failures import TasksLeft

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from types import CodeType

    from flexiflow.testing._examiner.program import Case
    from flexiflow.testing._examiner.trace import Trace

_logger = logging.getLogger("flexiflow")
only_one: Final = threading.Lock()
_OPEN: Final = {"disabled": False, "filters": (), "propagate": False}
_T = TypeVar("_T")
_H = TypeVar("_H", bound=logging.Handler)


def run(case: Case, source: str, namespace: dict[str, Any], trace: Trace, backend: str) -> None:
    """Run what a program defines, and note what leaves it."""
    try:
        # The text is our own. It is run as it is shown, so that what is shown was run.
        exec(_compiled(source), namespace)  # noqa: S102
        for name in mains(case):
            _run(partial(_watch, namespace[name], trace), case, backend)
    except TasksLeft as exc:
        trace.tasks_left = exc.names
    except BaseException as exc:  # noqa: BLE001  whatever a faulty bus lets out
        trace.left = _unless_for_others(exc)


def be_silent(*_: object) -> None:
    """Print nothing; replaces `print` in programs."""


def _run(main: Callable[[], Awaitable[None]], case: Case, backend: str) -> None:
    run_scheduled(main, backend=backend, decisions=case.decisions, buses_yield=buses_yield(case))


def _unless_for_others(exception: BaseException) -> BaseException:
    """Return what left a faulty bus; raise it if it is Ctrl-C or comes from a factory."""
    for leaf in leaves(exception):
        if isinstance(leaf, KeyboardInterrupt | FactoryFailed):
            raise leaf from None
    return exception


async def _watch(main: Callable[[], Awaitable[object]], trace: Trace) -> None:
    """Note which exceptions are cancellations here, and run the program."""
    trace.cancellation = anyio.get_cancelled_exc_class()
    await main()


class FactoryFailed(BaseException):
    """A factory raised something, which is not the fault of what it makes.

    It is no `Exception`: Hypothesis would take that for a failure, and try it again.
    """

    def __init__(self, reason: BaseException) -> None:
        self.reason = reason


def unblamed(factory: Callable[..., _T]) -> Callable[..., _T]:
    """Return the same factory, except that what it raises ends the whole examination."""

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


@lru_cache(maxsize=512)
def _compiled(source: str) -> CodeType:
    # Programs assert what is promised, also under `python -O`.
    return compile(source, "<program>", "exec", optimize=0)
