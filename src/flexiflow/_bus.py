"""The event bus: components subscribe handlers to event names, and publishing calls them.

`EventBus` is the public face: it checks arguments, keeps the defaults of a publish, and calls the
handlers itself where one more coroutine would cost as much as a handler. Everything else is done by
its `Dispatcher`, which engines and bridges use directly.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import reprlib
from functools import partial
from inspect import isawaitable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, final, get_args, overload

from flexiflow._arguments import check_around, check_buffer, check_int, check_options, choose
from flexiflow._background import Background
from flexiflow._cancellation import is_being_cancelled
from flexiflow._delivery.concurrent import deliver_concurrent, deliver_tiered
from flexiflow._delivery.sequential import deliver_sequential
from flexiflow._delivery.verdict import assess, judge
from flexiflow._dispatcher import Dispatcher
from flexiflow._expectation import Expectation
from flexiflow._names import Topic, check_component_name, check_is_event
from flexiflow._objects import refuse_copying
from flexiflow._registry import DIRECT, FILTERED, GENERAL, SURROUNDED, UNHEARD, WATCHED
from flexiflow._stream import EventStream, Overflow
from flexiflow._subscription import Subscribing, Subscription, is_true
from flexiflow._text import counted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from flexiflow._dispatcher import Deliver
    from flexiflow._instruments import Instrument
    from flexiflow._names import A, Event, Query, T
    from flexiflow._subscription import Around, Filter, Handler, HandlerFailure

DeliveryMode: TypeAlias = Literal["sequential", "concurrent", "tiered"]
ErrorPolicy: TypeAlias = Literal["continue", "raise"]

_DELIVER: Final[Mapping[str, Deliver]] = {
    "sequential": deliver_sequential,
    "concurrent": deliver_concurrent,
    "tiered": deliver_tiered,
}
# Delivery is given a policy as this bool: whether the first failure is raised at once.
_RAISES: Final = {"continue": False, "raise": True}
_OVERFLOWS: Final[Mapping[str, Overflow]] = {each: each for each in get_args(Overflow)}


@final
class EventBus:
    """Calls the handlers that are subscribed to an event when it is published.

    A bus needs no running event loop, is bound to none, and can serve several runs one after
    another (B1). It is not thread-safe: use it in one event loop at a time, and from other threads
    through `anyio.from_thread.run`.

    Args:
        delivery: how handlers are called unless a publish says otherwise (D5): "sequential" (D1),
            "concurrent" (D2) or "tiered" (D3).
        on_error: what a failure does unless a publish says otherwise (D5): "continue" (E1) or
            "raise" (E2, E3).
        yield_every: at least one in this many publishes is a checkpoint (D6), an int of 1 or
            more; 1 makes every publish a checkpoint.
        instruments: added as by `add_instrument`; the first is the outermost (I2).
        around: async functions around each handler of a subscription, the outermost first (A3):
            `async def around(event, subscription, call)`, which awaits `call()`.

    Raises:
        ValueError: unknown `delivery` or `on_error`, or `yield_every` is not an int of 1 or more.
        TypeError: something in `instruments` is not an instrument (I2), or something in `around`
            is not an async function that takes three arguments (A3).

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> async def main():
        ...     bus = EventBus()
        ...     await bus.subscribe("order.placed", "billing", print)
        ...     await bus.publish("order.placed", {"id": "A7"})
        >>> anyio.run(main)
        {'id': 'A7'}
    """

    __slots__ = ("_deliver", "_dispatcher", "_raises")

    __reduce_ex__ = refuse_copying

    def __init__(
        self,
        *,
        delivery: DeliveryMode = "sequential",
        on_error: ErrorPolicy = "continue",
        yield_every: int = 61,
        instruments: Iterable[Instrument] = (),
        around: Iterable[Around] = (),
    ) -> None:
        self._deliver = choose("delivery", delivery, _DELIVER)
        self._raises = choose("on_error", on_error, _RAISES)
        self._dispatcher = Dispatcher(
            check_int("yield_every", yield_every, "1 or more", least=1),
            sequential=self._deliver is deliver_sequential,
            around=check_around(around),
        )
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
        around: Iterable[Around] = (),
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
        around: Iterable[Around] = (),
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
        around: Iterable[Around] = (),
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
            around: async functions around the handler, the outermost first, inside the bus's (A3).

        Returns:
            A coroutine that returns the `Subscription`, which is also a context manager that
            unsubscribes on exit.

        Raises:
            ValueError: a malformed or empty name, a priority that is not an int in 1..5, or a
                `time_limit` or `limit` out of range (B3).
            TypeError: a name that is not a str, or something that can't be a handler, a filter or
                in `around` (A3, B3).
        """
        return Subscribing(
            self._dispatcher.subscribe(
                event,
                component,
                handler,
                priority=priority,
                filter=filter,
                once=once,
                time_limit=time_limit,
                limit=limit,
                around=around,
            )
        )

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
        return self._dispatcher.registry.remove(subscription)

    def unsubscribe_all(self, component: str) -> int:
        """End all subscriptions of a component, and return their number (B6).

        Raises:
            TypeError: the component's name is not a str.
            ValueError: the component's name is empty.
        """
        return self._dispatcher.registry.remove_all(check_component_name(component))

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

    async def publish(  # noqa: C901, PLR0911, PLR0912, PLR0915  a function more takes long
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
            TypeError: a name that is not a str (B3), or a `Query`. A `Query` passes unnoticed if
                events of the same name are published (A2).
            PublishRefused: an instrument refused the publish; no handler has started (I3).
            Exception: under "raise", the first failure, unwrapped (E2, E3).
        """
        dispatcher = self._dispatcher
        try:
            route = dispatcher.routes[event]
        except (KeyError, TypeError):
            route = dispatcher.registry.resolve(event)
        plan, raises = route.plan, self._raises
        if delivery is not None and choose("delivery", delivery, _DELIVER) is not self._deliver:
            plan = GENERAL
        if on_error is not None:
            raises = choose("on_error", on_error, _RAISES)
        dispatcher.until_yield = left = dispatcher.until_yield - 1
        if left <= 0:
            await dispatcher.pay_yield()
        # Two loops are in place. With `deliver` in place of the first one, which would do the same,
        # publishing to one handler takes 30 % more instructions, and to ten 9 % more.
        if plan is DIRECT:
            for subscription in route.subscriptions:
                try:
                    if subscription.active:
                        handler: Any = subscription.handler
                        await handler(data)
                except BaseException as exc:
                    trouble = assess(exc, subscription, raises=raises)
                    break
            else:
                return ()
        elif plan is WATCHED:
            return await dispatcher.deliver(route, data, raises, route.publishing[0])
        elif plan is FILTERED:
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
                        handler = subscription.handler
                        result: Any = handler(data)
                        if result is not None and (
                            are_async or type(result) is CoroutineType or isawaitable(result)
                        ):
                            await result
                except BaseException as exc:
                    trouble = assess(exc, subscription, raises=raises)
                    break
            else:
                return ()
        elif plan is UNHEARD:
            return ()
        elif plan is SURROUNDED:
            return await dispatcher.deliver_surrounded(route, data, raises=raises)
        else:
            deliver = self._deliver if delivery is None else _DELIVER[delivery]
            return await dispatcher.deliver_generally(route, data, deliver, raises=raises)
        return await dispatcher.deliver_rest(route, data, subscription, trouble, raises=raises)

    @overload
    def answer(
        self,
        query: Query[T, A],
        component: str,
        handler: Callable[[T], A | Awaitable[A]],
        *,
        time_limit: float | None = None,
        limit: int | None = None,
    ) -> Subscribing: ...

    @overload
    def answer(
        self,
        query: str,
        component: str,
        handler: Handler,
        *,
        time_limit: float | None = None,
        limit: int | None = None,
    ) -> Subscribing: ...

    def answer(
        self,
        query: Any,
        component: str,
        handler: Handler,
        *,
        time_limit: float | None = None,
        limit: int | None = None,
    ) -> Subscribing:
        """Answer a query from now on: `ask` calls the handler; a checkpoint (A1).

        Await the result, or enter it with `async with`, as that of `subscribe`. An answerer has no
        filter, no functions around it (A3), and no priority: its `Subscription` shows the default.

        Args:
            query: a name without wildcards.
            component: the name of the answerer's owner.
            handler: takes what is asked, and returns the answer; sync or async (B7).
            time_limit: as for `subscribe`; `ask` then raises `HandlerTimeout` (V1).
            limit: as for `subscribe` (V2).

        Raises:
            DuplicateAnswer: the query has an answerer already.
            ValueError: a malformed or empty name, a pattern, or a `time_limit` or `limit` out of
                range (B3).
            TypeError: a `Topic`, a name that is not a str, or something that can't be a handler.
        """
        return Subscribing(
            self._dispatcher.answer(query, component, handler, time_limit=time_limit, limit=limit)
        )

    @overload
    async def ask(self, query: Query[None, A], data: None = None) -> A: ...

    @overload
    async def ask(self, query: Query[T, A], data: T) -> A: ...

    @overload
    async def ask(self, query: str, data: Any = None) -> Any: ...

    async def ask(self, query: Any, data: Any = None) -> Any:
        """Call the query's one answerer in this task and context, and return its answer (A1).

        Args:
            query: a name without wildcards.
            data: what is asked; the answerer gets this very object.

        Raises:
            NoAnswer: nobody answers the query.
            ValueError: a malformed name, or a pattern (B3).
            TypeError: a `Topic`, or a name that is not a str.
            PublishRefused: an instrument refused it; the answerer has not started (I3).
            Exception: what the answerer raised; it is reported nowhere else.
        """
        dispatcher = self._dispatcher
        if (left := dispatcher.until_yield) <= 1:
            await dispatcher.pay_yield()
        else:
            dispatcher.until_yield = left - 1
        try:
            handler: Any = dispatcher.direct_answerers[query]
        except (KeyError, TypeError):
            handler = None
        if handler is None or Topic is type(query):  # in this order pyright narrows nothing
            return await dispatcher.ask_generally(query, data)
        # In place: with one more coroutine it would take half as long again.
        try:
            return await handler(data)
        except BaseException as exc:
            raise judge(exc, handler, cancelled=is_being_cancelled).leaving

    def background(
        self, *, limit: int = 10, buffer: int = 1000, overflow: Overflow = "block"
    ) -> Background:
        """Return an async context manager that publishes while its publishers go on (B15).

        Args:
            limit: how many publishes may run at once, 1 or more; they begin in order.
            buffer: how many events may wait for that: 0 or more, and 1 or more if `overflow` is not
                "block".
            overflow: what happens to an event for which there is no room, as for `stream`.

        Raises:
            ValueError: one of them is out of its range.
        """
        chosen = choose("overflow", overflow, _OVERFLOWS)
        check_buffer(buffer, chosen)
        check_int("limit", limit, "1 or more publishes at once", least=1)
        return Background(
            self._dispatcher, self.publish, limit=limit, buffer=buffer, overflow=chosen
        )

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
        check_options(event, priority=priority, filter=filter, time_limit=None, limit=None)
        choose("overflow", overflow, _OVERFLOWS)
        check_buffer(buffer, overflow)
        subscribe = partial(self._dispatcher.receive, event, priority, filter)
        return EventStream(event, buffer, overflow, self._dispatcher.yield_every, subscribe)

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
        check_options(event, priority=3, filter=filter, time_limit=None, limit=None)
        subscribe = partial(self._dispatcher.receive, event, 3, None)
        return Expectation(event, filter, subscribe, self._dispatcher.announce_failure)

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

    def subscriptions(
        self, event: str | Topic[Any] | None = None, *, component: str | None = None
    ) -> tuple[Subscription, ...]:
        """Return the active subscriptions, to see why a handler was called, or was not (B12).

        Args:
            event: a name without wildcards: only those that a publish of it would reach now, in
                order of delivery, before filters are asked; None for all, in order of subscription.
                All includes answerers, streams and expectations.
            component: only those of this owner; None for every owner.

        Raises:
            ValueError: a malformed or empty name, or a pattern (B3).
            TypeError: a name that is not a str, or a `Query`.
        """
        registry = self._dispatcher.registry
        if component is not None:
            check_component_name(component)
        check_is_event(event, "ask it with bus.ask")
        name: Any = event
        found = registry if event is None else registry.resolve(name).subscriptions
        return tuple([each for each in found if component in (None, each.component_name)])

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
        self._dispatcher.add_instrument(instrument)

    def remove_instrument(self, instrument: Instrument) -> bool:
        """Remove an instrument, from the next publish on (I1).

        Returns:
            True the first time; False afterwards, and for an instrument that was never added or
            was removed because it failed (I3).
        """
        return self._dispatcher.remove_instrument(instrument)

    def __repr__(self) -> str:
        """Show how many subscriptions and instruments there are."""
        registry = self._dispatcher.registry
        subscriptions = counted(len(list(registry)), "subscription")
        return f"<EventBus: {subscriptions}, {counted(len(registry.instruments), 'instrument')}>"


# A module function, to keep it off the public class.
def dispatcher_of(bus: EventBus) -> Dispatcher:
    """Return the inside of a bus, for what publishes or subscribes on it."""
    return bus._dispatcher
