"""Handlers that end in each way, with each option, for the programs that cross these (P1).

What a bus calls through several layers must pass every one of them in every way in which a handler
may end.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from flexiflow import HandlerCancelled, HandlerTimeout
from flexiflow.testing._examiner.kit import Boom, Exit, ignore, kept_cancellation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flexiflow import Event, EventBus, Subscription
    from flexiflow._subscription import Inner

    Heard: TypeAlias = list[Any]


ENDS: Final = ("returns", "fails", "exits", "is stray", "times out", "is cancelled")
"""How a handler ends."""


OPTIONS: Final = ("", "around", "filter", "once", "limit", "time limit", "sibling")
"""What a handler is subscribed with."""


LEAVING: Final = (Boom, Exit, HandlerCancelled, HandlerTimeout)
"""What may leave a publish or a question then."""
FAILURES: Final = {"fails": Boom, "is stray": HandlerCancelled, "times out": HandlerTimeout}
"""What a failure is, by how the handler ends."""


async def pass_on(event: Event[Any], subscription: Subscription, call: Inner) -> None:
    """Call, as a function around a handler."""
    await call()


def accept(event: str, data: object) -> bool:
    """Accept, as a filter."""
    return True


def given_with(option: str, ends: str = "", **more: Any) -> dict[str, Any]:
    """Return what an option is given as, with what a handler needs to end so, and more."""
    given: dict[str, dict[str, Any]] = {
        "around": {"around": [pass_on]},
        "filter": {"filter": accept},
        "once": {"once": True},
        "limit": {"limit": 1},
        "time limit": {"time_limit": 99},
    }
    time = {"time_limit": 2} if ends == "times out" else {}
    return {**given.get(option, {}), **time, **more}


def ending(ends: str, heard: Heard) -> Callable[[object], Awaitable[None]]:
    """Return a handler that ends in some way."""

    async def handler(_: object) -> None:
        heard.append("handler")
        await checkpoint()
        if ends == "fails":
            raise Boom
        if ends == "exits":
            raise Exit
        if ends == "is stray":
            raise await kept_cancellation()
        if ends in ("times out", "is cancelled"):
            await anyio.sleep_forever()

    return handler


def failures_in(records: list[logging.LogRecord]) -> list[BaseException | None]:
    """Return the exceptions that were logged at WARNING or above; debugging aids don't count."""
    return [
        each.exc_info[1] for each in records if each.exc_info and each.levelno >= logging.WARNING
    ]


async def left_with(call: Callable[[], Awaitable[object]], ends: str) -> type | None:
    """Await a call, cancelled if it is to be, and return the type of what left it."""
    left: type | None = None
    with anyio.CancelScope() as scope:
        if ends == "is cancelled":
            scope.deadline = anyio.current_time() + 1
        try:
            await call()
        except LEAVING as error:
            left = type(error)
        except anyio.get_cancelled_exc_class() as error:
            left = type(error)
            raise
    return left


async def subscribe_one(bus: EventBus, heard: Heard, ends: str, option: str) -> None:
    """Subscribe a handler of "a" that ends in some way."""
    if option == "sibling":
        await bus.subscribe("a", "sibling", ignore)
    await bus.subscribe("a", "h", ending(ends, heard), **given_with(option, ends))
