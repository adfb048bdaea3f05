"""The event bus: components subscribe handlers to event names, and publishing calls them.

**How a publish goes.** `publish` looks up the *route* of the event's name: the matching
subscriptions, in order of delivery. The registry works it out once, and remembers it until a change
of subscriptions or instruments could affect it. A route never changes, so the one that `publish`
takes before its first await is the snapshot that B5 promises; a handler that is unsubscribed later
is skipped, because its subscription is no longer `active`. Then the publish is counted, which may
make it yield. Then the handlers are called, and every exception that leaves one is judged.

**Plans.** Most publishes are sequential and unwatched, and their handlers are plain coroutine
functions. There, one more coroutine costs as much as calling a handler. So the route says
beforehand how its handlers can be called, and `publish` takes the first of these plans that fits:

- *direct*: await each handler in `publish` itself. All are coroutine functions without a filter.
- *in place*: the same loop, but with filters and sync handlers.
- *watched*: the direct loop, inside the context manager of the only instrument (I2).
- *general*: a delivery function (`_delivery`, `_concurrent`), inside all instruments. A handler
  that has terms or is watched is called through `Call`. Everything else takes this plan: concurrent
  and tiered delivery, `once`, limits, streams, several instruments, `event.handler.failed`.

The first three handle success only. At the first failure that is to be reported, `_go_on` reports
it and passes the remaining handlers to `deliver_sequential`. Built-in events are published by
`emit`, by the direct plan or the general one.

**The yield debt.** `_until_yield` counts publishes down from `yield_every`. The publish that brings
it to 0 yields to other tasks before it calls a handler, and the count starts again (D6). A built-in
event counts too, whether anyone hears it or not, but it never yields: nothing may run between the
commit of a transition and its first observer (C6). So the count can fall below 0. The next publish
pays this debt, or an actor does before it takes up the next message (`is_yield_due`, `yield_now`).

**Who judges what.** `judge` (`_cancellation`) decides what an exception is: a failure of the
handler, the cancellation of publish itself, or neither, like KeyboardInterrupt. The delivery then
applies the policy: cancellations and interrupts leave publish; a failure leaves it under "raise",
and under "continue" is reported, that is, logged and published as `event.handler.failed`
(`announce`). A failure within such a report is logged, but not published (E7). Instruments are
shown the verdict and can't change it; one that fails itself is logged and removed (`_instruments`).
They have one power: `PublishRefused` stops a publish before any handler has started (I3).
"""

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

# Set while schedules are explored: buses made meanwhile yield at every publish (P2).
yields_always: ContextVar[bool] = ContextVar("yields_always", default=False)


