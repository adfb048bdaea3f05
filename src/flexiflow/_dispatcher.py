"""The inside of a bus: its routes, its instruments, and the count of its publishes.

A bus has one `Dispatcher`, and so have the engine and the components that publish on the bus.

**How a publish goes.** `EventBus.publish` looks up the *route* of the event's name: the matching
subscriptions, in order of delivery. The registry works it out once, and remembers it until a change
of subscriptions or instruments could affect it. A route never changes, so the one that `publish`
takes before its first await is the snapshot that B5 promises; a handler that is unsubscribed later
is skipped, because its subscription is no longer `active`. Then the publish is counted, which may
make it yield. Then the handlers are called, and every exception that leaves one is judged.

**Plans.** Most publishes are sequential and unwatched, and their handlers are plain coroutine
functions. There, one more coroutine costs as much as calling a handler. So each route has a `Plan`,
made with the route, which says how its handlers are called:

- *unheard*: there is nothing to do.
- *direct*: `publish` awaits each handler itself.
- *filtered*: so does a second loop in `publish`, which asks filters and calls sync handlers, too.
- *watched*: `deliver` awaits each handler, inside the context manager of the only instrument (I2).
- *surrounded*: `deliver_surrounded` awaits each handler, inside the functions around it (A3).
- *general*: `deliver_generally` calls a function of `_delivery`, inside all instruments. A handler
  that has terms, is watched or has functions around it is called through `HandlerCall`. Concurrent
  and tiered delivery take this plan; so do `once`, limits, streams, several instruments and
  `event.handler.failed`.

A publish that asks for another delivery than the bus's own takes the general plan. A built-in event
takes the direct plan, in the loop of `deliver`, or else the general one.

The loops handle success only. At the first failure that is to be reported, `deliver_rest` reports
it and passes the remaining handlers to `deliver_sequential`.

**The yield debt.** `until_yield` counts publishes down from `yield_every`. The publish that brings
it to 0 yields to other tasks before it calls a handler, and the count starts again (D6). A built-in
event counts too, whether anyone hears it or not, but it never yields: nothing may run between the
commit of a transition and its first observer (C6). So the count can fall below 0. The next publish
pays this debt, or an actor does before it takes up the next message (`pay_yield`).

**Who judges what.** `judge` (`_delivery.verdict`) decides what an exception is: a failure of the
handler, the cancellation of publish itself, or neither, like KeyboardInterrupt. The delivery then
applies the policy: cancellations and interrupts leave publish; a failure leaves it under "raise",
and under "continue" is reported, that is, logged and published as `event.handler.failed`
(`announce`). A failure within such a report is logged, but not published (E7). Instruments are
shown the verdict and can't change it; one that fails itself is logged and removed (`_instruments`).
They have one power: `PublishRefused` stops a publish before any handler has started (I3).
"""

from __future__ import annotations

from contextlib import nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, cast, final

from anyio.lowlevel import checkpoint

from flexiflow._arguments import (
    check_answer,
    check_around,
    check_subscription,
    make_answer_terms,
    make_terms,
)
from flexiflow._cancellation import effectively_cancelled, is_being_cancelled
from flexiflow._delivery.around import call_directly
from flexiflow._delivery.call import NOT_STARTED, HandlerCall
from flexiflow._delivery.sequential import deliver_sequential
from flexiflow._delivery.verdict import assess, judge, report
from flexiflow._errors import NoAnswer
from flexiflow._instruments import PUBLISHING, Installed, enter, go_without, leave, take_out
from flexiflow._names import Event, check_is_query, make_event
from flexiflow._receiver import RECEIVER, blocking_streams, marked_as_publishing
from flexiflow._registry import DIRECT, UNHEARD, Registry
from flexiflow._reporting import Announcing, is_announcing, log_exception
from flexiflow._subscription import Terms
from flexiflow.events import HANDLER_FAILED, MESSAGE_RECEIVED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from typing import TypeAlias

    from flexiflow._delivery.call import CallHandler
    from flexiflow._delivery.verdict import Failures, Trouble
    from flexiflow._instruments import Instrument
    from flexiflow._registry import Route
    from flexiflow._subscription import Around, Filter, Handler, HandlerFailure, Subscription
    from flexiflow.events import HandlerFailed

    Deliver: TypeAlias = Callable[..., Awaitable[Failures]]
    """Calls the handlers of a publish: `deliver_sequential`, or one with the same arguments."""

