"""What `EventBus.subscribe` returns: awaited, it subscribes; entered, for as long as a block."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType

    from flexiflow._subscription import Subscription


@final
class Subscribing(Coroutine[Any, Any, "Subscription"]):
    """A subscription on its way (B14): a coroutine, and an async context manager.

    `await` it for the `Subscription`, or enter it by `async with`, which unsubscribes on exit. Like
    any coroutine it is run once, and warns where it never was.

    Args:
        coroutine: subscribes.
    """

    __slots__ = ("__weakref__", "_coroutine", "_subscription")

    _subscription: Subscription

    def __init__(self, coroutine: Coroutine[Any, Any, Subscription]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, Subscription]:
        """Subscribe, and return the subscription."""
        return self._coroutine.__await__()

    def send(self, value: Any, /) -> Any:
        """Go on, as a coroutine does."""
        return self._coroutine.send(value)

    def throw(self, *exception: Any) -> Any:
        """Go on with an exception, as a coroutine does."""
        return self._coroutine.throw(*exception)

    def close(self) -> None:
        """End it, as a coroutine is ended."""
        self._coroutine.close()

    async def __aenter__(self) -> Subscription:
        """Subscribe."""
        self._subscription = subscription = await self._coroutine
        return subscription

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Unsubscribe; harmless where that was done before."""
        self._subscription.__exit__(exc_type, exc, traceback)
