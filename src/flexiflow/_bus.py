"""The event bus: subscribing handlers to named events, and publishing events to them."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import math
import reprlib
from contextlib import nullcontext
from contextvars import ContextVar
from inspect import isawaitable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar, final

from anyio.lowlevel import checkpoint

from flexiflow._callables import check_callable, describe, is_coroutine_callable
from flexiflow._concurrent import deliver_concurrent, deliver_tiered
from flexiflow._delivery import assess, deliver_sequential, report
from flexiflow._names import check_component_name, check_subscribed_name
from flexiflow._registry import Registry
from flexiflow._reporting import Announcing, is_announcing
from flexiflow._subscription import Subscription, is_true
from flexiflow.events import HANDLER_FAILED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from flexiflow._delivery import Failures, Trouble
    from flexiflow._registry import Route
    from flexiflow._subscription import Filter, Handler, HandlerFailure
    from flexiflow.events import HandlerFailed

DeliveryMode: TypeAlias = Literal["sequential", "concurrent", "tiered"]
ErrorPolicy: TypeAlias = Literal["continue", "raise"]

_Deliver: TypeAlias = "Callable[..., Awaitable[Failures]]"

_T = TypeVar("_T")

_DELIVER: Final[Mapping[str, _Deliver]] = {
    "sequential": deliver_sequential,
    "concurrent": deliver_concurrent,
    "tiered": deliver_tiered,
}
_STOPS: Final = {"continue": False, "raise": True}

# Set while schedules are explored, so that every publish lets other tasks in (P2).
yields_always: ContextVar[bool] = ContextVar("yields_always", default=False)


@final
class EventBus:
    """Calls the handlers that are subscribed to an event when it is published.

    Needs no running loop, holds nothing bound to one, and serves several runs one after another
    (B1). Not thread-safe: one event loop at a time; other threads go through
    `anyio.from_thread`.

    Args:
        delivery: how handlers are called where a publish doesn't say (D5): "sequential" (D1),
            "concurrent" (D2) or "tiered" (D3).
        on_error: what a failure does where a publish doesn't say: "continue" (E1) or "raise"
            (E2, E3).
        yield_every: at least one in so many publishes is a checkpoint (D6); 1 makes each one.

    Raises:
        ValueError: unknown `delivery` or `on_error`; `yield_every` is no int of 1 or more.
    """

    __slots__ = ("_deliver", "_registry", "_routes", "_stops", "_until_yield", "_yield_every")

    def __init__(
        self,
        *,
        delivery: DeliveryMode = "sequential",
        on_error: ErrorPolicy = "continue",
        yield_every: int = 61,
    ) -> None:
        self._deliver = _choose("delivery", delivery, _DELIVER)
        self._stops = _choose("on_error", on_error, _STOPS)
        self._yield_every = _check_int("yield_every", yield_every, "1 or more", least=1)
        if yields_always.get():
            self._yield_every = 1
        self._until_yield = self._yield_every
        self._registry = Registry(in_place=self._deliver is deliver_sequential)
        self._routes = self._registry.routes

    async def subscribe(
        self,
        event: str,
        component: str,
        handler: Handler,
        *,
        priority: int = 3,
        filter: Filter | None = None,
        once: bool = False,
    ) -> Subscription:
        """Subscribe a handler to an event name or pattern; a checkpoint (B2).

        Args:
            event: a name, like "order.placed", or a pattern, like "order.*" or "order.**" (B10).
            component: who owns the subscription.
            handler: takes the payload; sync or async (B7).
            priority: 1 (called first) to 5 (called last); equal ones in order of subscription
                (B4).
            filter: takes the event's name and the payload; the handler is called where it says
                True (B8).
            once: start the handler at most once, unsubscribing it before (B9).

        Returns:
            The subscription; also a context manager that unsubscribes on exit.

        Raises:
            ValueError: a malformed or empty name, or a priority that is no int in 1..5 (B3).
            TypeError: a name that is no str; a handler or filter that can't be one (B3).
        """
        check_subscription(event, component, handler, priority=priority, filter=filter)
        await checkpoint()
        return self._registry.create(
            event, component, handler, priority=priority, filter=filter, once=bool(once)
        )

    def unsubscribe(self, subscription: Subscription) -> bool:
        """End a subscription: its handler never starts again (B5, B6).

        Returns:
            True the first time; False afterwards, and for a subscription of another bus.

        Raises:
            TypeError: not given a `Subscription`.
        """
        if not isinstance(subscription, Subscription):
            raise TypeError(
                f"unsubscribe takes what subscribe returned, not {reprlib.repr(subscription)}"
            )
        return self._registry.remove(subscription)

    def unsubscribe_all(self, component: str) -> int:
        """End all subscriptions of a component, and return their number (B6).

        Raises:
            TypeError: the component's name is no str.
            ValueError: it is empty.
        """
        return self._registry.remove_all(check_component_name(component))

    async def publish(  # noqa: C901, PLR0912  a function more costs as much as a handler
        self,
        event: str,
        data: Any = None,
        *,
        delivery: DeliveryMode | None = None,
        on_error: ErrorPolicy | None = None,
    ) -> tuple[HandlerFailure, ...]:
        """Call every handler subscribed to the event now (B5), and wait until all have ended (D4).

        Args:
            event: a name without wildcards.
            data: the payload that each handler gets, as it is.
            delivery: instead of the bus's own (D5).
            on_error: instead of the bus's own (D5).

        Returns:
            The failures under "continue", in order of delivery, each of them logged and
            published as `event.handler.failed` (E1).

        Raises:
            ValueError: a malformed name or a pattern; an unknown delivery or policy (B3).
            TypeError: a name that is no str (B3).
            Exception: under "raise", the first failure, as it is (E2, E3).
        """
        try:
            route = self._routes[event]
        except (KeyError, TypeError):
            route = self._registry.resolve(event)
        deliver = None if delivery is None else _choose("delivery", delivery, _DELIVER)
        stops = self._stops if on_error is None else _choose("on_error", on_error, _STOPS)
        self._until_yield -= 1
        if self._until_yield <= 0:
            await yield_now(self)
        if (deliver is not None and deliver is not deliver_sequential) or not route.in_place:
            return await self._publish_apart(
                event, data, route.subscriptions, deliver or self._deliver, stops=stops
            )
        # The commonest publishes, in place: a coroutine of its own costs as much as a handler.
        if route.direct:
            for subscription in route.subscriptions:
                try:
                    if subscription.active:
                        handler: Any = subscription.handler
                        await handler(data)
                except BaseException as exc:
                    trouble = assess(exc, subscription, stops=stops)
                    break
            else:
                return ()
        else:
            # Apart, since with these questions ten handlers take 12 % longer.
            are_async = route.are_async
            for subscription in route.subscriptions:
                try:
                    if (
                        subscription.active
                        and (
                            (accepts := subscription.filter) is None
                            or (verdict := accepts(event, data)) is True
                            or is_true(verdict, accepts)
                        )
                        and subscription.active
                    ):
                        result: Any = subscription.handler(data)
                        if (
                            are_async
                            or type(result) is CoroutineType
                            or (result is not None and isawaitable(result))
                        ):
                            await result
                except BaseException as exc:
                    trouble = assess(exc, subscription, stops=stops)
                    break
            else:
                return ()
        return await self._go_on(event, data, route, subscription, trouble, stops=stops)

    async def _go_on(
        self,
        event: str,
        data: Any,
        route: Route,
        subscription: Subscription,
        trouble: Trouble,
        *,
        stops: bool,
    ) -> Failures:
        """Report the first failure of handlers called in place, and call those after it."""
        failed = await report(event, subscription, trouble, self._announce)
        rest = route.subscriptions[route.subscriptions.index(subscription) + 1 :]
        return failed, *await deliver_sequential(
            event, data, rest, stops=stops, announce=self._announce
        )

    async def _publish_apart(
        self,
        event: str,
        data: Any,
        subscriptions: Sequence[Subscription],
        deliver: _Deliver,
        *,
        stops: bool,
    ) -> Failures:
        # A handler of that event is silent whoever publishes it (E7).
        with Announcing() if event == HANDLER_FAILED else nullcontext():
            return await deliver(event, data, subscriptions, stops=stops, announce=self._announce)

    async def _announce(self, failed: HandlerFailure) -> None:
        await announce(self, failed.event_name, failed.component_name, failed.exception)


# What the engine and its components do with a bus, and its users do not: no methods, since they
# would be everybody's.


def check_subscription(
    event: object,
    component: object,
    handler: object,
    *,
    priority: object,
    filter: object,
) -> None:
    """Raise what `EventBus.subscribe` raises for its arguments (B3)."""
    check_terms(event, priority=priority, filter=filter)
    check_component_name(component)
    check_callable("handler", handler, 1)


def check_terms(event: object, *, priority: object, filter: object) -> None:
    """Check what of a subscription is known before its component and handler are (B3)."""
    check_subscribed_name(event)
    _check_int("priority", priority, "1 (first) to 5 (last)", least=1, most=5)
    if filter is None:
        return
    check_callable("filter", filter, 2)
    if is_coroutine_callable(filter):
        raise TypeError(f"a filter must be a plain function, but {describe(filter)} is async")


def subscribe_now(
    bus: EventBus,
    event: str,
    component: str,
    handler: Handler,
    *,
    priority: int,
    filter: Filter | None,
    once: bool,
) -> Subscription:
    """Subscribe without a checkpoint, after `check_subscription`."""
    return bus._registry.create(
        event, component, handler, priority=priority, filter=filter, once=once
    )


def subscriptions(bus: EventBus) -> Iterator[Subscription]:
    """Go through all subscriptions."""
    return iter(bus._registry)


def listeners(bus: EventBus, event: str) -> Route | None:
    """Count a built-in event as a publish (D6), and return its route if anyone listens."""
    bus._until_yield -= 1
    try:
        route = bus._routes[event]
    except KeyError:
        route = bus._registry.resolve(event)
    return route if route.subscriptions else None


async def emit(bus: EventBus, event: str, payload: Mapping[str, Any], route: Route) -> None:
    """Publish a built-in event: sequentially, and without a yield of the bus's own.

    So nothing runs between a transition's commit and its first observer (C6). Whoever takes up
    the next message makes up for the yield, by `is_yield_due` and `yield_now` (D6).
    """
    # In place as in `publish`: with a coroutine more a message takes 8 % more time.
    if not route.direct:
        await deliver_sequential(
            event, payload, route.subscriptions, stops=False, announce=bus._announce
        )
        return
    for subscription in route.subscriptions:
        try:
            if subscription.active:
                handler: Any = subscription.handler
                await handler(payload)
        except BaseException as exc:
            trouble = assess(exc, subscription, stops=False)
            break
    else:
        return
    await bus._go_on(event, payload, route, subscription, trouble, stops=False)


def is_yield_due(bus: EventBus) -> bool:
    """Tell whether `yield_every` publishes have gone by since the last yield (D6)."""
    return bus._until_yield <= 0


async def yield_now(bus: EventBus) -> None:
    """Yield, and begin to count anew."""
    bus._until_yield = bus._yield_every
    await checkpoint()


async def announce(
    bus: EventBus, event_name: str, component_name: str, exception: Exception
) -> None:
    """Publish a failure that was logged as `event.handler.failed`, unless within one (E7)."""
    route = None if is_announcing() else listeners(bus, HANDLER_FAILED)
    if route is not None:
        payload: HandlerFailed = {
            "event_name": event_name,
            "component_name": component_name,
            "exception": exception,
        }
        with Announcing():
            await emit(bus, HANDLER_FAILED, payload, route)


def _choose(option: str, given: str, choices: Mapping[str, _T]) -> _T:
    try:
        return choices[given]
    except (KeyError, TypeError):
        allowed = ", ".join(map(repr, choices))
        raise ValueError(f"{option} must be one of {allowed}, not {reprlib.repr(given)}") from None


def _check_int(
    what: str, given: object, allowed: str, *, least: int, most: float = math.inf
) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or not least <= given <= most:
        raise ValueError(f"{what} must be an int, {allowed}, not {reprlib.repr(given)}")
    return given
