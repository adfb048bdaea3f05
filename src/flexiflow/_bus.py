"""The event bus: subscribing handlers to named events, and publishing events to them."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import reprlib
from contextlib import nullcontext
from contextvars import ContextVar
from functools import partial
from inspect import isawaitable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, final, overload

from anyio.lowlevel import checkpoint

from flexiflow._arguments import (
    check_buffer,
    check_int,
    check_subscription,
    check_terms,
    choose,
    make_terms,
)
from flexiflow._call import Call
from flexiflow._concurrent import deliver_concurrent, deliver_tiered
from flexiflow._delivery import assess, deliver_sequential, report
from flexiflow._expectation import Expectation
from flexiflow._instruments import (
    NOT_ENTERED,
    PUBLISHING,
    Installed,
    enter,
    go_without,
    leave,
    take_out,
)
from flexiflow._names import check_component_name
from flexiflow._publisher import Publisher, blocking_streams
from flexiflow._receiver import RECEIVER
from flexiflow._registry import Registry
from flexiflow._reporting import Announcing, is_announcing
from flexiflow._stream import EventStream
from flexiflow._subscribing import Subscribing
from flexiflow._subscription import Subscription, Terms, is_true
from flexiflow._topic import Event, make_event
from flexiflow._uncopied import refuse_copying
from flexiflow.events import HANDLER_FAILED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    from flexiflow._delivery import Failures, Trouble
    from flexiflow._instruments import Instrument
    from flexiflow._registry import Route
    from flexiflow._stream import Overflow
    from flexiflow._subscription import Filter, Handler, HandlerFailure
    from flexiflow._topic import T, Topic
    from flexiflow.events import HandlerFailed

DeliveryMode: TypeAlias = Literal["sequential", "concurrent", "tiered"]
ErrorPolicy: TypeAlias = Literal["continue", "raise"]

_Deliver: TypeAlias = "Callable[..., Awaitable[Failures]]"

_DELIVER: Final[Mapping[str, _Deliver]] = {
    "sequential": deliver_sequential,
    "concurrent": deliver_concurrent,
    "tiered": deliver_tiered,
}
_STOPS: Final = {"continue": False, "raise": True}
_OVERFLOWS: Final[Mapping[str, Overflow]] = {
    each: each for each in ("block", "drop_oldest", "drop_newest", "error")
}
_TAKES_EVENT: Final = Terms(takes_event=True)

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
        instruments: what watches, as for `add_instrument`; the first is the outermost (I2).

    Raises:
        ValueError: unknown `delivery` or `on_error`; `yield_every` is no int of 1 or more.
        TypeError: something that is no instrument (I2).
    """

    __slots__ = (
        "_deliver",
        "_registry",
        "_routes",
        "_stops",
        "_until_yield",
        "_yield_every",
    )

    __reduce_ex__ = refuse_copying

    def __init__(
        self,
        *,
        delivery: DeliveryMode = "sequential",
        on_error: ErrorPolicy = "continue",
        yield_every: int = 61,
        instruments: Iterable[Instrument] = (),
    ) -> None:
        self._deliver = choose("delivery", delivery, _DELIVER)
        self._stops = choose("on_error", on_error, _STOPS)
        self._yield_every = check_int("yield_every", yield_every, "1 or more", least=1)
        if yields_always.get():
            self._yield_every = 1
        self._until_yield = self._yield_every
        self._registry = Registry(in_place=self._deliver is deliver_sequential)
        self._routes = self._registry.routes
        for instrument in instruments:
            self.add_instrument(instrument)

    @overload
    def subscribe(
        self,
        event: Topic[T],
        component: str,
        handler: Callable[[T], object],
        *,
        priority: int = 3,
        filter: Callable[[str, T], bool] | None = None,
        once: bool = False,
        time_limit: float | None = None,
        limit: int | None = None,
    ) -> Subscribing: ...

    @overload
    def subscribe(
        self,
        event: str,
        component: str,
        handler: Handler,
        *,
        priority: int = 3,
        filter: Filter | None = None,
        once: bool = False,
        time_limit: float | None = None,
        limit: int | None = None,
    ) -> Subscribing: ...

    def subscribe(
        self,
        event: Any,
        component: str,
        handler: Handler,
        *,
        priority: int = 3,
        filter: Filter | None = None,
        once: bool = False,
        time_limit: float | None = None,
        limit: int | None = None,
    ) -> Subscribing:
        """Subscribe a handler to an event name or pattern; a checkpoint (B2).

        Await it, or enter it by `async with`, which unsubscribes on exit (B14).

        Args:
            event: a name, like "order.placed", or a pattern, like "order.*" or "order.**" (B10).
            component: who owns the subscription.
            handler: takes the payload; sync or async (B7).
            priority: 1 (called first) to 5 (called last); equal ones in order of subscription
                (B4).
            filter: takes the event's name and the payload; the handler is called where it says
                True (B8).
            once: start the handler at most once, unsubscribing it before (B9).
            time_limit: seconds, more than 0; an async handler that is still running then is
                cancelled and has failed with `HandlerTimeout` (V1).
            limit: at most so many calls of the handler run at once, 1 or more; the others wait
                for their turn (V2).

        Returns:
            A coroutine that returns the `Subscription`, which is also a context manager that
            unsubscribes on exit.

        Raises:
            ValueError: a malformed or empty name; a priority that is no int in 1..5; a
                `time_limit` or `limit` out of range (B3).
            TypeError: a name that is no str; a handler or filter that can't be one (B3).
        """
        return Subscribing(
            self._subscribe(
                event,
                component,
                handler,
                priority=priority,
                filter=filter,
                once=once,
                time_limit=time_limit,
                limit=limit,
            )
        )

    async def _subscribe(
        self,
        event: Any,
        component: str,
        handler: Handler,
        *,
        priority: int,
        filter: Filter | None,
        once: bool,
        time_limit: float | None,
        limit: int | None,
    ) -> Subscription:
        check_subscription(
            event,
            component,
            handler,
            priority=priority,
            filter=filter,
            time_limit=time_limit,
            limit=limit,
        )
        await checkpoint()
        return self._registry.create(
            event,
            component,
            handler,
            priority=priority,
            filter=filter,
            once=bool(once),
            terms=make_terms(time_limit=time_limit, limit=limit),
        )

    # What warns that it was never awaited, and a traceback, name what the user has called.
    _subscribe.__qualname__ = "EventBus.subscribe"

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

    @overload
    async def publish(
        self,
        event: Topic[None],
        data: None = None,
        *,
        delivery: DeliveryMode | None = None,
        on_error: ErrorPolicy | None = None,
    ) -> tuple[HandlerFailure, ...]: ...

    @overload
    async def publish(
        self,
        event: Topic[T],
        data: T,
        *,
        delivery: DeliveryMode | None = None,
        on_error: ErrorPolicy | None = None,
    ) -> tuple[HandlerFailure, ...]: ...

    @overload
    async def publish(
        self,
        event: str,
        data: Any = None,
        *,
        delivery: DeliveryMode | None = None,
        on_error: ErrorPolicy | None = None,
    ) -> tuple[HandlerFailure, ...]: ...

    async def publish(  # noqa: C901, PLR0912  a function more costs as much as a handler
        self,
        event: Any,
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
            PublishRefused: an instrument refuses it; no handler has started (I3).
            Exception: under "raise", the first failure, as it is (E2, E3).
        """
        try:
            route = self._routes[event]
        except (KeyError, TypeError):
            route = self._registry.resolve(event)
        deliver = None if delivery is None else choose("delivery", delivery, _DELIVER)
        stops = self._stops if on_error is None else choose("on_error", on_error, _STOPS)
        self._until_yield -= 1
        if self._until_yield <= 0:
            await yield_now(self)
        if (deliver is not None and deliver is not deliver_sequential) or not route.in_place:
            if route.watcher is not None and (deliver or self._deliver) is deliver_sequential:
                return await self._publish_to_watcher(route, data, route.watcher, stops)
            return await self._publish_apart(route, data, deliver or self._deliver, stops=stops)
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
        return await self._go_on(route, data, subscription, trouble, stops=stops)

    async def _go_on(
        self,
        route: Route,
        data: Any,
        subscription: Subscription,
        trouble: Trouble,
        *,
        stops: bool,
    ) -> Failures:
        """Report the first failure of handlers called in place, and call those after it."""
        failed = await report(route.name, subscription, trouble, self._announce)
        rest = route.subscriptions[route.subscriptions.index(subscription) + 1 :]
        return failed, *await deliver_sequential(
            route.name, data, rest, stops=stops, announce=self._announce
        )

    def _publish_apart(
        self, route: Route, data: Any, deliver: _Deliver, *, stops: bool
    ) -> Awaitable[Failures]:
        # No coroutine of its own: each that is awaited within another costs as much as a handler.
        if route.name == HANDLER_FAILED or (blocking_streams and deliver is not deliver_sequential):
            return self._publish_marked(route, data, deliver, stops=stops)
        return self._publish_watched(route, data, deliver, stops=stops)

    async def _publish_marked(
        self, route: Route, data: Any, deliver: _Deliver, *, stops: bool
    ) -> Failures:
        # A handler of `event.handler.failed` is silent whoever publishes it (E7).
        with Announcing() if route.name == HANDLER_FAILED else nullcontext(), Publisher():
            return await self._publish_watched(route, data, deliver, stops=stops)

    async def _publish_watched(
        self, route: Route, data: Any, deliver: _Deliver, *, stops: bool
    ) -> Failures:
        name, subscriptions, announce = route.name, route.subscriptions, self._announce
        if route.is_plain:
            return await deliver(name, data, subscriptions, stops=stops, announce=announce)
        event = make_event(Event, (name, data))
        call = Call(event, route.handling) if route.is_called else None
        entered = enter(route.publishing, event)
        try:
            failures = await deliver(
                name, data, subscriptions, stops=stops, announce=announce, call=call
            )
        except BaseException as exc:
            leave(entered, exc, PUBLISHING)
            raise
        leave(entered, None, PUBLISHING)
        try:
            return failures
        finally:
            del failures  # their tracebacks lead back to this frame (B6)

    async def _publish_to_watcher(
        self,
        route: Route,
        data: Any,
        watcher: Installed,
        stops: bool,  # noqa: FBT001  by keyword it takes longer
    ) -> Failures:
        """Publish as is done in place, within the one instrument that watches.

        What `_publish_watched` does in general takes half as long again.
        """
        event = make_event(Event, (route.name, data))
        try:
            manager: Any = NOT_ENTERED if watcher.is_out else watcher.publishing(event)
            manager.__enter__()
        except BaseException as exc:
            go_without(watcher, exc, event, PUBLISHING)
            manager = NOT_ENTERED
        try:
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
            return await self._go_on(route, data, subscription, trouble, stops=stops)
        except BaseException as exc:
            entered: Any = manager
            manager = NOT_ENTERED
            leave([(watcher, entered)], exc, PUBLISHING)
            raise
        finally:
            try:
                manager.__exit__(None, None, None)
            except BaseException as exc:
                take_out(watcher, exc, PUBLISHING)

    async def _announce(self, failed: HandlerFailure) -> None:
        await announce(self, failed.event_name, failed.component_name, failed.exception)

    @overload
    def stream(
        self,
        event: Topic[T],
        *,
        buffer: int = 100,
        overflow: Overflow = "block",
        priority: int = 3,
        filter: Callable[[str, T], bool] | None = None,
    ) -> EventStream[T]: ...

    @overload
    def stream(
        self,
        event: str,
        *,
        buffer: int = 100,
        overflow: Overflow = "block",
        priority: int = 3,
        filter: Filter | None = None,
    ) -> EventStream[Any]: ...

    def stream(
        self,
        event: Any,
        *,
        buffer: int = 100,
        overflow: Overflow = "block",
        priority: int = 3,
        filter: Filter | None = None,
    ) -> EventStream[Any]:
        """Make a stream of events, which hears them while its `async with` block lasts (S1).

        Args:
            event: a name or pattern, as for `subscribe`.
            buffer: how many events wait for a reader at most, 0 or more; without any, each
                publisher waits until a reader takes its event. "block" alone allows 0.
            overflow: what a publish does to a full buffer (S2): "block" waits for room,
                "drop_oldest" and "drop_newest" lose an event, "error" loses this one and fails
                with `BufferFull`.
            priority: as for `subscribe`.
            filter: as for `subscribe`.

        Raises:
            ValueError: as for `subscribe`; an unknown `overflow`, or a `buffer` out of range.
            TypeError: as for `subscribe`.
        """
        check_terms(event, priority=priority, filter=filter, time_limit=None, limit=None)
        choose("overflow", overflow, _OVERFLOWS)
        check_buffer(buffer, overflow)
        subscribe = partial(self._receive, event, priority, filter)
        return EventStream(event, buffer, overflow, self._yield_every, subscribe)

    @overload
    def expect(
        self, event: Topic[T], *, filter: Callable[[str, T], bool] | None = None
    ) -> Expectation[T]: ...

    @overload
    def expect(self, event: str, *, filter: Filter | None = None) -> Expectation[Any]: ...

    def expect(self, event: Any, *, filter: Filter | None = None) -> Expectation[Any]:
        """Expect an event: `async with` it, make it happen, and await it inside (S1, S4).

        Args:
            event: a name or pattern, as for `subscribe`.
            filter: takes the event's name and the payload; the first event for which it says
                True is the one. What it raises, raises at the waiter.

        Raises:
            ValueError: a malformed or empty name (B3).
            TypeError: a name that is no str; a filter that can't be one (B3).
        """
        check_terms(event, priority=3, filter=filter, time_limit=None, limit=None)
        subscribe = partial(self._receive, event, 3, None)
        return Expectation(event, filter, subscribe, self._announce)

    @overload
    async def wait_for(
        self, event: Topic[T], *, filter: Callable[[str, T], bool] | None = None
    ) -> Event[T]: ...

    @overload
    async def wait_for(self, event: str, *, filter: Filter | None = None) -> Event[Any]: ...

    async def wait_for(self, event: Any, *, filter: Filter | None = None) -> Event[Any]:
        """Wait for the first event that is published from now on; a checkpoint (S4).

        Args:
            event: as for `expect`.
            filter: as for `expect`.

        Raises:
            ValueError: as for `expect`.
            TypeError: as for `expect`.
            Exception: what the filter raised.
        """
        expectation: Expectation[Any] = self.expect(event, filter=filter)
        async with expectation as expected:
            return await expected

    def add_instrument(self, instrument: Instrument) -> None:
        """Let an instrument watch, inside those there are, from the next publish on (I1).

        Args:
            instrument: has one or both of `publishing(event)` and `handling(event, subscription)`,
                each of which returns a context manager (I2). One that is there already stays
                where it is.

        Raises:
            TypeError: it has neither, or one that can't be called like that.
        """
        if not any(each.instrument is instrument for each in self._registry.instruments):
            installed = Installed(instrument, self._take_out)
            self._registry.watch((*self._registry.instruments, installed))

    def remove_instrument(self, instrument: Instrument) -> bool:
        """Let an instrument watch no more, from the next publish on (I1).

        Returns:
            True the first time; False afterwards, and for one that is not there, perhaps since it
            has failed (I3).
        """
        for each in self._registry.instruments:
            if each.instrument is instrument:
                self._take_out(each)
                return True
        return False

    def _take_out(self, installed: Installed) -> None:
        remaining = (each for each in self._registry.instruments if each is not installed)
        self._registry.watch(tuple(remaining))

    def _receive(
        self, event: str, priority: int, filter: Filter | None, handler: Handler
    ) -> Subscription:
        """Subscribe a receiver."""
        return self._registry.create(
            event,
            RECEIVER,
            handler,
            priority=priority,
            filter=filter,
            once=False,
            terms=_TAKES_EVENT,
        )


# What the engine and its components do with a bus, and its users do not: no methods, since they
# would be everybody's.


def subscribe_now(
    bus: EventBus,
    event: str,
    component: str,
    handler: Handler,
    *,
    priority: int,
    filter: Filter | None,
    once: bool,
    terms: Terms | None = None,
) -> Subscription:
    """Subscribe without a checkpoint, after `check_subscription`.

    A priority of 0 is for FlexiFlow alone: it comes before all that users may give, in every order
    and as a tier of its own (B4, D3).
    """
    return bus._registry.create(
        event, component, handler, priority=priority, filter=filter, once=once, terms=terms
    )


def subscriptions(bus: EventBus) -> Iterator[Subscription]:
    """Go through all subscriptions."""
    return iter(bus._registry)


def listeners(bus: EventBus, event: str) -> Route | None:
    """Count a built-in event as a publish (D6), and return its route if anyone hears it."""
    bus._until_yield -= 1
    try:
        route = bus._routes[event]
    except KeyError:
        route = bus._registry.resolve(event)
    return route if route.is_heard else None


async def emit(bus: EventBus, route: Route, payload: Mapping[str, Any]) -> None:
    """Publish a built-in event: sequentially, and without a yield of the bus's own.

    So nothing runs between a transition's commit and its first observer (C6). Whoever takes up
    the next message makes up for the yield, by `is_yield_due` and `yield_now` (D6).
    """
    # In place as in `publish`: with a coroutine more a message takes 8 % more time.
    if not route.direct:
        await bus._publish_watched(route, payload, deliver_sequential, stops=False)
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
    await bus._go_on(route, payload, subscription, trouble, stops=False)


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
            await emit(bus, route, payload)
