"""Faults that show only where one feature meets another."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from inspect import iscoroutine
from typing import Any

from flexiflow import Event, LimitDeadlock
from flexiflow.events import HANDLER_FAILED
from properties.faults._registry import breaks
from properties.reference.bus import Plain, PlainSubscription, Publishing
from properties.reference.full_bus import Entered, Full, Line, turns


@breaks("B5")
class CallsLatecomersAfterAFailure(Full):
    """Looks up anew, after a failure, who else hears the event."""

    async def sequential(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        for each in audience:
            await super().sequential(publishing, [each])
            if publishing.failures:
                now = self.audience(publishing.event)
                rest = [other for other in now if other not in audience]
                rest += audience[audience.index(each) + 1 :]
                await super().sequential(publishing, self.ordered(rest))
                return


@breaks("B5")
class TellsObserversThatAreGone(Plain):
    """Calls an observer of a failure that another observer has unsubscribed."""

    def admits(self, subscription: PlainSubscription, publishing: Publishing) -> bool:
        if publishing.event == HANDLER_FAILED and not subscription.once:
            return self.accepts(subscription, publishing)
        return super().admits(subscription, publishing)


@breaks("B5")
class CallsWhomAnInstrumentHasEnded(Full):
    """Calls a handler that an instrument unsubscribes as it is about to be called."""

    def is_still_to_start(self, subscription: PlainSubscription) -> bool:
        return True


@breaks("B7")
class AwaitsOnlyCoroutinesInTime(Full):
    """Awaits nothing but coroutines if the handler has a time limit."""

    async def call(self, subscription: PlainSubscription, data: Any) -> Any:
        if subscription not in self.times:
            return await super().call(subscription, data)
        result = subscription.handler(data)
        if not iscoroutine(result):
            return result
        return await self.await_in_time(result, self.times[subscription])


@breaks("B10")
class ForgetsLongerPatterns(Full):
    """Ends, with a pattern, those that begin in the same way."""

    def unsubscribe(self, subscription: PlainSubscription) -> bool:
        was_there = super().unsubscribe(subscription)
        name = subscription.event_name
        if was_there and "*" in name:
            self.listed = [
                each for each in self.listed if not each.event_name.startswith(f"{name}.")
            ]
        return was_there


@breaks("E7")
class StaysWithinAFailure(Full):
    """Publishes no failure in a task that outlives the handling of another one."""

    async def announce(self, failed: Any) -> None:
        if self.announcing.get() is False:
            await super().announce(failed)


@breaks("V2")
class KnowsOnlyTheInnermostCall(Full):
    """Finds a call that waits for itself only if nothing limited is between."""

    def would_wait_for_itself(self, turn: Any) -> bool:
        turn.enclosing = turn.enclosing[-1:]
        return super().would_wait_for_itself(turn)

    async def wait_in_line(self, mine: Any) -> None:
        # It would wait for ever.
        raise LimitDeadlock("a handler", mine.line.limit)


@breaks("V2")
class CountsCallsThatAreOver(Full):
    """Takes a call from a task that a handler has left behind for one from within it."""

    @asynccontextmanager
    async def turn(self, line: Line) -> AsyncGenerator[None]:
        if any(each.line is line for each in turns.get()):
            raise LimitDeadlock("a handler", line.limit)
        async with super().turn(line):
            yield


@breaks("A3")
class GoesAroundNoLonger(Full):
    """Calls the handlers after a failure without what is around them."""

    has_failed = False

    async def sequential_failure(self, publishing: Publishing, failed: Any) -> None:
        self.has_failed = True
        await super().sequential_failure(publishing, failed)

    def functions(self, event: Event[Any], subscription: PlainSubscription) -> list[Any]:
        return [] if self.has_failed else super().functions(event, subscription)


@breaks("I2")
class ShowsALoneWatcherNothing(Full):
    """Shows what leaves publish only if several instruments watch."""

    def leave(self, entered: Entered, exc: BaseException | None) -> None:
        super().leave(entered, exc if len(entered) > 1 or self.handles(entered) else None)

    def handles(self, entered: Iterable[Any]) -> bool:
        return any(hasattr(each, "handling") for each, _ in entered)
