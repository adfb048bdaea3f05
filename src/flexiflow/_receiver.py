"""What streams and expectations share: they receive events while a block lasts (S1, S3).

**Who waits for whom.** A stream with `overflow="block"` asks which task waits for the publish that
the current task works for, so that its only consumer is never made to wait for itself
(`is_publishing`). Under sequential delivery handlers run in the publisher's own task, and there is
nothing to remember. Under concurrent and tiered delivery they run in other tasks, which inherit a
`Publisher` in their context: it names the task that waits for them. In the background, that is the
task that opened the block, from the time when it leaves the block; then all streams of its event
loop `reconsider` who waits for whom.

This finds only a consumer that would wait for itself. Deadlocks of turns, those of components and
of limited handlers, are found in `_turns`.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Protocol, final

import anyio
from anyio.lowlevel import current_token

from flexiflow._errors import ReceiverClosed
from flexiflow._marks import Mark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flexiflow._subscription import Handler, Subscription

RECEIVER: Final = "<receiver>"
"""The component name of a receiver's subscription; in angle brackets, like Python's `<lambda>`."""

_NEW: Final = "was not entered"
_OPEN: Final = "is open"
_OVER: Final = "has ended"
NAMES: Final = {_NEW: "not entered", _OPEN: "open", _OVER: "ended"}
"""The names of the states, for a repr."""


@final
class Block:
    """The `async with` block of a stream or expectation, its *receiver*; entered at most once.

    Args:
        title: the receiver's name, for messages.
        subscribe: subscribes a handler that is called with the `Event`.

    Attributes:
        state: whether the block was entered, or has ended, in words.
    """

    __slots__ = ("_subscribe", "_subscription", "_title", "state")

    def __init__(self, title: str, subscribe: Callable[[Handler], Subscription]) -> None:
        self._title = title
        self._subscribe = subscribe
        self._subscription: Subscription | None = None
        self.state = _NEW

    @property
    def is_over(self) -> bool:
        """Whether the block was left."""
        return self.state == _OVER

    def enter(self, handler: Handler) -> None:
        """Subscribe the receiver's handler.

        Raises:
            ReceiverClosed: the block was entered before.
        """
        if self.state != _NEW:
            raise ReceiverClosed(self._title, "was entered before")
        self.state = _OPEN
        self._subscription = self._subscribe(handler)

    def leave(self) -> Subscription | None:
        """Unsubscribe, and return the subscription; None if the block was left before."""
        self.state = _OVER
        self.unsubscribe()
        # Its handler holds the receiver, which holds this block: a cycle, which would stay in
        # memory until the garbage collector runs (B6).
        subscription, self._subscription = self._subscription, None
        return subscription

    def unsubscribe(self) -> None:
        """Receive nothing more."""
        if self._subscription is not None:
            self._subscription.__exit__(None, None, None)

    def check(self) -> None:
        """Check that the block is entered.

        Raises:
            ReceiverClosed: it was not entered, or has been left.
        """
        if self.state != _OPEN:
            raise ReceiverClosed(self._title, self.state)


_publisher: ContextVar[Publisher | None] = ContextVar("publisher", default=None)


@final
class Publisher(Mark):
    """Marks a publish: a task waits for its handlers, which may run in other tasks.

    Args:
        task: the coroutine of the task that waits; None if none waits yet.
        outer: the publish that this task itself works for, or None.
        background: the background that runs the publish, or None.

    Attributes:
        task: as given; None once the publish is over.
        outer: as given; None once the publish is over.
        background: as given; None once the publish is over.
    """

    variable = _publisher

    def __init__(self, task: object, outer: Publisher | None, background: object = None) -> None:
        self.task: object = task
        self.outer: Publisher | None = outer
        self.background: object = background

    def __exit__(self, *exception: object) -> None:
        # Tasks that inherited the context may outlive the publish, which does not wait for them.
        self.task = self.outer = self.background = None
        super().__exit__(*exception)


def marked_as_publishing() -> Publisher:
    """Return a mark for a publish of the current task, which waits for its handlers."""
    return Publisher(anyio.get_current_task().coro, Publisher.current())


def enclosing_publishes() -> Iterator[Publisher]:
    """Iterate over the marked publishes that the current task works for, from the inside out."""
    publisher = Publisher.current()
    while publisher is not None:
        yield publisher
        publisher = publisher.outer


class Blocking(Protocol):
    """A stream that makes publishers wait."""

    def reconsider(self, loop: object) -> None:
        """Find out again which publishers wait for themselves: a task of `loop` began to wait."""
        ...


blocking_streams: Final[set[Blocking]] = set()
"""The open streams that make publishers wait; while there are none, no `Publisher` is needed.

These are the streams of all threads and their event loops.
"""


def reconsider_streams() -> None:
    """Make the streams of this event loop find out again which publishers wait for themselves."""
    loop = current_token()
    for stream in blocking_streams.copy():  # another thread may add or remove one
        stream.reconsider(loop)


def is_publishing(task: object) -> bool:
    """Return whether the current task is `task`, or works for a publish that `task` waits for."""
    return anyio.get_current_task().coro is task or any(
        publisher.task is task for publisher in enclosing_publishes()
    )
