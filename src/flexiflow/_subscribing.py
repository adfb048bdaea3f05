"""What `EventBus.subscribe` returns: await it to subscribe, or enter it for the time of a block."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType

    from flexiflow._subscription import Subscription


@final
class Subscribing(Coroutine[Any, Any, "Subscription"]):
    """A subscription in the making (B14): a coroutine, and an async context manager.

    `await` it to get the `Subscription`, or enter it with `async with`, which unsubscribes on exit.
    Like any coroutine it can run once, and warns if it never did.

    Args:
        coroutine: subscribes, and returns the subscription.
    """

    __slots__ = ("__weakref__", "_coroutine", "_subscription")

    _subscription: Subscription

    def __init__(self, coroutine: Coroutine[Any, Any, Subscription]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, Subscription]:
        """Subscribe, and return the subscription."""
        return self._coroutine.__await__()

    def send(self, value: Any, /) -> Any:
        """Resume the coroutine, as `Coroutine.send` does."""
        return self._coroutine.send(value)

    def throw(self, *exception: Any) -> Any:
        """Raise an exception in the coroutine, as `Coroutine.throw` does."""
        return self._coroutine.throw(*exception)

    def close(self) -> None:
        """End the coroutine, as `Coroutine.close` does."""
        self._coroutine.close()

    async def __aenter__(self) -> Subscription:
        """Subscribe, and return the subscription."""
        self._subscription = subscription = await self._coroutine
        return subscription

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Unsubscribe; this does nothing if it was unsubscribed before."""
        self._subscription.__exit__(exc_type, exc, traceback)
