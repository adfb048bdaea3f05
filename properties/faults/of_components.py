"""Components and engines with one deliberate fault each: C1 to C10."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
from anyio.lowlevel import checkpoint

from flexiflow import HandlerCancelled, Outcome, Transition, TransitionRefused
from flexiflow.events import COMPONENT_REGISTERED, MESSAGE_RECEIVED
from properties.faults.plain_engine import (
    Handling,
    PlainComponent,
    PlainEngine,
    copied,
    current,
    live,
)

_F = TypeVar("_F", bound=type[PlainComponent] | type[PlainEngine])


@dataclass(frozen=True)
class ComponentFault:
    """A component or an engine with one fault.

    Attributes:
        clauses: what it breaks; the first one is what `check_component` is to name.
    """

    faulty: type[PlainComponent] | type[PlainEngine]
    clauses: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.faulty.__name__

    @property
    def component(self) -> type[PlainComponent]:
        return self.faulty if issubclass(self.faulty, PlainComponent) else PlainComponent

    @property
    def engine(self) -> type[PlainEngine]:
        return self.faulty if issubclass(self.faulty, PlainEngine) else PlainEngine


COMPONENT_FAULTS: list[ComponentFault] = []


def breaks(*clauses: str) -> Callable[[_F], _F]:
    """Enter a component or an engine into the list."""

    def enter(faulty: _F) -> _F:
        COMPONENT_FAULTS.append(ComponentFault(faulty, clauses))
        return faulty

    return enter


@breaks("C1")
class ADuplicateReplaces(PlainEngine):
    """Takes a second component of a name."""

    def check(self, component: Any) -> None:
        """Let it pass."""


@breaks("C1")
class TakesTheNameLate(PlainEngine):
    """Lets two be registered at once under one name."""

    def check(self, component: Any) -> None:
        registering, self.pending = self.pending, {}
        super().check(component)
        self.pending = registering


@breaks("C1")
class BelongsToTwo(PlainEngine):
    """Takes a component of another engine."""

    def check(self, component: Any) -> None:
        before, component.engine = component.engine, None
        super().check(component)
        component.engine = before


@breaks("C1")
class TellsTwiceOfARegistration(PlainEngine):
    """Publishes `engine.component.registered` twice."""

    async def introduce(self, component: Any) -> None:
        await super().introduce(component)
        await self.publish(COMPONENT_REGISTERED, {"component": component.name})


@breaks("C1")
class RegistersBeforeItsCheckpoint(PlainEngine):
    """Leaves a component behind if `register` is cancelled."""

    async def register(self, component: Any) -> None:
        with anyio.CancelScope(shield=True):
            await super().register(component)
        await checkpoint()


@breaks("C1")
class HandlesBeforeItHasTold(PlainEngine):
    """Delivers while a component is being registered."""

    async def send(self, name: str, message: Any) -> Outcome:
        if name in self.hosted:
            return await self.hosted[name].take(self.copied(message), self)
        return await super().send(name, message)


@breaks("C1")
class ShowsItsOwnTable(PlainEngine):
    """Gives a mapping that can be written to."""

    @property
    def components(self) -> dict[str, PlainComponent]:
        return self.hosted


@breaks("C1")
class KeepsSubscriptions(PlainEngine):
    """Leaves the subscriptions of a component that it unregisters."""

    def end_subscriptions(self, name: str) -> None:
        """Do nothing."""


@breaks("C1")
class LetsWaitersHang(PlainComponent):
    """Forgets who waits, when it is unregistered."""

    def leave(self) -> list[Handling]:
        self.line.clear()
        return super().leave()


@breaks("C1")
class LosesTheDeferredAsItLeaves(PlainComponent):
    """Forgets what was deferred, when it is unregistered."""

    def leave(self) -> list[Handling]:
        super().leave()
        return []


@breaks("C2")
class AsksForEach(PlainEngine):
    """Asks the factory for each of those who ask at the same time."""

    async def wait_for(self, name: str, mine: Handling) -> Outcome:
        if name in self.pending and self.component_factory is not None:
            await self.make(name)
        return await super().wait_for(name, mine)


@breaks("C2")
class TellsTheAskerAlone(PlainEngine):
    """Asks again after the factory has raised."""

    def failed(self, name: str, failure: Exception) -> None:
        self.made(name)


@breaks("C2")
class HangsAfterACancelledAsker(PlainEngine):
    """Lets nobody ask again after the first one was cancelled."""

    def abandoned(self, name: str) -> None:
        """Do nothing."""


@breaks("C2")
class WaitsForItself(PlainEngine):
    """Lets a factory that asks for the very name wait for its own end."""

    def is_made_by_caller(self, name: str) -> bool:
        return False


@breaks("C2")
class TakesAnyName(PlainEngine):
    """Registers a component of another name than was asked for."""

    def check_made(self, name: str, component: Any) -> None:
        """Let it pass."""


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


@breaks("C5")
class CommitsBeforeTheAction(PlainComponent):
    """Changes the state, then calls the action."""

    async def act(self, row: Transition, message: dict[str, Any]) -> None:
        before, self._state = self._state, row.target or self._state
        await super().act(row, message)
        self._state = before


@breaks("C5")
class TellsBeforeTheAction(PlainComponent):
    """Publishes `state.changed`, then calls the action."""

    async def finish(self, row: Transition) -> None:
        """Do nothing."""

    async def act(self, row: Transition, message: dict[str, Any]) -> None:
        await super().finish(row)
        await super().act(row, message)


@breaks("C5")
class ChoosesBeforeItTells(PlainComponent):
    """Asks the guards before it publishes that it has received a message."""

    async def publish(self, event: str, **data: Any) -> None:
        if "message" in data:
            await super().choose(data["message"])
        await super().publish(event, **data)


@breaks("C5")
class TellsBeforeItCommits(PlainComponent):
    """Publishes `state.changed` just before it changes the state."""

    async def commit(self, target: str) -> None:
        await self.changed(self.state, target)
        self._state = target


@breaks("C5")
class KeepsItToItself(PlainComponent):
    """Doesn't publish that it has received a message."""

    async def publish(self, event: str, **data: Any) -> None:
        if "message" not in data:
            await super().publish(event, **data)


