"""What receives events for as long as an `async with` block lasts (S1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from flexiflow._errors import ReceiverClosed

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow._subscription import Handler, Subscription

RECEIVER: Final = "<receiver>"
"""The component that owns a receiver's subscription; in brackets, as Python's own `<lambda>`."""

_NEW: Final = "was not entered"
_OPEN: Final = "was entered before"
_OVER: Final = "has ended"


@final
class Block:
    """The time for which a receiver is subscribed; it is entered once.

    Args:
        title: names the receiver, for messages.
        subscribe: subscribes a handler that is called with the `Event`.
    """

    __slots__ = ("_state", "_subscribe", "_subscription", "_title")

    def __init__(self, title: str, subscribe: Callable[[Handler], Subscription]) -> None:
        self._title = title
        self._subscribe = subscribe
        self._subscription: Subscription | None = None
        self._state = _NEW

    @property
    def is_over(self) -> bool:
        """Whether it was left."""
        return self._state == _OVER

    def enter(self, handler: Handler) -> None:
        """Subscribe the receiver's handler.

        Raises:
            ReceiverClosed: it was entered before.
        """
        if self._state != _NEW:
            raise ReceiverClosed(self._title, _OPEN)
        self._state = _OPEN
        self._subscription = self._subscribe(handler)

    def leave(self) -> Subscription | None:
        """Unsubscribe, and return the subscription; None where that was done before."""
        self._state = _OVER
        self.unsubscribe()
        # Its handler is the receiver's: together they would stay until the collector runs (B6).
        subscription, self._subscription = self._subscription, None
        return subscription

    def unsubscribe(self) -> None:
        """Receive nothing more."""
        if self._subscription is not None:
            self._subscription.__exit__(None, None, None)

    def check(self) -> None:
        """Refuse what is only possible inside.

        Raises:
            ReceiverClosed: it was not entered, or has ended.
        """
        if self._state != _OPEN:
            raise ReceiverClosed(self._title, self._state)
