"""Contexts for what runs in another task than its caller's (B15)."""

from __future__ import annotations

from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, final

from flexiflow._reporting import Announcing
from flexiflow._turns import current_turn

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from contextvars import Context


def copy_context_within(waiting: Context) -> Context:
    """Return a copy of the current context, with the turns and announcements of another one.

    Args:
        waiting: the context of the task that waits for what will run in the copy.
    """
    context = copy_context()
    for variable in (current_turn, Announcing.variable):
        mark: Any = waiting.get(variable)
        if context.get(variable) is not mark:
            context.run(variable.set, mark)
    return context


@final
class InContext:
    """An awaitable that runs a coroutine in a context of its own, in the task that awaits it.

    Args:
        context: the context, which nothing else runs in meanwhile.
        coroutine: the coroutine.
    """

    __slots__ = ("_context", "_coroutine")

    def __init__(self, context: Context, coroutine: Coroutine[Any, Any, None]) -> None:
        self._context = context
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, None]:
        """Run the coroutine; pass on what it yields to the event loop, and what that sends back."""
        resume: Callable[[], object] = partial(self._coroutine.send, None)
        try:
            while True:
                try:
                    yielded = self._context.run(resume)
                except StopIteration:
                    return
                try:
                    resume = partial(self._coroutine.send, (yield yielded))
                except BaseException as exc:  # noqa: BLE001  it is the coroutine's
                    resume = partial(self._coroutine.throw, exc)
        finally:
            del resume  # it may hold an exception, whose traceback holds this frame (B6)
