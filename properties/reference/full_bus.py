"""The reference bus with all optional parts: receivers, limits and instruments."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from inspect import isawaitable
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import anyio

from flexiflow import Event, HandlerTimeout, LimitDeadlock, PublishRefused
from flexiflow.events import HANDLER_FAILED
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

    def __init__(self) -> None:
        super().__init__()
        self.receivers: WeakSet[PlainSubscription] = WeakSet()
        self.times: WeakKeyDictionary[PlainSubscription, float] = WeakKeyDictionary()
        self.lines: WeakKeyDictionary[PlainSubscription, Line] = WeakKeyDictionary()
        self.waiting: list[Turn] = []
        self.instruments: list[Any] = []

    async def subscribe(
        self,
        *arguments: Any,
        time_limit: float | None = None,
        limit: int | None = None,
        **options: Any,
    ) -> PlainSubscription:
        made = await super().subscribe(*arguments, **options)
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
        self.subscriptions.append(made)
        self.receivers.add(made)
        return made

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
        if not self.admits(subscription, publishing):
            return
        event = Event(publishing.event, publishing.data)
        entered = self.enter("handling", watching.get(), event, subscription)
        try:
            is_receiver = subscription in self.receivers
            await self.call(subscription, event if is_receiver else event.data)
        except BaseException as exc:
            self.leave(entered, self.classified(exc))
            raise
        self.leave(entered, None)

    def classified(self, exc: BaseException) -> BaseException | None:
        """Return the exception as an instrument is shown it."""
        try:
            failure, passing = self.judge(exc)
        except BaseException as other:
            return other
        return failure or passing

    async def call(self, subscription: PlainSubscription, data: Any) -> None:
        limit = self.times.get(subscription)
        if limit is None:
            await super().call(subscription, data)
            return
        result = subscription.handler(data)
        if isawaitable(result):
            await self.await_in_time(result, limit)

    async def await_in_time(self, result: Any, limit: float) -> None:
        with anyio.move_on_after(limit) as scope:
            await result
        if scope.cancelled_caught:
            raise HandlerTimeout("a handler", limit)

    # Instruments.

    def add_instrument(self, instrument: Any) -> None:
        self.instruments.append(instrument)

    def remove_instrument(self, instrument: Any) -> bool:
        if instrument not in self.instruments:
            return False
        self.instruments.remove(instrument)
        return True

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
            except PublishRefused as refusal:
                if event.name != HANDLER_FAILED:
                    self.leave(entered, refusal)
                    raise
            except Exception as exc:
                self.take_out(each, exc)
        return entered

    def leave(self, entered: Entered, exc: BaseException | None) -> None:
        for each, manager in reversed(entered):
            try:
                self.answered(manager.__exit__(type(exc) if exc else None, exc, None))
            except Exception as failure:
                self.take_out(each, failure)

    def answered(self, answer: object) -> None:
        """Ignore what an instrument's context manager answers; for a fault to override."""

    def take_out(self, instrument: Any, failure: Exception) -> None:
        if self.remove_instrument(instrument):
            logger.error("an instrument failed", exc_info=failure)
