"""blinker's signals as a bus, for `flexiflow verify`.

    python examples/verify_others/blinker_bus.py [--examples N] [--backend asyncio|trio]

Each name is a signal, and the payload is the sender: what a receiver gets as its only positional
argument. blinker calls one receiver after another, and raises what a receiver raises, so this bus
offers only that. It runs on both backends.
"""

import sys
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from blinker import Namespace
from listing import Handler, Listing

from flexiflow.__main__ import main


def awaited(handler: Handler) -> Callable[..., Awaitable[Any]]:
    """Make an async function of a sync receiver, as blinker's documentation shows it."""

    async def call(*arguments: Any, **options: Any) -> Any:
        return handler(*arguments, **options)

    return call


class BlinkerBus(Listing):
    """Signals of a namespace of their own."""

    def __init__(self) -> None:
        super().__init__()
        self._signals = Namespace()

    def connect(self, event: str, handler: Handler) -> Handler:
        """Connect a receiver, and keep it in memory: most handlers are defined in a function."""
        self._signals.signal(event).connect(handler, weak=False)
        return handler

    def disconnect(self, event: str, handler: Handler) -> bool:
        """Disconnect a receiver; it is there, since it was connected."""
        self._signals.signal(event).disconnect(handler)
        return True

    async def publish(
        self,
        event: str,
        data: object = None,
        *,
        delivery: Literal["sequential"] = "sequential",
        on_error: Literal["raise"] = "raise",
    ) -> None:
        """Send a signal, and wait for all receivers."""
        if (delivery, on_error) != ("sequential", "raise"):
            raise ValueError("blinker calls one after another, and raises what a receiver raises")
        await self._signals.signal(event).send_async(data, _sync_wrapper=awaited)


if __name__ == "__main__":
    sys.argv[1:] = ["verify", f"{__file__}:BlinkerBus", *sys.argv[1:]]
    main()
