"""What is measured again and again: handlers that do nothing, and buses full of them."""

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
    """Make handlers that do nothing, each a function of its own: some peers keep no duplicates."""

    def make(place: int) -> AsyncHandler:
        async def handler(_data: object) -> None:
            pass

        handler.__name__ = f"handler_{place}"
        return handler

    return [make(place) for place in range(number)]


async def wait_once(_data: object) -> None:
    """Be a handler that waits for one turn of the scheduler."""
    await checkpoint()


def accept(_event: str, _data: object) -> bool:
    """Be a filter that lets everything through."""
    return True


async def bus_of(handlers: Sequence[Callable[[Any], object]], **options: Any) -> EventBus:
    """Make a bus with all these handlers on the one event.

    Args:
        handlers: in order.
        options: of `EventBus.subscribe`.
    """
    bus = EventBus()
    for handler in handlers:
        await bus.subscribe(EVENT, OWNER, handler, **options)
    return bus


async def crowd(bus: EventBus, number: int) -> list[Subscription]:
    """Subscribe to other events, half of them by patterns, all with the beginning of the one."""
    names = (
        f"order.item{place}" if place % 2 else f"order.*.part{place}" for place in range(number)
    )
    return [await bus.subscribe(name, "crowd", wait_once) for name in names]


def publishing(bus: EventBus, event: str = EVENT, **options: Any) -> Side:
    """Make a side that publishes.

    Args:
        bus: where.
        event: what.
        options: of `EventBus.publish`; given to it only where there are some.
    """

    async def publish(calls: int) -> None:
        for _ in repeat(None, calls):
            await bus.publish(event, ORDER)

    async def publish_so(calls: int) -> None:
        for _ in repeat(None, calls):
            await bus.publish(event, ORDER, **options)

    return publish_so if options else publish


def awaiting(handlers: Sequence[AsyncHandler]) -> Side:
    """Make a side that awaits the handlers one after another, which nothing can undercut."""

    async def loop(calls: int) -> None:
        for _ in repeat(None, calls):
            for handler in handlers:
                await handler(ORDER)

    return loop


def awaiting_one(function: AsyncHandler) -> Side:
    """Make a side that awaits one call."""

    async def loop(calls: int) -> None:
        for _ in repeat(None, calls):
            await function(ORDER)

    return loop
