"""Programs in which each kind of callable is a handler (B7)."""

from __future__ import annotations

from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from anyio.lowlevel import checkpoint

from flexiflow.testing._examiner.kit import Later, claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flexiflow import EventBus
    from flexiflow._bus import DeliveryMode

    Heard: TypeAlias = list[Any]
    Handler: TypeAlias = Callable[[Any], Any]


async def runs_inline(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """A sync handler runs in the publisher's thread."""
    await bus.subscribe("a", "c", lambda _: heard.append(get_ident()))
    await bus.publish("a", 1, delivery=delivery)
    claim(heard == [get_ident()], "a sync handler ran in another thread, or not at all")


async def calls(
    bus: EventBus, *, heard: Heard, handler: Callable[[Heard], Handler], delivery: DeliveryMode
) -> None:
    """A handler may be any callable, and what it returns is awaited if it can be."""
    payload = ["a payload"]
    await bus.subscribe("a", "c", handler(heard))
    failures = await bus.publish("a", payload, delivery=delivery)
    claim([*map(id, heard)] == [id(payload)], f"given {payload} it heard {heard}, or did not end")
    claim(not failures, f"its call was taken for a failure: {failures}")


def method(heard: Heard) -> Handler:
    """Return a bound method."""
    return heard.append


def sync_lambda(heard: Heard) -> Handler:
    """Return a function."""
    return lambda data: heard.append(data)  # noqa: PLW0108


def async_function(heard: Heard) -> Handler:
    """Return an async function."""

    async def handler(data: object) -> None:
        await checkpoint()
        heard.append(data)

    return handler


def partial_async_function(heard: Heard) -> Handler:
    """Return an async function with its first argument."""

    async def handler(first: Heard, data: object) -> None:
        await checkpoint()
        first.append(data)

    return partial(handler, heard)


def partial_function(heard: Heard) -> Handler:
    """Return a function with its first argument."""

    def handler(first: Heard, data: object) -> None:
        first.append(data)

    return partial(handler, heard)


class Sync:
    """Can be called, and has a method, which are sync."""

    def __init__(self, heard: Heard) -> None:
        self.heard = heard

    def __call__(self, data: object) -> None:
        """Note the payload."""
        self.heard.append(data)

    def method(self, data: object) -> None:
        """Note the payload."""
        self(data)


class Async:
    """Can be called, and has a method, which are async."""

    def __init__(self, heard: Heard) -> None:
        self.heard = heard

    async def __call__(self, data: object) -> None:
        """Note the payload, after a while."""
        await checkpoint()
        self.heard.append(data)

    async def method(self, data: object) -> None:
        """Note the payload, after a while."""
        await self(data)


def sync_object(heard: Heard) -> Handler:
    """Return an object that can be called."""
    return Sync(heard)


def sync_method(heard: Heard) -> Handler:
    """Return a method of such an object."""
    return Sync(heard).method


def async_object(heard: Heard) -> Handler:
    """Return an object with an async call."""
    return Async(heard)


def async_method(heard: Heard) -> Handler:
    """Return an async method of such an object."""
    return Async(heard).method


def lambda_of_async_function(heard: Heard) -> Handler:
    """Return a function that returns a coroutine."""
    handler = async_function(heard)
    return lambda data: handler(data)  # noqa: PLW0108


def awaitable_class(heard: Heard) -> Handler:
    """Return a class whose objects can be awaited."""

    class Awaitable(Later):
        def __init__(self, data: object) -> None:
            self.data = data

        def __await__(self) -> Iterator[Any]:  # type: ignore[override]
            yield from super().__await__()
            heard.append(self.data)

    return Awaitable


HANDLERS: Final = (
    method,
    sync_lambda,
    async_function,
    partial_async_function,
    partial_function,
    sync_method,
    sync_object,
    async_method,
    async_object,
    lambda_of_async_function,
    awaitable_class,
)
