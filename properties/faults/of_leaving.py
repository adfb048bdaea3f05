"""Faults of components that are left, or whose messages are cancelled: C1, C4, K3, K5, M2, M3."""

from contextlib import suppress
from typing import Any

from flexiflow import Outcome, Transition
from properties.faults._component_registry import breaks
from properties.reference.engine import Handling, PlainComponent, PlainEngine
from properties.reference.lasting import LastingComponent, LastingEngine


@breaks("C1")
class HandlesThoughItIsGone(PlainComponent):
    """Handles a message whose turn comes in the step in which the component leaves."""

    async def handle_in_turn(self, mine: Handling, engine: Any) -> Outcome:
        await self.turn_of(mine)
        try:
            return await self.handle_all(mine)
        finally:
            self.go_on()


@breaks("C1")
class HandlesWhoWasAnnouncedGone(PlainEngine):
    """Handles the message that a component was made for, though an observer unregisters it."""

    async def introduce(self, component: Any) -> None:
        await super().introduce(component)
        if component.name not in self.hosted:
            component.engine, self.hosted[component.name] = self, component


@breaks("C1")
class GivesUpWhatIsInHand(PlainComponent):
    """Takes no transition for the message in hand if the component is gone by then."""

    async def choose(self, message: dict[str, Any]) -> Transition | None:
        return None if self.engine is None else await super().choose(message)


@breaks("C4")
class ReportsOutsideItsTurn(PlainComponent):
    """Reports a deferred message's failure as if no message were in hand."""

    async def deferred_failure(self, mine: Handling, failure: Exception) -> None:
        if self.engine is not None:
            await self.engine.report(self.name, mine, failure)


@breaks("C4")
class GoesOnThoughItIsCancelled(PlainComponent):
    """Handles deferred messages in a send that is cancelled."""

    async def let_others_run(self) -> None: ...


@breaks("M3")
class LosesWhatItsWorkSent(LastingComponent):
    """Forgets what its work has sent, and what stands in line, as `running()` is left."""

    def keep_posted(self, mine: Handling) -> None: ...


@breaks("M3")
class TurnsWhatItsWorkSentRound(LastingComponent):
    """Keeps what its work has sent in the wrong order, as `running()` is left."""

    def keep_posted(self, mine: Handling) -> None:
        if mine.stay is None and not mine.come.is_set():
            self.deferred.insert(0, mine)


@breaks("M2")
class LosesWhatATimerSent(LastingComponent):
    """Forgets what a timer has sent if its handling is cancelled."""

    def send_again(self, mine: Handling) -> None: ...


@breaks("M3")
class WorksOnlyOnce(LastingComponent):
    """Begins no work when it is registered again."""

    async def end(self) -> None:
        await super().end()
        self.has_begun = True


@breaks("M3")
class WaitsForTwoWorks(LastingComponent):
    """Breaks no ring of two works."""

    def break_ring(self, work: Any) -> None: ...


@breaks("M2")
class ReportsNothingOfItsState(LastingComponent):
    """Reports no failure of what its state has sent."""

    async def handle_posted(self, mine: Handling, engine: Any) -> None:
        with suppress(Exception):
            await self.handle_in_turn(mine, engine)


@breaks("M3")
class TellsOfWhatItNeverHandled(LastingComponent):
    """Reports what its state has sent if the component leaves before its turn."""

    async def handle_posted(self, mine: Handling, engine: Any) -> None:
        try:
            await self.handle_in_turn(mine, engine)
        except Exception as exc:
            await engine.report(self.name, mine, exc)
        except BaseException:
            self.keep_posted(mine)
            raise


@breaks("K3", "M2")
class LoadsForMessagesAlone(LastingComponent):
    """Neither loads again before its next message, nor saves the time when a state began."""

    def must_be_kept_up(self) -> bool:
        return False


@breaks("K5")
class KeepsWhoHasWorked(LastingEngine):
    """Unloads nobody at the end of work."""

    def rest(self, component: Any) -> None:
        if not component.has_begun:
            super().rest(component)