_TAKES_EVENT: Final = Terms(takes_event=True)

# Set while schedules are explored: buses made meanwhile yield at every publish (P2).
yields_always: ContextVar[bool] = ContextVar("yields_always", default=False)


@final
class Dispatcher:
    """The inside of a bus: knows who hears an event, and calls them.

    Args:
        yield_every: at least one in this many publishes is a checkpoint (D6).
        sequential: whether the bus delivers sequentially by default.
        around: the bus's own functions around handlers (A3).

    Attributes:
        registry: the subscriptions and instruments.
        routes: the routes that the registry remembers, by event name.
        direct_answerers: the handlers that `ask` calls itself, by query.
        yield_every: at least one in this many publishes is a checkpoint (D6).
        until_yield: how many publishes may go by until one must yield; 0 or less if one is due.
    """

    __slots__ = ("direct_answerers", "registry", "routes", "until_yield", "yield_every")

    registry: Registry
    routes: dict[str, Route]
    direct_answerers: dict[str, Handler]
    yield_every: int
    until_yield: int

    def __init__(
        self, yield_every: int, *, sequential: bool, around: tuple[Around, ...] = ()
    ) -> None:
        self.registry = Registry(sequential=sequential, around=around)
        self.routes = self.registry.routes
        self.direct_answerers = self.registry.direct_answerers
        self.yield_every = self.until_yield = 1 if yields_always.get() else yield_every

    async def subscribe(
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
        around: Iterable[Around],
    ) -> Subscription:
        """Check the arguments, and subscribe, as `EventBus.subscribe` says."""
        check_subscription(
            event,
            component,
            handler,
            priority=priority,
            filter=filter,
            time_limit=time_limit,
            limit=limit,
        )
        around = check_around(around)
        await checkpoint()
        return self.registry.create(
            event,
            component,
            handler,
            priority=priority,
            filter=filter,
            once=bool(once),
            terms=make_terms(time_limit=time_limit, limit=limit, around=around),
        )

    # Tracebacks and "was never awaited" warnings then name the method that the user called.
    subscribe.__qualname__ = "EventBus.subscribe"

    async def answer(
        self,
        query: Any,
        component: str,
        handler: Handler,
        *,
        time_limit: float | None,
        limit: int | None,
    ) -> Subscription:
        """Check the arguments, and add an answerer, as `EventBus.answer` says."""
        check_answer(query, component, handler, time_limit=time_limit, limit=limit)
        self.registry.check_unanswered(query)
        await checkpoint()
        terms = make_answer_terms(time_limit=time_limit, limit=limit)
        return self.registry.create_answerer(query, component, handler, terms)

    answer.__qualname__ = "EventBus.answer"

    def answerer(self, query: object) -> Subscription:
        """Return the answerer of a query; the name of one that has none is checked first (B3).

        Raises:
            NoAnswer: nobody answers it (A1).
        """
        name = check_is_query(query, "publish it with bus.publish")
        answerers = self.registry.answerers
        if name not in answerers:
            raise NoAnswer(name, answerers.keys())
        return answerers[name]

    async def ask_generally(self, query: object, data: Any) -> Any:
        """Call an answerer inside all instruments, within its limits, and return its result."""
        answerer = self.answerer(query)
        event = make_event(Event, (answerer.event_name, data))
        instruments = self.registry.instruments
        handling = tuple([each for each in instruments if each.handling])
        call = HandlerCall(event, handling, None).start
        entered = enter([each for each in instruments if each.publishing], event)
        try:
            result = await call(answerer, is_being_cancelled)
            if result is NOT_STARTED:
                # It was unsubscribed while this waited for its turn, or by an instrument.
                raise NoAnswer(event.name, self.registry.answerers)  # noqa: TRY301  as if from it
        except BaseException as exc:
            leaving = [judge(exc, answerer.handler, cancelled=is_being_cancelled).leaving]
            leave(entered, leaving[0], PUBLISHING)
            raise leaving.pop()
        leave(entered, None, PUBLISHING)
        return result

    def receive(
        self, event: str, priority: int, filter: Filter | None, handler: Handler
    ) -> Subscription:
        """Subscribe the handler of a stream or an expectation, which takes the `Event` (S1)."""
        return self.registry.create(
            event,
            RECEIVER,
            handler,
            priority=priority,
            filter=filter,
            once=False,
            terms=_TAKES_EVENT,
        )

    def listeners(self, event: str) -> Route | None:
        """Count a built-in event as a publish (D6); return its route, or None if it is unheard.

        With None the caller need not make the payload.
        """
        self.until_yield -= 1
        try:
            route = self.routes[event]
        except KeyError:
            route = self.registry.resolve(event)
        return None if route.plan is UNHEARD else route

    async def pay_yield(self) -> None:
        """Yield to other tasks, and restart the count of publishes (D6)."""
        self.until_yield = self.yield_every
        await checkpoint()

    async def deliver(  # noqa: C901, PLR0912, PLR0915  two coroutines would cost too much
        self,
        route: Route,
        data: Any,
        raises: bool = False,  # noqa: FBT001, FBT002  a keyword argument takes longer
        watcher: Installed | None = None,
    ) -> Failures:
        """Call the handlers in one loop: for built-in events, and for the watched plan.

        This never yields by itself, so nothing runs between a transition's commit and its first
        observer (C6).

        Args:
            route: the event's route; by any plan, if there is no watcher.
            data: the payload.
            raises: whether the first failure is raised at once (E2); else each is reported (E1).
            watcher: the only instrument, if the plan is the watched one. The general
                plan would take half as long again.
        """
        manager: Any = None
        if watcher is not None:
            event = make_event(Event, (route.name, data))
            try:
                if not watcher.is_out:
                    publishing = watcher.publishing
                    manager = publishing(event)
                    manager.__enter__()
            except BaseException as exc:
                manager = None
                go_without(watcher, exc, event, PUBLISHING)
        elif route.plan is not DIRECT:
            return await self._deliver_inside(route, data, deliver_sequential, raises=raises)
        try:
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
            return await self.deliver_rest(route, data, subscription, trouble, raises=raises)
        except BaseException as exc:
            if watcher is not None and manager is not None:
                entered, manager = [(watcher, manager)], None
                leave(entered, exc, PUBLISHING)
            raise
        finally:
            if manager is not None:
                try:
                    manager.__exit__(None, None, None)
                except BaseException as exc:
                    take_out(cast("Installed", watcher), exc, PUBLISHING)

    async def deliver_surrounded(self, route: Route, data: Any, *, raises: bool) -> Failures:
        """Call the handlers inside the functions around them, by the surrounded plan.

        The general plan would take up to half as long again.
        """
        event = make_event(Event, (route.name, data))
        call = HandlerCall(event, (), route.around).start
        for subscription, function in route.surrounded:
            try:
                if subscription.active:
                    if function is not None:
                        await call_directly(function, event, subscription)
                    else:
                        await call(subscription, is_being_cancelled)
            except BaseException as exc:
                trouble = assess(exc, subscription, raises=raises)
                break
        else:
            return ()
        return await self.deliver_rest(route, data, subscription, trouble, raises=raises, call=call)

    async def deliver_rest(
        self,
        route: Route,
        data: Any,
        subscription: Subscription,
        trouble: Trouble,
        *,
        raises: bool,
        call: CallHandler | None = None,
    ) -> Failures:
        """Report a failure of `subscription`'s handler, then call the handlers after it."""
        failed = await report(route.name, subscription, trouble, self.announce_failure)
        rest = route.subscriptions[route.subscriptions.index(subscription) + 1 :]
        return failed, *await deliver_sequential(
            route.name, data, rest, raises=raises, announce=self.announce_failure, call=call
        )

    def deliver_generally(
        self, route: Route, data: Any, deliver: Deliver, *, raises: bool
    ) -> Awaitable[Failures]:
        """Call the handlers by a function of `_delivery`, inside all instruments.

        A plain function that returns a coroutine: each coroutine awaited within another costs as
        much as a handler.
        """
        if route.name == HANDLER_FAILED or (blocking_streams and deliver is not deliver_sequential):
            return self._deliver_marked(route, data, deliver, raises=raises)
        return self._deliver_inside(route, data, deliver, raises=raises)

    async def _deliver_marked(
        self, route: Route, data: Any, deliver: Deliver, *, raises: bool
    ) -> Failures:
        # Within `event.handler.failed` no failure is published, even where a user published it
        # (E7). A stream that blocks must know which task waits for this publish (S3).
        announcing = Announcing() if route.name == HANDLER_FAILED else nullcontext()
        with announcing, marked_as_publishing():
            return await self._deliver_inside(route, data, deliver, raises=raises)

    async def _deliver_inside(
        self, route: Route, data: Any, deliver: Deliver, *, raises: bool
    ) -> Failures:
        """Call the handlers inside the instruments, if there are any."""
        name, subscriptions, announce = route.name, route.subscriptions, self.announce_failure
        if not (route.publishing or route.is_called):
            return await deliver(name, data, subscriptions, raises=raises, announce=announce)
        event = make_event(Event, (name, data))
        call = HandlerCall(event, route.handling, route.around).start if route.is_called else None
        entered = enter(route.publishing, event)
        try:
            failures = await deliver(
                name, data, subscriptions, raises=raises, announce=announce, call=call
            )
        except BaseException as exc:
            leave(entered, exc, PUBLISHING)
            raise
        leave(entered, None, PUBLISHING)
        try:
            return failures
        finally:
            del failures  # their tracebacks hold this frame (B6)

    async def announce(self, event_name: str, component_name: str, exception: Exception) -> None:
        """Publish a logged failure as `event.handler.failed`, unless within such a publish (E7)."""
        route = None if is_announcing() else self.listeners(HANDLER_FAILED)
        if route is not None:
            payload: HandlerFailed = {
                "event_name": event_name,
                "component_name": component_name,
                "exception": exception,
            }
            with Announcing():
                await self.deliver(route, payload)

    async def report(self, failure: Exception, component_name: str, culprit: str) -> None:
        """Report a failure of a component that nobody waits for: log it, and announce it (C4).

        Args:
            failure: what was raised.
            component_name: the component's name.
            culprit: what raised it, like a handler's name.
        """
        try:
            log_exception(failure, MESSAGE_RECEIVED, component_name, culprit)
            if not effectively_cancelled():
                await self.announce(MESSAGE_RECEIVED, component_name, failure)
        finally:
            del failure  # its traceback may hold this frame (B6)

    async def announce_failure(self, failed: HandlerFailure) -> None:
        """Publish a handler's logged failure, as `announce` does."""
        await self.announce(failed.event_name, failed.component_name, failed.exception)

    def add_instrument(self, instrument: Instrument) -> None:
        """Add an instrument as the innermost one, from the next publish on (I1).

        Raises:
            TypeError: it is not an instrument (I2).
        """
        if not any(each.instrument is instrument for each in self.registry.instruments):
            installed = Installed(instrument, self._take_out)
            self.registry.watch((*self.registry.instruments, installed))

    def remove_instrument(self, instrument: Instrument) -> bool:
        """Remove an instrument, from the next publish on; return whether it was there (I1)."""
        for each in self.registry.instruments:
            if each.instrument is instrument:
                self._take_out(each)
                return True
        return False

    def _take_out(self, installed: Installed) -> None:
        remaining = (each for each in self.registry.instruments if each is not installed)
        self.registry.watch(tuple(remaining))
