"""The reference bus with all optional parts: receivers, limits, instruments and the rest."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from inspect import isawaitable
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import anyio

from flexiflow import (
    DuplicateAnswer,
    Event,
    EventBus,
    HandlerTimeout,
    LimitDeadlock,
    NoAnswer,
    PublishRefused,
    Topic,
)
from flexiflow.events import BUILT_IN, HANDLER_FAILED
from properties.reference.background import PlainBackground
from properties.reference.bus import Plain, PlainSubscription, Publishing, logger
from properties.reference.receivers import (
    PlainExpectation,
    PlainStream,
    current_task,
    waiting_for_publishes,
)

Entered = list[tuple[Any, Any]]


@dataclass(eq=False)
class Line:
    """Limits how many calls run at once."""

    limit: int
    holders: list["Turn"] = field(default_factory=list["Turn"])


@dataclass(eq=False)
class Turn:
    """A call's place in line, and then its slot."""

    line: Line
    enclosing: tuple["Turn", ...]
    granted: anyio.Event = field(default_factory=anyio.Event)


turns: ContextVar[tuple[Turn, ...]] = ContextVar("turns", default=())
watching: ContextVar[tuple[Any, ...]] = ContextVar("watching", default=())


class Full(Plain):
    """A bus with all optional parts."""

    stream_type = PlainStream
    expectation_type = PlainExpectation
    background_type = PlainBackground

    def __init__(self, around: Iterable[Any] = ()) -> None:
        super().__init__()
        self.own_around = list(around)
        self.receivers: WeakSet[PlainSubscription] = WeakSet()
        self.times: WeakKeyDictionary[PlainSubscription, float] = WeakKeyDictionary()
        self.lines: WeakKeyDictionary[PlainSubscription, Line] = WeakKeyDictionary()
        self.waiting: list[Turn] = []
        self.instruments: list[Any] = []
        self.around: WeakKeyDictionary[PlainSubscription, list[Any]] = WeakKeyDictionary()
        self.answerers: dict[str, PlainSubscription] = {}
        self.within: ContextVar[tuple[PlainBackground, ...]] = ContextVar("within", default=())

    async def subscribe(
        self,
        *arguments: Any,
        time_limit: float | None = None,
        limit: int | None = None,
        around: Iterable[Any] = (),
        **options: Any,
    ) -> PlainSubscription:
        made = await super().subscribe(*arguments, **options)
        self.around[made] = list(around)
        if time_limit is not None:
            self.times[made] = time_limit
        if limit is not None:
            self.lines[made] = Line(limit)
        return made

    async def publish(self, event: Any, data: Any = None, **options: Any) -> Any:
        instruments = tuple(self.instruments)
        token = waiting_for_publishes.set((*waiting_for_publishes.get(), current_task()))
        watched = watching.set(instruments)
        try:
            entered = self.enter("publishing", instruments, Event(event, data))
            return await self.publish_watched(entered, event, data, **options)
        finally:
            watching.reset(watched)
            waiting_for_publishes.reset(token)

    async def publish_watched(self, entered: Entered, event: Any, data: Any, **options: Any) -> Any:
        try:
            result = await super().publish(event, data, **options)
        except BaseException as exc:
            self.leave(entered, exc)
            raise
        self.leave(entered, None)
        return result

    # Receivers.

    def stream(
        self,
        event: Any,
        *,
        buffer: int = 100,
        overflow: str = "block",
        priority: int = 3,
        filter: Any = None,
    ) -> PlainStream:
        subscribe = partial(self.seat, event, priority, filter)
        return self.stream_type(buffer, overflow, subscribe)

    def expect(self, event: Any, *, filter: Any = None) -> PlainExpectation:
        return self.expectation_type(filter, partial(self.seat, event, 3, None))

    async def wait_for(self, event: Any, *, filter: Any = None) -> Event[Any]:
        async with self.expect(event, filter=filter) as expected:
            return await expected

    def seat(self, event: Any, priority: int, filter: Any, handler: Any) -> PlainSubscription:
        made = self.make(event, "receiver", priority, self, handler, filter, once=False)
        self.listed.append(made)
        self.receivers.add(made)
        return made

    def wake_streams(self) -> None:
        """Let publishers that wait for room find out again whether they wait for themselves."""
        for each in self.listed:
            stream = getattr(each.handler, "__self__", None)
            if isinstance(stream, PlainStream):
                stream.wake()

    # Limits.

    async def take_turn(self, subscription: PlainSubscription, publishing: Publishing) -> None:
        line = self.line_of(subscription)
        if line is None:
            await self.start(subscription, publishing)
        else:
            async with self.turn(line):
                await self.start(subscription, publishing)

    def line_of(self, subscription: PlainSubscription) -> Line | None:
        return self.lines.get(subscription)

    @asynccontextmanager
    async def turn(self, line: Line) -> AsyncGenerator[None]:
        mine = Turn(line, turns.get())
        if self.would_wait_for_itself(mine):
            raise LimitDeadlock("a handler", line.limit)
        if len(line.holders) < line.limit:
            line.holders.append(mine)
        else:
            await self.wait_in_line(mine)
        token = turns.set((*mine.enclosing, mine))
        try:
            yield
        finally:
            turns.reset(token)
            self.release(mine)

    def would_wait_for_itself(self, turn: Turn) -> bool:
        within = any(holder in turn.enclosing for holder in turn.line.holders)
        return within or self.is_stuck(turn.line, turn.enclosing)

    def is_stuck(self, line: Line, enclosing: tuple[Turn, ...]) -> bool:
        """Return whether all calls that hold a slot wait, in the end, for one of these."""
        return len(line.holders) >= line.limit and all(
            holder in enclosing
            or any(
                holder in other.enclosing and self.is_stuck(other.line, enclosing)
                for other in self.waiting
            )
            for holder in line.holders
        )

    async def wait_in_line(self, mine: Turn) -> None:
        self.waiting.append(mine)
        try:
            await mine.granted.wait()
        except BaseException:
            self.give_up(mine)
            raise

    def give_up(self, mine: Turn) -> None:
        if mine in self.waiting:
            self.waiting.remove(mine)
        else:
            self.release(mine)

    def release(self, mine: Turn) -> None:
        """Pass the slot on to the next in line."""
        mine.line.holders.remove(mine)
        following = self.next_in_line([it for it in self.waiting if it.line is mine.line])
        if following is not None:
            self.waiting.remove(following)
            mine.line.holders.append(following)
            following.granted.set()

    def next_in_line(self, waiting: list[Turn]) -> Turn | None:
        return waiting[0] if waiting else None

    # One handler.

    async def start(self, subscription: PlainSubscription, publishing: Publishing) -> None:
        if self.admits(subscription, publishing):
            await self.call_watched(Event(publishing.event, publishing.data), subscription)

    async def call_watched(self, event: Event[Any], subscription: PlainSubscription) -> None:
        """Call the handler, inside the instruments."""
        entered = self.enter("handling", watching.get(), event, subscription)
        try:
            is_receiver = subscription in self.receivers
            if self.is_still_to_start(subscription):
                await self.call_inside(event, subscription, is_receiver=is_receiver)
        except BaseException as exc:
            self.leave(entered, self.classified(exc))
            raise
        self.leave(entered, None)

    def is_still_to_start(self, subscription: PlainSubscription) -> bool:
        """Return whether what is around a handler has not unsubscribed it; before, `once` was."""
        return subscription.active or subscription.once

    def classified(self, exc: BaseException) -> BaseException | None:
        """Return the exception as an instrument is shown it."""
        try:
            failure, passing = self.judge(exc)
        except BaseException as other:
            return other
        return failure or passing

    async def call_inside(
        self, event: Event[Any], subscription: PlainSubscription, *, is_receiver: bool
    ) -> None:
        """Call the handler, inside the functions around it."""
        data = event if is_receiver else event.data
        functions = self.functions(event, subscription)
        # Without functions around it, what leaves the handler is judged further out.
        call = self.call_judged if functions else self.call
        handler = partial(call, subscription, data)
        await self.surround(functions, event, subscription, handler)

    async def surround(
        self, functions: list[Any], event: Event[Any], subscription: PlainSubscription, call: Any
    ) -> None:
        """Call something inside functions, the first one outermost."""
        for function in reversed(functions):
            call = self.inner(function, event, subscription, call)
        await call()

    def functions(self, event: Event[Any], subscription: PlainSubscription) -> list[Any]:
        """Return the functions around a handler, the outermost first."""
        if event.name in BUILT_IN or subscription in self.receivers:
            return []
        return self.own_around + self.around.get(subscription, [])

    async def call_judged(self, subscription: PlainSubscription, data: Any) -> None:
        try:
            if self.is_still_to_start(subscription):
                await self.call(subscription, data)
        except BaseException as exc:
            failure, passing = self.judge(exc)
            leaving = failure or passing or exc
            raise leaving from leaving.__cause__

    def inner(self, function: Any, event: Event[Any], subscription: Any, call: Any) -> Any:
        """Return a function that calls a function around a handler with what is inside it."""

        async def run() -> None:
            state = {"is_running": False, "is_over": False}
            try:
                await function(event, subscription, partial(self.once_at_a_time, state, call))
            finally:
                state["is_over"] = True

        return run

    async def once_at_a_time(self, state: dict[str, bool], call: Any) -> None:
        if state["is_running"] or state["is_over"]:
            raise RuntimeError("it runs, or is over")
        state["is_running"] = True
        try:
            await call()
        finally:
            state["is_running"] = False

    async def call(self, subscription: PlainSubscription, data: Any) -> Any:
        limit = self.times.get(subscription)
        if limit is None:
            return await super().call(subscription, data)
        result = subscription.handler(data)
        return await self.await_in_time(result, limit) if isawaitable(result) else result

    async def await_in_time(self, result: Any, limit: float) -> Any:
        deadline = anyio.current_time() + limit
        answer = cause = None
        with anyio.CancelScope(deadline=deadline):
            try:
                answer = await result
            except Exception as exc:
                if anyio.current_time() < deadline:
                    raise
                cause = exc
        if anyio.current_time() >= deadline:
            raise HandlerTimeout("a handler", limit) from cause
        return answer

    # Seeing what is subscribed.

    def subscriptions(
        self, event: str | None = None, *, component: str | None = None
    ) -> tuple[PlainSubscription, ...]:
        if event is not None:
            EventBus().subscriptions(event)
        found = self.listed if event is None else self.audience(event)
        return tuple(each for each in found if component in (None, each.component_name))

    # Asking.

    async def answer(
        self,
        query: Any,
        component: str,
        handler: Any,
        *,
        time_limit: float | None = None,
        limit: int | None = None,
    ) -> PlainSubscription:
        await EventBus().answer(query, component, handler, time_limit=time_limit, limit=limit)
        self.check_unanswered(query)
        made = self.make(query, component, 3, self, handler, None, once=False)
        if time_limit is not None:
            self.times[made] = time_limit
        if limit is not None:
            self.lines[made] = Line(limit)
        self.listed.append(made)
        self.answerers[query] = made
        return made

    def check_unanswered(self, query: str) -> None:
        if query in self.answerers and self.answerers[query].active:
            raise DuplicateAnswer(query, self.answerers[query].component_name)

    def hears(self, subscription: PlainSubscription, event: str) -> bool:
        return subscription not in self.answerers.values() and super().hears(subscription, event)

    async def ask(self, query: Any, data: Any = None) -> Any:
        await self.make_way()
        if isinstance(query, Topic) or query not in self.answerers:
            with suppress(NoAnswer):
                # It checks the name.
                await EventBus().ask(query, data)
            raise NoAnswer(query, self.answerers)
        answerer = self.answerers[query]
        event = Event(query, data)
        entered = self.enter("publishing", tuple(self.instruments), event)
        try:
            answer = await self.answered_by(answerer, event)
        except BaseException as exc:
            leaving = self.classified(exc) or exc
            self.leave(entered, leaving)
            raise leaving from leaving.__cause__
        self.leave(entered, None)
        return answer

    async def answered_by(self, answerer: PlainSubscription, event: Event[Any]) -> Any:
        """Wait for the answerer's turn, and call it."""
        line = self.line_of(answerer)
        if line is None:
            return await self.call_answerer(answerer, event)
        async with self.turn(line):
            return await self.call_answerer(answerer, event)

    async def call_answerer(self, answerer: PlainSubscription, event: Event[Any]) -> Any:
        if not answerer.active:
            raise NoAnswer(event.name)
        entered = self.enter("handling", tuple(self.instruments), event, answerer)
        try:
            answer = await self.call(answerer, event.data)
        except BaseException as exc:
            self.leave(entered, self.classified(exc))
            raise
        self.leave(entered, None)
        return answer

    # Publishing in the background.

    def background(self, **options: Any) -> PlainBackground:
        return self.background_type(self, **options)

    def step_into(self, background: PlainBackground) -> None:
        """Leave what is around for what is around a background, in a copied context."""
        outside = background.opened_in
        turns.set(outside.get(turns, ()))
        waiting_for_publishes.set((*outside.get(waiting_for_publishes, ()), background))
        self.announcing.set(outside.get(self.announcing, False))
        self.within.set((*outside.get(self.within, ()), background))

    # Instruments.

    def add_instrument(self, instrument: Any) -> None:
        if not any(each is instrument for each in self.instruments):
            self.instruments.append(instrument)

    def remove_instrument(self, instrument: Any) -> bool:
        before = len(self.instruments)
        self.instruments = [each for each in self.instruments if each is not instrument]
        return len(self.instruments) < before

    def enter(
        self, method: str, instruments: Iterable[Any], event: Event[Any], *subscription: Any
    ) -> Entered:
        entered: Entered = []
        for each in instruments:
            try:
                if each in self.instruments and hasattr(each, method):
                    manager = getattr(each, method)(event, *subscription)
                    manager.__enter__()
                    entered.append((each, manager))
            except (Exception, anyio.get_cancelled_exc_class()) as exc:
                if method != "publishing" or not isinstance(exc, PublishRefused):
                    self.take_out(each, exc)
                elif event.name != HANDLER_FAILED:
                    self.leave(entered, exc)
                    raise
        return entered

    def leave(self, entered: Entered, exc: BaseException | None) -> None:
        for each, manager in reversed(entered):
            try:
                self.answered(manager.__exit__(type(exc) if exc else None, exc, None))
            except (Exception, anyio.get_cancelled_exc_class()) as failure:
                self.take_out(each, failure)

    def answered(self, answer: object) -> None:
        """Ignore what an instrument's context manager answers; for a fault to override."""

    def take_out(self, instrument: Any, failure: BaseException) -> None:
        if self.remove_instrument(instrument):
            logger.error("an instrument failed", exc_info=failure)