@breaks("C5")
class LastRowFirst(PlainComponent):
    """Takes the last transition that matches."""

    def candidates(self, message: dict[str, Any]) -> tuple[Transition, ...]:
        return super().candidates(message)[::-1]


@breaks("C5")
class KeepsTheSendersMessage(PlainEngine):
    """Doesn't copy a message when it is sent."""

    def copied(self, message: Any) -> Any:
        copied(message)
        return message


@breaks("C5")
class TellsOfNoMessages(PlainEngine):
    """Publishes what is no message before it refuses it."""

    async def send(self, name: str, message: Any) -> Outcome:
        try:
            copied(message)
        except (TypeError, ValueError):
            await self.publish(MESSAGE_RECEIVED, {"component": name, "message": message})
            raise
        return await super().send(name, message)


@breaks("C5")
class FailsWithItsObservers(PlainEngine):
    """Lets an observer's failure be the message's."""

    async def publish(self, event: str, data: dict[str, Any]) -> None:
        await self.bus.publish(event, data, on_error="raise")


@breaks("C6")
class CommitsInSpiteOfFailure(PlainComponent):
    """Changes the state when the action has failed."""

    async def act(self, row: Transition, message: dict[str, Any]) -> None:
        try:
            await super().act(row, message)
        except HandlerCancelled:
            raise
        except Exception:
            await self.finish(row)
            raise


@breaks("C6")
class CommitsWhenCancelled(PlainComponent):
    """Changes the state without a word when the action is cancelled."""

    async def act(self, row: Transition, message: dict[str, Any]) -> None:
        try:
            await super().act(row, message)
        except anyio.get_cancelled_exc_class():
            self._state = row.target or self._state
            raise


@breaks("C4")
class ReturnsBeforeTheDeferred(PlainComponent):
    """Leaves what was deferred to whoever sends next."""

    async def handle_all(self, mine: Handling) -> Outcome:
        return await self.handle(mine)


@breaks("C5")
class TakesAnyGuard(PlainComponent):
    """Takes a transition whatever its guard answers."""

    async def choose(self, message: dict[str, Any]) -> Transition | None:
        return await super().choose(message) or next(iter(self.candidates(message)), None)


@breaks("C6")
class WrapsFailures(PlainComponent):
    """Raises something else than the action did."""

    async def handle_all(self, mine: Handling) -> Outcome:
        try:
            return await super().handle_all(mine)
        except HandlerCancelled:
            raise
        except Exception as exc:
            raise RuntimeError("an action failed") from exc


