"""Which task waits for the publish that the current task works for (S3).

A stream with `overflow="block"` asks this, so that its only consumer is never made to wait for
itself. Under sequential delivery handlers run in the publisher's own task, and there is nothing to
remember. Under concurrent and tiered delivery they run in other tasks, which inherit a `Publisher`
in their context: it names the task that waits for them.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, final

import anyio

from flexiflow._contexts import restore

if TYPE_CHECKING:
    from contextvars import Token


@final
class Publisher:
    """A context manager around a publish: the current task waits for handlers in other tasks.

    A class, since it is faster than a generator of contextlib, which also writes to the exception
    that passes through.

    Attributes:
        task: the coroutine of the publishing task; None once the publish is over.
        outer: the publish that this task itself works for, or None.
    """

    __slots__ = ("_token", "outer", "task")

    def __enter__(self) -> None:
        self.task: object = anyio.get_current_task().coro
        self.outer = _publisher.get()
        self._token: Token[Publisher | None] = _publisher.set(self)

    def __exit__(self, *_: object) -> None:
        # Tasks that inherited the context may outlive the publish, which does not wait for them.
        self.task = self.outer = None
        restore(_publisher, self._token)
        del self._token

    def waits(self, task: object) -> bool:
        """Return whether `task` waits for this publish, itself or through publishes around it."""
        publisher: Publisher | None = self
        while publisher is not None and publisher.task is not task:
            publisher = publisher.outer
        return publisher is not None


blocking_streams: Final[set[object]] = set()
"""The open streams that make publishers wait; while there are none, no `Publisher` is needed."""

_publisher: ContextVar[Publisher | None] = ContextVar("publisher", default=None)


def is_publishing(task: object) -> bool:
    """Return whether the current task is `task`, or works for a publish that `task` waits for."""
    publisher = _publisher.get()
    return anyio.get_current_task().coro is task or (
        publisher is not None and publisher.waits(task)
    )
