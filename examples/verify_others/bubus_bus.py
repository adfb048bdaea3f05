"""bubus's event bus as a bus, for `flexiflow verify`.

    python examples/verify_others/bubus_bus.py [--examples N]

To publish is to dispatch an event and to await it. Its handlers then run one after another, in a
task of the bus. bubus keeps what they raise in the event; with `on_error="raise"` this bus asks the
event for its results, which raises the first failure. bubus needs asyncio.
"""

import sys
from inspect import isawaitable
from itertools import count
from typing import Any, Literal

from bubus import BaseEvent, EventBus
from listing import Handler, Listing

from flexiflow.__main__ import main


def type_of(event: str) -> str:
    """Return the type of an event: bubus takes identifiers only, and knows no pattern but `*`."""
    if "*" in event:
        raise ValueError(f"bubus has no patterns, as {event!r} is one")
    return str.replace(event, ".", "_")


class BubusBus(Listing):
    """A bus of bubus."""

    def __init__(self) -> None:
        super().__init__()
        self._bus = EventBus()
        self._numbers = count()

    def connect(self, event: str, handler: Handler) -> Handler:
        """Register a handler, which is given the payload instead of the event."""
        if not callable(handler):
            raise TypeError(f"handler must be callable, not {handler!r}")

        async def call(dispatched: Any) -> None:
            result = handler(dispatched.payload)
            if isawaitable(result):
                await result

        # bubus warns if two handlers have one name.
        call.__name__ = f"handler_{next(self._numbers)}"
        self._bus.on(type_of(event), call)
        return call

    def disconnect(self, event: str, handler: Handler) -> bool:
        """Remove a handler as bubus itself does after `expect`; it has no method for that."""
        self._bus.handlers[type_of(event)].remove(handler)
        return True

    async def publish(
        self,
        event: str,
        data: object = None,
        *,
        delivery: Literal["sequential"] = "sequential",
        on_error: Literal["raise"] | None = None,
    ) -> None:
        """Dispatch an event, and await it."""
        if (delivery, on_error) not in {("sequential", None), ("sequential", "raise")}:
            raise ValueError("this bus calls one after another, and can only raise a failure")
        dispatched = self._bus.dispatch(BaseEvent(event_type=type_of(event), payload=data))
        await dispatched
        if on_error == "raise":
            await dispatched.event_results_list(raise_if_none=False)


if __name__ == "__main__":
    sys.argv[1:] = ["verify", f"{__file__}:BubusBus", "--backend", "asyncio", *sys.argv[1:]]
    main()
