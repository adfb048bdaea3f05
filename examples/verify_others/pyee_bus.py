"""pyee's emitter as a bus, for `flexiflow verify`.

    python examples/verify_others/pyee_bus.py [--examples N]

`emit` calls sync handlers, starts a task for each async one, and waits for none. `PyeeBus` is that.
`WaitingPyeeBus` also waits, by `wait_for_complete`. What a handler raises, pyee emits as the event
`error`, which is neither of FlexiFlow's policies, so no `on_error` is offered. pyee's emitter for
trio can be waited for only by closing it; so this runs on asyncio only.
"""

import sys
from typing import Literal

from listing import Handler, Listening, Listing, check_component
from pyee.asyncio import AsyncIOEventEmitter

from flexiflow.__main__ import main


class PyeeBus(Listing):
    """An emitter; to publish is to emit."""

    def __init__(self) -> None:
        super().__init__()
        self.emitter = AsyncIOEventEmitter()

    def connect(self, event: str, handler: Handler) -> Handler:
        """Add a listener."""
        self.emitter.add_listener(event, handler)
        return handler

    def disconnect(self, event: str, handler: Handler) -> bool:
        """Remove a listener, unless it was to be called once and has been."""
        if handler not in self.emitter.listeners(event):
            return False
        self.emitter.remove_listener(event, handler)
        return True

    async def subscribe(
        self, event: str, component: str, handler: Handler, *, once: bool = False
    ) -> Listening:
        """Subscribe a handler, perhaps for one time only."""
        if not once:
            return await super().subscribe(event, component, handler)

        check_component(component)

        def call(data: object) -> object:
            self.forget(listening)
            return handler(data)

        listening = self.remember(event, component, call)
        self.emitter.once(event, call)
        return listening

    async def publish(
        self, event: str, data: object = None, *, delivery: Literal["concurrent"] = "concurrent"
    ) -> None:
        """Emit an event."""
        if delivery != "concurrent":
            raise ValueError("pyee starts all handlers at once")
        self.emitter.emit(event, data)


class WaitingPyeeBus(PyeeBus):
    """An emitter; to publish is to emit, and to wait until no handler of the emitter runs."""

    async def publish(
        self, event: str, data: object = None, *, delivery: Literal["concurrent"] = "concurrent"
    ) -> None:
        """Emit an event, and wait."""
        await super().publish(event, data, delivery=delivery)
        await self.emitter.wait_for_complete()


if __name__ == "__main__":
    sys.argv[1:] = ["verify", f"{__file__}:PyeeBus", "--backend", "asyncio", *sys.argv[1:]]
    main()
