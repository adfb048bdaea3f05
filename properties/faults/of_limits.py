"""Faults of limits: V1, V2."""

from typing import Any

import anyio

from flexiflow import HandlerTimeout
from properties.faults._registry import breaks
from properties.reference.bus import PlainSubscription, Publishing
from properties.reference.full_bus import Full, Line, Turn


@breaks("V1")
class AnOuterDeadlineIsATimeout(Full):
    """Treats any cancellation as the end of the handler's time."""

    async def await_in_time(self, result: Any, limit: float) -> None:
        try:
            await super().await_in_time(result, limit)
        except anyio.get_cancelled_exc_class():
            raise HandlerTimeout("a handler", limit) from None


@breaks("V1")
class TimeIsOnlyMeasured(Full):
    """Lets a handler go on when its time is over."""

    async def await_in_time(self, result: Any, limit: float) -> None:
        begin = anyio.current_time()
        await result
        if anyio.current_time() - begin > limit:
            raise HandlerTimeout("a handler", limit)


@breaks("V1")
class TimesOutInSilence(Full):
    """Cancels a handler when its time is over, and reports no failure."""

    async def await_in_time(self, result: Any, limit: float) -> None:
        with anyio.move_on_after(limit):
            await result


@breaks("V1")
class AnyTimeoutIsItsOwn(Full):
    """Treats every `TimeoutError` as the end of the handler's time."""

    async def await_in_time(self, result: Any, limit: float) -> None:
        try:
            await super().await_in_time(result, limit)
        except TimeoutError:
            raise HandlerTimeout("a handler", limit) from None


@breaks("V2")
class LimitsEachPublish(Full):
    """Counts only the calls of one publish."""

    def line_of(self, subscription: PlainSubscription) -> Line | None:
        line = super().line_of(subscription)
        return line and Line(line.limit)


@breaks("V2")
class AsksTheFilterInLine(Full):
    """Asks the filter before the call's turn has come."""

    async def take_turn(self, subscription: PlainSubscription, publishing: Publishing) -> None:
        if self.line_of(subscription) is None or self.accepts(subscription, publishing):
            await super().take_turn(subscription, publishing)


@breaks("V2")
class StartsTheRemovedInLine(Full):
    """Starts a handler that was unsubscribed while its call waited."""

    async def take_turn(self, subscription: PlainSubscription, publishing: Publishing) -> None:
        line = self.line_of(subscription)
        if line is not None and self.admits(subscription, publishing):
            async with self.turn(line):
                await self.call(subscription, publishing.data)
        elif line is None:
            await super().take_turn(subscription, publishing)


@breaks("V2")
class TimeRunsInLine(Full):
    """Starts the time of a handler when its call begins to wait."""

    async def take_turn(self, subscription: PlainSubscription, publishing: Publishing) -> None:
        limit = self.times.get(subscription, 1e9)
        with anyio.move_on_after(limit) as scope:
            await super().take_turn(subscription, publishing)
        if scope.cancelled_caught:
            raise HandlerTimeout("a handler", limit)


@breaks("V2")
class TheLastIsServedFirst(Full):
    """Serves a line from its end."""

    def next_in_line(self, waiting: list[Turn]) -> Turn | None:
        return waiting[-1] if waiting else None


@breaks("V2")
class ASlotIsLost(Full):
    """Keeps the slot of a call that was cancelled in the step in which it was granted."""

    def give_up(self, mine: Turn) -> None:
        if mine in self.waiting:
            self.waiting.remove(mine)


@breaks("V2")
class TheCancelledStayInLine(Full):
    """Grants a slot to a call that was cancelled."""

    def give_up(self, mine: Turn) -> None:
        pass


@breaks("V2")
class HangsInItsOwnCall(Full):
    """Lets a call wait for the call that it comes from."""

    def would_wait_for_itself(self, turn: Turn) -> bool:
        return False


@breaks("V2")
class SeesNoCycle(Full):
    """Detects calls that wait for themselves, but none that wait for each other."""

    def is_stuck(self, line: Line, enclosing: tuple[Turn, ...]) -> bool:
        return False


@breaks("V2")
class AnyLimitIsOne(Full):
    """Treats any limit as 1, so that calls wait without need."""

    def line_of(self, subscription: PlainSubscription) -> Line | None:
        line = super().line_of(subscription)
        if line is not None:
            line.limit = 1
        return line