@final
class EventBus:
    """Calls the handlers that are subscribed to an event when it is published.

    A bus needs no running event loop, is bound to none, and can serve several runs one after
    another (B1). It is not thread-safe: use it in one event loop at a time, and from other threads
    through `anyio.from_thread`.

    Args:
        delivery: how handlers are called unless a publish says otherwise (D5): "sequential" (D1),
            "concurrent" (D2) or "tiered" (D3).
        on_error: what a failure does unless a publish says otherwise (D5): "continue" (E1) or
            "raise" (E2, E3).
        yield_every: at least one in this many publishes is a checkpoint (D6), an int of 1 or
            more; 1 makes every publish a checkpoint.
        instruments: added as by `add_instrument`; the first is the outermost (I2).

    Raises:
        ValueError: unknown `delivery` or `on_error`, or `yield_every` is not an int of 1 or more.
        TypeError: something in `instruments` is not an instrument (I2).
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

        Await the result, or enter it with `async with`, which unsubscribes on exit (B14).

        Args:
            event: a name, like "order.placed", or a pattern, like "order.*" or "order.**" (B10).
            component: the name of the subscription's owner.
            handler: takes the payload; sync or async (B7).
            priority: 1 (called first) to 5 (called last); handlers of equal priority are called in
                order of subscription (B4).
            filter: takes the event's name and the payload, and returns whether to call the
                handler (B8).
            once: start the handler at most once; it is unsubscribed before it starts (B9).
            time_limit: seconds, more than 0. An async handler that runs longer is cancelled and
                fails with `HandlerTimeout` (V1).
            limit: how many calls of the handler may run at once, 1 or more; further calls wait
                for their turn (V2).

        Returns:
            A coroutine that returns the `Subscription`, which is also a context manager that
            unsubscribes on exit.

        Raises:
            ValueError: a malformed or empty name, a priority that is not an int in 1..5, or a
                `time_limit` or `limit` out of range (B3).
            TypeError: a name that is not a str, or something that can't be a handler or a filter
                (B3).
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

    # Tracebacks and "was never awaited" warnings then name the method that the user called.
    _subscribe.__qualname__ = "EventBus.subscribe"

    def unsubscribe(self, subscription: Subscription) -> bool:
        """End a subscription: its handler never starts again (B5, B6).

        Returns:
            True the first time; False afterwards, and for a subscription of another bus.

        Raises:
            TypeError: `subscription` is not a `Subscription`.
        """
        if not isinstance(subscription, Subscription):
            raise TypeError(
                f"unsubscribe takes what subscribe returned, not {reprlib.repr(subscription)}"
            )
        return self._registry.remove(subscription)

    def unsubscribe_all(self, component: str) -> int:
        """End all subscriptions of a component, and return their number (B6).

        Raises:
            TypeError: the component's name is not a str.
            ValueError: the component's name is empty.
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

    async def publish(  # noqa: C901, PLR0912  one more function costs as much as a handler
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
            data: the payload; each handler gets this very object.
            delivery: replaces the bus's own (D5).
            on_error: replaces the bus's own (D5).

        Returns:
            Under "continue", the failures in order of delivery; each has been logged and published
            as `event.handler.failed` (E1).

        Raises:
            ValueError: a malformed name, a pattern, or an unknown delivery or policy (B3).
            TypeError: a name that is not a str (B3).
            PublishRefused: an instrument refused the publish; no handler has started (I3).
            Exception: under "raise", the first failure, unwrapped (E2, E3).
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
        # The commonest publishes run right here: another coroutine costs as much as a handler.
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
            # A loop of its own: with these checks, ten direct handlers take 12 % longer.
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
        """Report a failure of `subscription`'s handler, then call the handlers after it."""
        failed = await report(route.name, subscription, trouble, self._announce)
        rest = route.subscriptions[route.subscriptions.index(subscription) + 1 :]
        return failed, *await deliver_sequential(
            route.name, data, rest, stops=stops, announce=self._announce
        )

    def _publish_apart(
        self, route: Route, data: Any, deliver: _Deliver, *, stops: bool
    ) -> Awaitable[Failures]:
        # A plain function: each coroutine awaited within another costs as much as a handler.
        if route.name == HANDLER_FAILED or (blocking_streams and deliver is not deliver_sequential):
            return self._publish_marked(route, data, deliver, stops=stops)
        return self._publish_watched(route, data, deliver, stops=stops)

    async def _publish_marked(
        self, route: Route, data: Any, deliver: _Deliver, *, stops: bool
    ) -> Failures:
        # Within `event.handler.failed` no failure is published, even where a user published it
        # (E7). A stream that blocks must know which task waits for this publish (S3).
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
            del failures  # their tracebacks hold this frame (B6)

    async def _publish_to_watcher(
        self,
        route: Route,
        data: Any,
        watcher: Installed,
        stops: bool,  # noqa: FBT001  a keyword argument takes longer
    ) -> Failures:
        """Call the handlers directly, inside the context manager of the only instrument.

        The general way, `_publish_watched`, takes half as long again.
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
        """Return a stream, which receives events while its `async with` block lasts (S1).

        Args:
            event: a name or pattern, as for `subscribe`.
            buffer: how many events may wait for a reader, 0 or more. With 0, which only "block"
                allows, each publisher waits until a reader takes its event.
            overflow: what happens when an event meets a full buffer (S2): with "block" its
                publisher waits for room, "drop_oldest" drops the oldest event in the buffer,
                "drop_newest" drops this one, and "error" drops it and fails with `BufferFull`.
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
        """Return an expectation: enter it, cause the event, and await it inside (S1, S4).

        Args:
            event: a name or pattern, as for `subscribe`.
            filter: takes the event's name and the payload; the first event for which it returns
                true is the expected one. An exception that it raises is raised to the waiter.

        Raises:
            ValueError: a malformed or empty name (B3).
            TypeError: a name that is not a str, or something that can't be a filter (B3).
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
        """Wait for the first matching event that is published from now on; a checkpoint (S4).

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
        """Add an instrument as the innermost one, from the next publish on (I1).

        Args:
            instrument: has one or both of `publishing(event)` and `handling(event, subscription)`,
                each of which returns a context manager (I2). An instrument that was added before
                keeps its place.

        Raises:
            TypeError: it has neither method, or one that does not take these arguments or is a
                coroutine function.
        """
        if not any(each.instrument is instrument for each in self._registry.instruments):
            installed = Installed(instrument, self._take_out)
            self._registry.watch((*self._registry.instruments, installed))

    def remove_instrument(self, instrument: Instrument) -> bool:
        """Remove an instrument, from the next publish on (I1).

        Returns:
            True the first time; False afterwards, and for an instrument that was never added or
            was removed because it failed (I3).
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
        """Subscribe the handler of a stream or an expectation, which takes the `Event`."""
        return self._registry.create(
            event,
            RECEIVER,
            handler,
            priority=priority,
            filter=filter,
            once=False,
            terms=_TAKES_EVENT,
        )


# What the engine and its components do with a bus. These are module functions, to keep them off
# the public class.


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
    """Subscribe without a checkpoint; the arguments must have passed `check_subscription`.

    Priority 0 is reserved for FlexiFlow: it comes before every priority that users may choose, and
    is a tier of its own (B4, D3).
    """
    return bus._registry.create(
        event, component, handler, priority=priority, filter=filter, once=once, terms=terms
    )


def subscriptions(bus: EventBus) -> Iterator[Subscription]:
    """Iterate over all subscriptions of a bus."""
    return iter(bus._registry)


def listeners(bus: EventBus, event: str) -> Route | None:
    """Count a built-in event as a publish (D6), and return its route, or None if nobody hears it.

    With None the caller need not make the payload.
    """
    bus._until_yield -= 1
    try:
        route = bus._routes[event]
    except KeyError:
        route = bus._registry.resolve(event)
    return route if route.is_heard else None


async def emit(bus: EventBus, route: Route, payload: Mapping[str, Any]) -> None:
    """Publish a built-in event sequentially, without a yield of the bus's own.

    So nothing runs between a transition's commit and its first observer (C6). An actor makes up
    for the yield before it takes up the next message, with `is_yield_due` and `yield_now` (D6).

    Args:
        bus: the bus that the event belongs to.
        route: what `listeners` returned.
        payload: what the handlers get.
    """
    # A loop of its own, as in `publish`: with one more coroutine a message takes 8 % longer.
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
    """Return whether `yield_every` publishes have gone by since the last yield (D6)."""
    return bus._until_yield <= 0


async def yield_now(bus: EventBus) -> None:
    """Yield to other tasks, and restart the count of publishes."""
    bus._until_yield = bus._yield_every
    await checkpoint()


async def announce(
    bus: EventBus, event_name: str, component_name: str, exception: Exception
) -> None:
    """Publish a logged failure as `event.handler.failed`, unless within such a publish (E7)."""
    route = None if is_announcing() else listeners(bus, HANDLER_FAILED)
    if route is not None:
        payload: HandlerFailed = {
            "event_name": event_name,
            "component_name": component_name,
            "exception": exception,
        }
        with Announcing():
            await emit(bus, route, payload)
