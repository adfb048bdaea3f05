"""Run a case on a bus, and return the trace of what happened.

The examiners of components and transports share `Log`, which keeps what is logged on purpose from
the user's log, and `FactoryFailed`, which ends an examination.
"""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import anyio

from flexiflow._cancellation import leaves
from flexiflow.testing._program import buses_yield, define, mains
from flexiflow.testing._recorder import Recorder
from flexiflow.testing._scheduling.backends import run_scheduled
from flexiflow.testing._scheduling.failures import TasksLeft
from flexiflow.testing._script import Script
from flexiflow.testing._trace import Trace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from types import CodeType

    from flexiflow.testing._program import Case

METHODS = ("subscribe", "unsubscribe", "unsubscribe_all", "publish")

_logger = logging.getLogger("flexiflow")
only_one: Final = threading.Lock()
_OPEN: Final = {"disabled": False, "filters": (), "propagate": False}
_T = TypeVar("_T")
_H = TypeVar("_H", bound=logging.Handler)


def probe(factory: Callable[[], object], backend: str) -> bool:
    """Call a factory, and return whether its result has to be awaited.

    Raises:
        TypeError: it isn't callable, or what it makes lacks one of the methods of a bus, or is the
            same bus again.
    """
    if not callable(factory):
        raise TypeError(f"factory must be callable without arguments, not {factory!r}")

    async def make() -> tuple[object, object, bool]:
        made: Any = factory()
        again: Any = factory()
        if isawaitable(made):
            return await made, await again, True
        return made, again, False

    with Log():
        bus, again, is_async = run_scheduled(make, backend=backend)
    missing = [name for name in METHODS if not callable(getattr(bus, name, None))]
    if missing:
        raise TypeError(
            f"factory must make a bus, with the methods {', '.join(METHODS)}, "
            f"not {bus!r}, which lacks {', '.join(missing)}"
        )
    if again is bus:
        raise TypeError(f"factory must make a new bus each time, not {bus!r} again")
    return is_async


def execute(
    case: Case, factory: Callable[[], Any], *, backend: str, is_async: bool = False
) -> Trace:
    """Run a case to its end, and return its trace.

    A script gets a recorder in place of the bus; a program, which asserts, gets the bus itself.
    """
    trace = Trace()
    namespace: dict[str, Any] = {"print": be_silent}

    def disguise(bus: object) -> object:
        if not isinstance(case, Script):
            return bus
        return log.enter(Recorder(bus, trace, namespace.get("mark")))

    async def make() -> object:
        with _out_of_factory():
            return disguise(await factory())

    def make_at_once() -> object:
        return disguise(factory())

    if is_async:
        namespace["factory"] = make
    else:
        # If a second run is to come, the factory is called outside of any loop. That is tried too:
        # what it raises breaks the clause (B1).
        namespace["factory"] = make_at_once if case.again else unblamed(make_at_once)
    with Log() as log:
        run(case, define(case, is_async=is_async), namespace, trace, backend)
    return trace


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
        with _out_of_factory():
            return factory(*arguments, **options)

    return make


@contextmanager
def _out_of_factory() -> Generator[None]:
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
