"""Components with one deliberate fault each: C3 and C4."""

from typing import Any

import anyio
import anyio.lowlevel
from anyio.lowlevel import checkpoint

from flexiflow import Outcome
from properties.faults._component_registry import breaks
from properties.faults.plain_engine import (
    Handling,
    PlainComponent,
    current,
    live,
)


@breaks("C3")
class TwoAtOnce(PlainComponent):
    """Handles messages as they come."""

    def line_up(self, mine: Handling) -> None:
        mine.component, self.in_hand = self, mine
        mine.come.set()


@breaks("C3")
class LastComeFirst(PlainComponent):
    """Lets a later message overtake."""

    def next(self) -> Handling:
        return self.line.pop()


@breaks("C3")
class TakesItsPlaceLate(PlainComponent):
    """Yields before it takes its place in line."""

    async def take(self, message: dict[str, Any], engine: Any) -> Outcome:
        await checkpoint()
        return await super().take(message, engine)


@breaks("C3")
class DropsWhenItIsBusy(PlainComponent):
    """Ignores the third message of those that come at once."""

    async def take(self, message: dict[str, Any], engine: Any) -> Outcome:
        if self.line:
            return Outcome.IGNORED
        return await super().take(message, engine)


@breaks("C3")
class OneAtATimeInAll(PlainComponent):
    """Lets components wait for each other's messages."""

    async def handle(self, mine: Handling) -> Outcome:
        if any(each.component is not self for each in live()):
            return await super().handle(mine)
        async with locks.setdefault(anyio.lowlevel.current_token(), anyio.Lock()):
            return await super().handle(mine)


locks: dict[object, anyio.Lock] = {}


@breaks("C4")
class DeadlocksOnReentry(PlainComponent):
    """Lets a message from within its own handling wait for its end."""

    def is_to_be_deferred(self, mine: Handling) -> bool:
        return False


@breaks("C4")
class IgnoresCycles(PlainComponent):
    """Defers only what is sent from within its own handling."""

    def is_to_be_deferred(self, mine: Handling) -> bool:
        return self.in_hand in mine.within


@breaks("C4")
class DefersWhileItIsBusy(PlainComponent):
    """Defers whatever is sent from within the handling of another message."""

    def is_to_be_deferred(self, mine: Handling) -> bool:
        return self.in_hand is not None and bool(mine.within)


@breaks("C4")
class DefersWhatIsNested(PlainComponent):
    """Defers whatever is sent from within the handling of another message, busy or not."""

    def is_to_be_deferred(self, mine: Handling) -> bool:
        return bool(mine.within)


@breaks("C4")
class RemembersWhatIsOver(PlainComponent):
    """Takes a task that a handling has left behind for one that is within it."""

    def is_to_be_deferred(self, mine: Handling) -> bool:
        return any(each.component is self for each in current.get())


@breaks("C4")
class HandlesAtOnce(PlainComponent):
    """Handles what is sent from within in the midst of the message in hand."""

    async def take(self, message: dict[str, Any], engine: Any) -> Outcome:
        mine = Handling(message, live())
        if self.is_to_be_deferred(mine):
            await self.handle(mine)
            return Outcome.DEFERRED
        return await super().take(message, engine)


@breaks("C4")
class HandlesAtOnceAndTells(PlainComponent):
    """Handles what is sent from within at once, and tells what became of it."""

    async def take(self, message: dict[str, Any], engine: Any) -> Outcome:
        mine = Handling(message, live())
        if self.is_to_be_deferred(mine):
            return await self.handle(mine)
        return await super().take(message, engine)


@breaks("C4")
class DeferredLast(PlainComponent):
    """Handles what was deferred after those who wait."""

    async def handle_deferred(self) -> None:
        if not self.line:
            await super().handle_deferred()


@breaks("C4")
class DeferredNewestFirst(PlainComponent):
    """Handles the last one that was deferred first."""

    async def handle_deferred(self) -> None:
        self.deferred.reverse()
        await super().handle_deferred()


@breaks("C4")
class DeferredElsewhere(PlainComponent):
    """Handles what was deferred in a task of its own."""

    async def handle_deferred(self) -> None:
        if self.deferred:
            async with anyio.create_task_group() as group:
                group.start_soon(super().handle_deferred)


@breaks("C4")
class LosesDeferredOnFailure(PlainComponent):
    """Forgets what was deferred when the message in hand fails."""

    async def handle_all(self, mine: Handling) -> Outcome:
        try:
            return await super().handle_all(mine)
        finally:
            self.deferred.clear()

    async def handle(self, mine: Handling) -> Outcome:
        try:
            return await super().handle(mine)
        except Exception:
            self.deferred.clear()
            raise


@breaks("C4")
class LosesDeferredWhenCancelled(PlainComponent):
    """Forgets what was deferred when the send in hand is cancelled."""

    async def handle_all(self, mine: Handling) -> Outcome:
        try:
            return await super().handle_all(mine)
        except anyio.get_cancelled_exc_class():
            self.deferred.clear()
            raise


@breaks("C4")
class SaysNothingOfDeferredFailures(PlainComponent):
    """Loses the failure of a deferred message."""

    async def deferred_failure(self, failure: Exception) -> None:
        """Do nothing."""


@breaks("C4")
class ReportsDeferredFailuresTwice(PlainComponent):
    """Reports the failure of a deferred message twice."""

    async def deferred_failure(self, failure: Exception) -> None:
        await super().deferred_failure(failure)
        await super().deferred_failure(failure)


@breaks("C4")
class ReportsAsOfAnother(PlainComponent):
    """Reports the failure of a deferred message under another name."""

    async def deferred_failure(self, failure: Exception) -> None:
        if self.engine is not None:
            await self.engine.report("another", failure)


@breaks("C4")
class RaisesDeferredFailures(PlainComponent):
    """Raises the failure of a deferred message to the sender of the one in hand."""

    async def deferred_failure(self, failure: Exception) -> None:
        await super().deferred_failure(failure)
        raise failure


@breaks("C4")
class NestsTheDeferred(PlainComponent):
    """Grows the stack with each deferred message that sends another one."""

    async def handle(self, mine: Handling) -> Outcome:
        outcome = await super().handle(mine)
        await self.handle_deferred()
        return outcome


@breaks("C4")
class ReturnsBeforeTheDeferred(PlainComponent):
    """Leaves what was deferred to whoever sends next."""

    async def handle_all(self, mine: Handling) -> Outcome:
        return await self.handle(mine)
