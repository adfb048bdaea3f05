"""Who waits for the publish that a task works for: what a stream must know to not hang (S3)."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, final

import anyio

from flexiflow._contexts import restore

if TYPE_CHECKING:
    from contextvars import Token


@final
class Publisher:
    """A context manager: the current task waits for a publish whose handlers have other tasks.

    A class for speed, and since contextlib's generators write to the exception that passes.

    Attributes:
        task: the coroutine of the publisher's; None when the publish is over.
        outer: whose publish that task works for, if any.
    """

    __slots__ = ("_token", "outer", "task")

    def __enter__(self) -> None:
        self.task: object = anyio.get_current_task().coro
        self.outer = _publisher.get()
        self._token: Token[Publisher | None] = _publisher.set(self)

    def __exit__(self, *_: object) -> None:
        # Tasks that inherited the context may outlive the publish, and it waits for none of them.
        self.task = self.outer = None
        restore(_publisher, self._token)
        del self._token

    def waits(self, task: object) -> bool:
        """Tell whether it is that task, or one that waits for a publish of that task."""
        publisher: Publisher | None = self
        while publisher is not None and publisher.task is not task:
            publisher = publisher.outer
        return publisher is not None


blocking_streams: Final[set[object]] = set()
"""The streams that make publishers wait; without any, nobody need know who waits for a publish."""

_publisher: ContextVar[Publisher | None] = ContextVar("publisher", default=None)


def is_publishing(task: object) -> bool:
    """Tell whether the current task is that one, or runs within a publish that it waits for."""
    publisher = _publisher.get()
    return anyio.get_current_task().coro is task or (
        publisher is not None and publisher.waits(task)
    )
