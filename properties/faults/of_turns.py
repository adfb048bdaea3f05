"""Components with one planted fault each: C3 and C4."""

import contextlib
from typing import Any

import anyio
import anyio.lowlevel
from anyio.lowlevel import checkpoint

from flexiflow import Outcome
from flexiflow.events import MESSAGE_RECEIVED
from properties.faults._component_registry import breaks
from properties.reference.engine import (
    Handling,
    PlainComponent,
    PlainEngine,
    copied,
    current,
    live,
    logger,
    waiting,
)


@breaks("C3")
class TwoAtOnce(PlainComponent):
    """Handles messages as they come, several at once."""

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
    """Ignores the third of the messages that come at once."""

    async def take(self, message: dict[str, Any], engine: Any) -> Outcome:
        if self.line:
            return Outcome.IGNORED
        return await super().take(message, engine)


@breaks("C3")
class ReversesWhoWaitForIt(PlainEngine):
    """Reverses the senders that wait for a component to be made or registered."""

    def made(self, name: str) -> None:
        if name in self.hosted:
            self.pending.get(name, [])[1:] = self.pending.get(name, [])[:0:-1]
        super().made(name)


@breaks("C3")
class ReversesWhoWaitForAFactory(PlainEngine):
    """Reverses the senders that wait for a component to be made."""

    async def ask(self, name: str, mine: Handling) -> None:
        self.asked = name
        await super().ask(name, mine)

    def made(self, name: str) -> None:
        if name in self.hosted and name == self.asked:
            self.pending.get(name, [])[1:] = self.pending.get(name, [])[:0:-1]
        super().made(name)

    asked = ""


@breaks("C3")
class OneAtATimeInAll(PlainComponent):
    """Makes components wait for each other's messages."""

    async def handle(self, mine: Handling) -> Outcome:
        if any(each.component is not self for each in live()):
            return await super().handle(mine)
        async with locks.setdefault(anyio.lowlevel.current_token(), anyio.Lock()):
            return await super().handle(mine)


locks: dict[object, anyio.Lock] = {}


@breaks("C4")
class DeadlocksOnReentry(PlainComponent):
    """Makes a message from within its own handling wait for its end."""

    def is_to_be_deferred(self, mine: Handling) -> bool:
        return False


@breaks("C4")
class IgnoresCycles(PlainComponent):
    """Defers only what is sent from within its own handling."""

    def is_to_be_deferred(self, mine: Handling) -> bool:
        return self.in_hand in mine.within


@breaks("C4")
class SeesCyclesOfTwo(PlainComponent):
    """Overlooks a cycle of three that wait for each other."""

    def is_to_be_deferred(self, mine: Handling) -> bool:
        return self.in_hand in mine.within or any(
            each.component.in_hand in mine.within
            for each in waiting
            if each.component and self.in_hand in each.within
        )


@breaks("C4")
class DefersWhileItIsBusy(PlainComponent):
    """Defers each message sent from within another one's handling while it is busy."""

    def is_to_be_deferred(self, mine: Handling) -> bool:
        return self.in_hand is not None and bool(mine.within)


@breaks("C4")
class DefersWhatIsNested(PlainComponent):
    """Defers each message sent from within another one's handling, busy or not."""

    def is_to_be_deferred(self, mine: Handling) -> bool:
        return bool(mine.within)


@breaks("C4")
class RemembersWhatIsOver(PlainComponent):
    """Treats a task that a handling has left behind as one within it."""

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
    """Handles what is sent from within at once, and returns its outcome."""

    async def take(self, message: dict[str, Any], engine: Any) -> Outcome:
        mine = Handling(message, live())
        if self.is_to_be_deferred(mine):
            return await self.handle(mine)
        return await super().take(message, engine)


@breaks("C4")
class HandlesAtOnceWhatItIsHanded(PlainComponent):
    """Handles what `handle_message` is given from within in the midst of the message in hand."""

    async def handle_message(self, message: Any) -> Outcome:
        if self.in_hand in live():
            await self.handle(Handling(copied(message), live()))
            return Outcome.DEFERRED
        return await super().handle_message(message)


@breaks("C4")
class HangsOnWhatItIsHanded(PlainComponent):
    """Makes a `handle_message` from within its own handling wait for ever."""

    async def handle_message(self, message: Any) -> Outcome:
        if self.in_hand in live():
            await anyio.sleep_forever()
        return await super().handle_message(message)


