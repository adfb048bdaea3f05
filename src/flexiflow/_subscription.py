"""Subscriptions, the handlers' places on a bus; and the records of handlers' failures."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

from collections.abc import Callable, Coroutine
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Self, TypeAlias, final

from flexiflow._callables import describe
from flexiflow._objects import Fixed, Record, refuse_copying
from flexiflow._text import show

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType

    from flexiflow._limits import Limiter
    from flexiflow._names import Event

Handler: TypeAlias = Callable[[Any], object]
"""Takes the payload; it is sync or async, or returns an awaitable (B7)."""

Filter: TypeAlias = Callable[[str, Any], bool]
"""Takes the event's name and the payload, and returns whether to call the handler (B8)."""

Inner: TypeAlias = "Callable[[], Coroutine[Any, Any, None]]"
"""Calls the handler, or the next function around it; a function in `around` awaits it (A3)."""

Around: TypeAlias = "Callable[[Event[Any], Subscription, Inner], Coroutine[Any, Any, object]]"
"""An async function around a handler (A3)."""


@final
class Terms:
    """How to call a handler, if not simply with the payload.

    Attributes:
        limiter: limits how many calls run at once (V2), or None.
        time_limit: how many seconds an async handler may take (V1), or None.
        takes_event: whether the handler is called with the `Event` instead of the payload (S1).
        answers: whether the handler answers a query (A1).
        around: the subscription's own async functions around the handler, the outermost first (A3).
    """

    __slots__ = ("answers", "around", "limiter", "takes_event", "time_limit")

    limiter: Limiter | None
    time_limit: float | None
    takes_event: bool
    around: tuple[Around, ...]
    answers: bool

    def __init__(
        self,
        limiter: Limiter | None = None,
        time_limit: float | None = None,
        *,
        takes_event: bool = False,
        answers: bool = False,
        around: tuple[Around, ...] = (),
    ) -> None:
        self.limiter = limiter
        self.time_limit = time_limit
        self.takes_event = takes_event
        self.answers = answers
        self.around = around


@final
class Subscription(Fixed):
    """One handler's place on the bus (B2), made by `EventBus.subscribe`.

    It is read-only, hashed by identity, and a plain context manager that unsubscribes on exit.

    Attributes:
        event_name: the event's name, or a pattern.
        component_name: the name of the subscription's owner.
        handler: what is called with the payload.
        priority: 1 (first) to 5 (last).
        filter: asked before each start of the handler, or None.
        once: whether it is unsubscribed just before its handler starts (B9).
        active: whether it is subscribed; False from the moment it is unsubscribed.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> async def main():
        ...     bus = EventBus()
        ...     with await bus.subscribe("order.*", "billing", print, priority=1) as subscription:
        ...         await bus.publish("order.placed", "A7")
        ...     print(subscription.event_name, subscription.active)
        >>> anyio.run(main)
        A7
        order.* False
    """

    __slots__ = (
        "__weakref__",
        "_order",
        "_terms",
        "_unsubscribe",
        "active",
        "component_name",
        "event_name",
        "filter",
        "handler",
        "once",
        "priority",
    )
    __match_args__ = ("event_name", "component_name", "handler", "priority", "filter", "once")

    event_name: str
    component_name: str
    handler: Handler
    priority: int
    filter: Filter | None
    once: bool
    active: bool
    _order: int
    _unsubscribe: Callable[[Subscription], bool]
    _terms: Terms | None

    __reduce_ex__ = refuse_copying

    def __init__(
        self,
        event_name: str,
        component_name: str,
        handler: Handler,
        priority: int,
        filter: Filter | None,
        once: bool,  # noqa: FBT001  in the order of the public attributes
        *,
        _order: int,
        _unsubscribe: Callable[[Subscription], bool],
        _terms: Terms | None = None,
        active: bool = True,
    ) -> None:
        assign = object.__setattr__
        assign(self, "event_name", event_name)
        assign(self, "component_name", component_name)
        assign(self, "handler", handler)
        assign(self, "priority", priority)
        assign(self, "filter", filter)
        assign(self, "once", once)
        assign(self, "active", active)
        assign(self, "_order", _order)
        assign(self, "_unsubscribe", _unsubscribe)
        assign(self, "_terms", _terms)

    @property
    def limit(self) -> int | None:
        """How many calls of the handler may run at once (V2); None for no limit."""
        return None if self._terms is None or (it := self._terms.limiter) is None else it.limit

    @property
    def time_limit(self) -> float | None:
        """How many seconds an async handler may take (V1); None for no limit."""
        return None if self._terms is None else self._terms.time_limit

    @property
    def around(self) -> tuple[Around, ...]:
        """The subscription's own async functions around the handler, the outermost first (A3)."""
        return () if self._terms is None else self._terms.around

    def __enter__(self) -> Self:
        """Return the subscription itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Unsubscribe; this does nothing if it was unsubscribed before."""
        self._unsubscribe(self)

    def __repr__(self) -> str:
        """Show the component, what it hears or answers, and the handler."""
        answers = self._terms is not None and self._terms.answers
        verb, priority = ("answers", "") if answers else ("to", f", priority {self.priority}")
        state = "" if self.active else ", unsubscribed"
        return (
            f"<Subscription {show(self.component_name)} {verb} {show(self.event_name)}: "
            f"{describe(self.handler)}{priority}{state}>"
        )


