"""The handlers that many measures use, which do nothing, and buses full of them."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any, Final

from anyio.lowlevel import checkpoint

from flexiflow import EventBus

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import TypeAlias

    from benchmarks.timing import Side
    from flexiflow import Subscription

    AsyncHandler: TypeAlias = Callable[[Any], Coroutine[Any, Any, None]]

EVENT: Final = "order.placed"
ORDER: Final = {"order": "A7"}
OWNER: Final = "shop"


def idle_handlers(number: int) -> list[AsyncHandler]:
    """Return handlers that do nothing, all different functions: some peers keep no duplicates."""

    def make(place: int) -> AsyncHandler:
        async def handler(_data: object) -> None:
            pass

        handler.__name__ = f"handler_{place}"
        return handler

    return [make(place) for place in range(number)]


async def wait_once(_data: object) -> None:
    """Wait for one turn of the scheduler, as a handler."""
    await checkpoint()


def accept(_event: str, _data: object) -> bool:
    """Accept every event, as a filter."""
    return True


async def bus_of(handlers: Sequence[Callable[[Any], object]], **options: Any) -> EventBus:
    """Return a bus with all these handlers subscribed to the benchmark's event.

    Args:
        handlers: the handlers, in order.
        options: options of `EventBus.subscribe`.
    """
    bus = EventBus()
    for handler in handlers:
        await bus.subscribe(EVENT, OWNER, handler, **options)
    return bus


async def crowd(bus: EventBus, number: int) -> list[Subscription]:
    """Subscribe to other events that begin like the benchmark's, half of them by patterns."""
    names = (
        f"order.item{place}" if place % 2 else f"order.*.part{place}" for place in range(number)
    )
    return [await bus.subscribe(name, "crowd", wait_once) for name in names]


def publishing(bus: EventBus, event: str = EVENT, **options: Any) -> Side:
    """Return a side that publishes.

    Args:
        bus: the bus.
        event: the event's name.
        options: options of `EventBus.publish`; passed only if there are any.
    """

    async def publish(calls: int) -> None:
        for _ in repeat(None, calls):
            await bus.publish(event, ORDER)

    async def publish_so(calls: int) -> None:
        for _ in repeat(None, calls):
            await bus.publish(event, ORDER, **options)

    return publish_so if options else publish


def awaiting(handlers: Sequence[AsyncHandler]) -> Side:
    """Return a side that awaits the handlers one after another: the lower limit."""

    async def loop(calls: int) -> None:
        for _ in repeat(None, calls):
            for handler in handlers:
                await handler(ORDER)

    return loop


def awaiting_one(function: AsyncHandler) -> Side:
    """Return a side that awaits one call."""

    async def loop(calls: int) -> None:
        for _ in repeat(None, calls):
            await function(ORDER)

    return loop
