"""Which task waits for the publish that the current task works for (S3).

A stream with `overflow="block"` asks this, so that its only consumer is never made to wait for
itself. Under sequential delivery handlers run in the publisher's own task, and there is nothing to
remember. Under concurrent and tiered delivery they run in other tasks, which inherit a `Publisher`
in their context: it names the task that waits for them.

This finds only a consumer that would wait for itself. Deadlocks of turns, those of components and
of limited handlers, are found in `_turns`.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final, Self, final

import anyio

from flexiflow._marks import Mark

_publisher: ContextVar[Publisher | None] = ContextVar("publisher", default=None)


@final
class Publisher(Mark):
    """Marks a publish: the current task waits for handlers in other tasks.

    Attributes:
        task: the coroutine of the publishing task; None once the publish is over.
        outer: the publish that this task itself works for, or None.
    """

    variable = _publisher

    def __enter__(self) -> Self:
        self.task: object = anyio.get_current_task().coro
        self.outer = Publisher.current()
        return super().__enter__()

    def __exit__(self, *exception: object) -> None:
        # Tasks that inherited the context may outlive the publish, which does not wait for them.
        self.task = self.outer = None
        super().__exit__(*exception)

    def waits(self, task: object) -> bool:
        """Return whether `task` waits for this publish, itself or through publishes around it."""
        publisher: Publisher | None = self
        while publisher is not None and publisher.task is not task:
            publisher = publisher.outer
        return publisher is not None


blocking_streams: Final[set[object]] = set()
"""The open streams that make publishers wait; while there are none, no `Publisher` is needed."""


def is_publishing(task: object) -> bool:
    """Return whether the current task is `task`, or works for a publish that `task` waits for."""
    publisher = Publisher.current()
    return anyio.get_current_task().coro is task or (
        publisher is not None and publisher.waits(task)
    )
