"""What streams and expectations share: they receive events while a block lasts (S1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from flexiflow._errors import ReceiverClosed

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow._subscription import Handler, Subscription

RECEIVER: Final = "<receiver>"
"""The component name of a receiver's subscription; in angle brackets, like Python's `<lambda>`."""

_NEW: Final = "was not entered"
_OPEN: Final = "was entered before"
_OVER: Final = "has ended"


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
            raise ReceiverClosed(self._title, _OPEN)
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