@breaks("C4")
class DeferredLast(PlainComponent):
    """Handles deferred messages after those that wait in line."""

    async def handle_deferred(self) -> None:
        if not self.line:
            await super().handle_deferred()


@breaks("C4")
class DeferredNewestFirst(PlainComponent):
    """Handles the newest deferred message first."""

    async def handle_deferred(self) -> None:
        self.deferred.reverse()
        await super().handle_deferred()


@breaks("C4")
class DeferredElsewhere(PlainComponent):
    """Handles deferred messages in a task of its own."""

    async def handle_deferred(self) -> None:
        if self.deferred:
            async with anyio.create_task_group() as group:
                group.start_soon(super().handle_deferred)


@breaks("C4")
class LosesDeferredOnFailure(PlainComponent):
    """Forgets deferred messages when the message in hand fails."""

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
    """Forgets deferred messages when the send in hand is cancelled."""

    async def handle_all(self, mine: Handling) -> Outcome:
        try:
            return await super().handle_all(mine)
        except anyio.get_cancelled_exc_class():
            self.deferred.clear()
            raise


@breaks("C4")
class SaysNothingOfDeferredFailures(PlainComponent):
    """Loses the failure of a deferred message."""

    async def deferred_failure(self, mine: Handling, failure: Exception) -> None:
        """Do nothing."""


@breaks("C4")
class ReportsDeferredFailuresTwice(PlainComponent):
    """Reports the failure of a deferred message twice."""

    async def deferred_failure(self, mine: Handling, failure: Exception) -> None:
        await super().deferred_failure(mine, failure)
        await super().deferred_failure(mine, failure)


@breaks("C4")
class ReportsAsOfAnother(PlainComponent):
    """Reports the failure of a deferred message under another component's name."""

    async def deferred_failure(self, mine: Handling, failure: Exception) -> None:
        if self.engine is not None:
            await self.engine.report("another", mine, failure)


@breaks("C4", "C1")
class LogsNoDeferredFailures(PlainEngine):
    """Publishes the failure of a deferred message, but doesn't log it."""

    def log(self, name: str, mine: Handling, failure: Exception) -> None:
        """Do nothing."""


@breaks("C4", "C1")
class PublishesNoDeferredFailures(PlainEngine):
    """Logs the failure of a deferred message, but doesn't publish it."""

    async def report(self, name: str, mine: Handling, failure: Exception) -> None:
        self.log(name, mine, failure)


@breaks("C4", "C1")
class LogsDeferredFailuresAsWarnings(PlainEngine):
    """Logs the failure of a deferred message as a warning."""

    def log(self, name: str, mine: Handling, failure: Exception) -> None:
        told = mine.message["type"], name, MESSAGE_RECEIVED
        logger.warning("message %r of component %r failed on %r", *told, exc_info=failure)


@breaks("C4")
class LogsNoTypeOfAMessage(PlainEngine):
    """Logs the failure of a deferred message without the message's type."""

    def log(self, name: str, mine: Handling, failure: Exception) -> None:
        told = name, MESSAGE_RECEIVED
        logger.error("a message of component %r failed on %r", *told, exc_info=failure)


@breaks("C4")
class LosesAFailureBehindTheDeferred(PlainComponent):
    """Loses a message's failure if others were deferred meanwhile."""

    had_deferred = False

    async def handle_all(self, mine: Handling) -> Outcome:
        try:
            return await super().handle_all(mine)
        except Exception:
            if self.had_deferred:
                return Outcome.IGNORED
            raise

    async def handle_deferred(self) -> None:
        self.had_deferred = bool(self.deferred)
        await super().handle_deferred()


@breaks("C4")
class RaisesDeferredFailures(PlainComponent):
    """Raises the failure of a deferred message to the sender of the one in hand."""

    async def deferred_failure(self, mine: Handling, failure: Exception) -> None:
        await super().deferred_failure(mine, failure)
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
    """Leaves deferred messages to the next sender."""

    async def handle_all(self, mine: Handling) -> Outcome:
        return await self.handle(mine)


# D6, E7


@breaks("D6")
class NeverYields(PlainEngine):
    """Lets no other task have a turn while messages come that wait for nothing."""

    yields_after = 10**9


@breaks("E7")
class ReportsWithinReports(PlainComponent):
    """Publishes the failure of a message that was deferred within the report of another one."""

    def reporting(self, mine: Handling) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()
