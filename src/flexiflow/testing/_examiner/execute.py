"""What surrounds an examination: the log, kept from the user's, and the blame of a factory."""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

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
