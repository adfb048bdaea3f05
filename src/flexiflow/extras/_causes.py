"""Which event caused which: what is known of the event that the current task works for."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, TypeVar, final

from flexiflow._marks import restore
from flexiflow._turns import current_turn
from flexiflow.events import MESSAGE_RECEIVED

if TYPE_CHECKING:
    from contextvars import Token

    from flexiflow import Event
    from flexiflow._turns import Turn

T = TypeVar("T")


class _Cause(Generic[T]):
    """An event that may cause others.

    Attributes:
        known: what is known of it; the event itself would stay in memory.
        turn: if it is `component.message.received`, the handling of that message; else None.
        outer: the cause of this event, which is the cause again once that handling has ended.
    """

    __slots__ = ("known", "outer", "turn")

    def __init__(self, known: T, turn: Turn | None, outer: _Cause[T] | None) -> None:
        self.known = known
        self.turn = turn
        self.outer = outer


@final
class Causes(Generic[T]):
    """What is known of the events that the current task works for.

    Args:
        nothing: what is known outside of all events.
    """

    def __init__(self, nothing: T) -> None:
        self._variable: ContextVar[_Cause[T]] = ContextVar("cause")
        self._nothing = _Cause(nothing, None, None)

    @property
    def known(self) -> T:
        """What is known of the event that the current task works for."""
        return self._current().known

    def causing(self, event: Event[Any], known: T) -> Causing[T]:
        """Return a context manager, within which an event is the cause of what is published.

        `component.message.received` stays the cause after the block, until its message has been
        handled. Nothing reports that moment, so it is looked for when it matters.

        Args:
            event: the event.
            known: what is to be known of it.
        """
        turn = current_turn.get() if event.name == MESSAGE_RECEIVED else None
        outer = None if turn is None else self._current()
        return Causing(self._variable, _Cause(known, turn, outer))

    def _current(self) -> _Cause[T]:
        cause = self._variable.get(self._nothing)
        while cause.turn is not None and cause.turn.is_over and cause.outer is not None:
            cause = cause.outer
        return cause


@final
class Causing(Generic[T]):
    """A context manager, within which an event is the cause of others."""

    __slots__ = ("_cause", "_token", "_variable")

    _token: Token[_Cause[T]]

    def __init__(self, variable: ContextVar[_Cause[T]], cause: _Cause[T]) -> None:
        self._variable = variable
        self._cause = cause

    def __enter__(self) -> None:
        self._token = self._variable.set(self._cause)

    def __exit__(self, *_: object) -> None:
        if self._cause.turn is None:
            restore(self._variable, self._token)
