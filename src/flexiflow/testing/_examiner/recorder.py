"""What notes in a trace what happens, and how a function is wrapped for that."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from flexiflow.testing._examiner.trace import NOBODY, Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager

    from flexiflow.testing._examiner.trace import Trace

    Answers: TypeAlias = list[Any]
    Handed: TypeAlias = tuple[tuple[Any, ...] | None, Answers]
    Around: TypeAlias = Callable[..., AbstractContextManager[Handed]]

observing: ContextVar[bool] = ContextVar("observing", default=False)


class Recorder(logging.Handler, ABC):
    """Notes what happens, and what is logged.

    Args:
        trace: where to note it.
    """

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self._entries = trace.entries

    def note(
        self,
        what: str,
        value: object = None,
        *,
        seat: int = NOBODY,
        act: int = NOBODY,
        component: str = "",
    ) -> None:
        """Note that something happened, here and now."""
        task = anyio.get_current_task()
        entry = Entry(
            what,
            seat,
            value,
            act,
            self.who(seat, act, component),
            component,
            task.id,
            task.parent_id,
            self.seen(component),
            anyio.current_effective_deadline() == -math.inf,
            observing.get(),
        )
        self._entries.append(entry)

    @abstractmethod
    def who(self, seat: int, act: int, component: str) -> str:
        """Return who did something, in words."""

    @abstractmethod
    def seen(self, component: str) -> object:
        """Return the value of the context variable that scripts set, or a component's state."""

    def emit(self, record: logging.LogRecord) -> None:
        """Note a record of the log."""
        self.note("logged", record)

    @contextmanager
    def noted(
        self, begins: str, ends: str, value: object = None, *, fails: str = "failed", **where: Any
    ) -> Generator[Answers]:
        """Note the beginning and the end of a call; the block adds what it returned to a list."""
        self.note(begins, value, **where)
        answers: Answers = []
        try:
            yield answers
        except BaseException as exc:
            self.note(fails, exc, **where)
            raise
        self.note(ends, *answers, **where)


def disguise(function: Callable[..., Any], around: Around) -> Callable[..., Any]:
    """Return a function that calls another one within a context manager; async if that one is.

    Args:
        function: the other one.
        around: called with the arguments; yields those to hand on, or None if the function is not
            to be called, and a list to which what it returned is added.
    """

    async def async_call(*given: Any) -> Any:
        with around(*given) as (arguments, answers):
            answer = None if arguments is None else await function(*arguments)
            answers.append(answer)
        return answer

    def call(*given: Any) -> Any:
        with around(*given) as (arguments, answers):
            answer = None if arguments is None else function(*arguments)
            answers.append(answer)
        return answer

    return wraps(function)(async_call if iscoroutinefunction(function) else call)
