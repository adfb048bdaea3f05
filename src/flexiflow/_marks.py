"""Marks in the context: what the current task works for.

A mark is a context manager, and the value of a context variable inside. Child tasks and threads
that are started inside inherit it. They may outlive the block, so a mark that is over must not
count any more, and holds nothing.

The marks: `Turn` (C4, V2), `Announcing` (E7) and `Publisher` (S3). A bridge's `handing_on` is not a
mark: a worker sets it for one event after another, without a block.
"""

from __future__ import annotations

from contextvars import copy_context
from operator import is_
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextvars import ContextVar, Token
    from typing import TypeVar

    _T = TypeVar("_T")


class Mark:
    """A context manager that marks its inside.

    A class, since a generator of contextlib is slower, and writes to the exception that passes
    through, which may be frozen.

    Attributes:
        variable: holds the innermost mark of the kind; each subclass has its own.
        is_over: whether the block was left.
    """

    variable: ClassVar[ContextVar[Any]]
    is_over: bool = False
    _token: Token[Any]

    def __enter__(self) -> Self:
        self._token = self.variable.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over = True
        restore(self.variable, self._token)
        del self._token  # it holds the mark before, and so all of them

    @classmethod
    def current(cls) -> Self | None:
        """Return the mark that the caller runs in; None if there is none, or it is over."""
        mark: Self | None = cls.variable.get()
        return None if mark is None or mark.is_over else mark


def is_unchanged(inherited: Sequence[object]) -> bool:
    """Return whether the variables of the context still have these values.

    Values are compared by identity: an equal object may still be another one, and `==` would call a
    user's `__eq__`. No variable can have been removed, since its token belongs to another context.

    A function of its own, so that no local keeps the context, which holds an event.
    """
    context = copy_context()
    return len(context) == len(inherited) and all(map(is_, inherited, context.values()))


def restore(variable: ContextVar[_T], token: Token[_T]) -> None:
    """Reset a variable to its value before the `set` that returned `token`.

    In another context this does nothing: that is where Python closes a coroutine that was never
    finished and is garbage-collected.
    """
    try:  # noqa: SIM105  contextlib.suppress takes three calls
        variable.reset(token)
    except ValueError:
        pass