def limiter_of(subscription: Subscription) -> Limiter | None:
    """Return what limits the calls of a subscription's handler, or None."""
    return None if subscription._terms is None else subscription._terms.limiter


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


# What a bus does with a subscription. These are module functions, to keep them off the public
# class.


def admits(subscription: Subscription, event_name: str, data: Any) -> bool:
    """Return whether the handler is to start now (B5, B8, B9); if so, `once` is unsubscribed."""
    accepts = subscription.filter
    if not subscription.active or not (
        accepts is None
        or (verdict := accepts(event_name, data)) is True
        or is_true(verdict, accepts)
    ):
        return False
    # Asked again, since the filter may have unsubscribed it, or published the event of a `once`.
    return subscription._unsubscribe(subscription) if subscription.once else subscription.active


def is_true(verdict: object, filter: Filter) -> bool:
    """Return whether a filter's result lets the handler start; callers check for True first.

    Raises:
        TypeError: the result is an awaitable.
    """
    if verdict is not False and isawaitable(verdict):
        if isinstance(verdict, Coroutine):
            verdict.close()
        raise TypeError(
            f"the filter {describe(filter)} returned an awaitable; a filter must answer at once"
        )
    return bool(verdict)


def deactivate(subscription: Subscription) -> None:
    """Mark a subscription as unsubscribed; for the registry."""
    object.__setattr__(subscription, "active", False)


@final
class HandlerFailure(Record, Fixed):
    """An exception that a handler, or its filter, let out (E1).

    Attributes:
        event_name: the event that was published.
        component_name: the name of the subscription's owner.
        exception: the exception object itself.
        subscription: the subscription whose handler or filter failed.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> async def main():
        ...     bus = EventBus()
        ...     await bus.subscribe("order.placed", "billing", lambda order: 1 / 0)
        ...     for failure in await bus.publish("order.placed", "A7"):
        ...         print(failure.component_name, repr(failure.exception))
        >>> anyio.run(main)
        billing ZeroDivisionError('division by zero')
    """

    __slots__ = __match_args__ = ("event_name", "component_name", "exception", "subscription")

    event_name: str
    component_name: str
    exception: Exception
    subscription: Subscription

    def __init__(
        self,
        event_name: str,
        component_name: str,
        exception: Exception,
        subscription: Subscription,
    ) -> None:
        assign = object.__setattr__
        assign(self, "event_name", event_name)
        assign(self, "component_name", component_name)
        assign(self, "exception", exception)
        assign(self, "subscription", subscription)