@breaks("C6")
class SwallowsFailures(PlainComponent):
    """Ignores a message whose action fails."""

    async def handle(self, mine: Handling) -> Outcome:
        try:
            return await super().handle(mine)
        except HandlerCancelled:
            raise
        except Exception:
            if mine.within:
                raise
            return Outcome.IGNORED


@breaks("C6")
class ReadsTheStateWhenSent(PlainComponent):
    """Tells the state that it had when the message was sent as the one before."""

    def __init__(self, name: str, *, machine: Any = None) -> None:
        super().__init__(name, machine=machine)
        self.states: dict[int, str | None] = {}

    async def take(self, message: dict[str, Any], engine: Any) -> Outcome:
        self.states[id(message)] = self.state
        return await super().take(message, engine)

    async def changed(self, from_state: str | None, to_state: str) -> None:
        read = self.states.get(id(live()[-1].message), from_state)
        await super().changed(read, to_state)


@breaks("C6")
class YieldsBeforeItTells(PlainComponent):
    """Lets others run between its commit and its first observer."""

    async def changed(self, from_state: str | None, to_state: str) -> None:
        await checkpoint()
        await super().changed(from_state, to_state)


@breaks("C6")
class PassesStraysOn(PlainComponent):
    """Takes a stray cancellation of an action for its own."""

    async def act(self, row: Transition, message: dict[str, Any]) -> None:
        if row.action is not None:
            await _awaited(row.action(message, self))


async def _awaited(made: Any) -> Any:
    return await made if hasattr(made, "__await__") else made


@breaks("C7")
class TellsOfInternalTransitions(PlainComponent):
    """Publishes `state.changed` for an internal transition."""

    async def finish(self, row: Transition) -> None:
        await super().finish(row)
        if row.target is None:
            await self.changed(self.state, str(self.state))


@breaks("C7")
class SkipsTheActionsOfInternalOnes(PlainComponent):
    """Doesn't call the action of an internal transition that nobody observes."""

    async def act(self, row: Transition, message: dict[str, Any]) -> None:
        if row.target is not None or message["type"] != "note":
            await super().act(row, message)


@breaks("C7")
class NoChangeWithoutAnother(PlainComponent):
    """Takes a transition to its own source for an internal one."""

    async def commit(self, target: str) -> None:
        if target != self.state:
            await super().commit(target)


@breaks("C8")
class NeverStrict(PlainComponent):
    """Ignores what a strict machine refuses."""

    def unmatched(self, message: dict[str, Any]) -> Outcome:
        return Outcome.IGNORED


@breaks("C8")
class AlwaysStrict(PlainComponent):
    """Refuses what a machine that is not strict ignores."""

    def unmatched(self, message: dict[str, Any]) -> Outcome:
        if self.machine is None:
            return Outcome.IGNORED
        raise TransitionRefused(self.name, str(self.state), message["type"], ())


@breaks("C8")
class KeepsToItselfWhatItWouldTake(PlainComponent):
    """Doesn't name the triggers that it would take."""

    def unmatched(self, message: dict[str, Any]) -> Outcome:
        if self.machine is not None and self.machine.strict:
            raise TransitionRefused(self.name, str(self.state), message["type"], ())
        return super().unmatched(message)


@breaks("C9")
class SharesItsState(PlainComponent):
    """Has its state in common with all that have its machine."""

    states: dict[object, str] = {}  # noqa: RUF012  that is the fault

    def __init__(self, name: str, *, machine: Any = None) -> None:
        super().__init__(name, machine=machine)
        self._state = self.states.get(machine, self._state)

    async def commit(self, target: str) -> None:
        self.states[self.machine] = target
        await super().commit(target)


@breaks("C9")
class LetsItsStateBeSet(PlainComponent):
    """Has a state that anyone can set."""

    @property
    def state(self) -> str | None:
        return self._state

    @state.setter
    def state(self, state: str | None) -> None:
        self._state = state


@breaks("C10")
class ShowsItsOwnMessage(PlainComponent):
    """Gives observers the very message that it handles."""

    def shown(self, message: dict[str, Any]) -> dict[str, Any]:
        return message


@breaks("C10")
class CopiesDeeply(PlainComponent):
    """Gives observers other nested values."""

    def shown(self, message: dict[str, Any]) -> dict[str, Any]:
        return copy.deepcopy(message)
