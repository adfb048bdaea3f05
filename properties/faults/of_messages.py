"""Components and engines with one planted fault each: C5 to C10."""

import copy
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from flexiflow import HandlerCancelled, Outcome, Transition, TransitionRefused
from flexiflow.events import MESSAGE_RECEIVED
from properties.faults._component_registry import breaks
from properties.reference.engine import (
    Handling,
    PlainComponent,
    PlainEngine,
    call,
    copied,
    live,
)


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
class AsksForTrue(PlainComponent):
    """Takes a transition only if its guard returns True itself."""

    async def choose(self, message: dict[str, Any]) -> Transition | None:
        for row in self.candidates(message):
            if row.guard is None or await call(row.guard, message, self) is True:
                return row
        return None


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
class KeepsWhatItIsHanded(PlainComponent):
    """Doesn't copy a message that is passed to `handle_message`."""

    async def handle_message(self, message: Any) -> Outcome:
        copied(message)
        return await self.take(message, self.engine)


@breaks("C5")
class TakesDictsAlone(PlainEngine):
    """Refuses a mapping that is no dict."""

    def copied(self, message: Any) -> Any:
        if not isinstance(message, dict):
            raise TypeError("no dict")
        return super().copied(message)


@breaks("C5")
class TellsOfNoMessages(PlainEngine):
    """Publishes a message that it refuses, before it refuses it."""

    async def send(self, name: str, message: Any) -> Outcome:
        try:
            copied(message)
        except (TypeError, ValueError):
            await self.publish(MESSAGE_RECEIVED, {"component": name, "message": message})
            raise
        return await super().send(name, message)


@breaks("C5")
class FailsWithItsObservers(PlainEngine):
    """Fails a message whose observer fails."""

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
    """Changes the state, without publishing it, when the action is cancelled."""

    async def act(self, row: Transition, message: dict[str, Any]) -> None:
        try:
            await super().act(row, message)
        except anyio.get_cancelled_exc_class():
            self._state = row.target or self._state
            raise


@breaks("C5")
class TakesAnyGuard(PlainComponent):
    """Takes a transition whatever its guard answers."""

    async def choose(self, message: dict[str, Any]) -> Transition | None:
        return await super().choose(message) or next(iter(self.candidates(message)), None)


@breaks("C6", "C4")
class WrapsFailures(PlainComponent):
    """Raises another exception than the action did."""

    async def handle_all(self, mine: Handling) -> Outcome:
        try:
            return await super().handle_all(mine)
        except HandlerCancelled:
            raise
        except Exception as exc:
            raise RuntimeError("an action failed") from exc


@breaks("C6", "C4")
class SwallowsFailures(PlainComponent):
    """Returns `IGNORED` for a message whose action fails."""

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
    """Publishes as `from_state` the state that it had when the message was sent."""

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
    """Yields between its commit and its first observer."""

    async def changed(self, from_state: str | None, to_state: str) -> None:
        await checkpoint()
        await super().changed(from_state, to_state)


@breaks("C6")
class PassesStraysOn(PlainComponent):
    """Lets a stray cancellation of an action pass as its own."""

    async def act(self, row: Transition, message: dict[str, Any]) -> None:
        if row.action is not None:
            await _awaited(row.action(message, self))


async def _awaited(made: Any) -> Any:
    return await made if hasattr(made, "__await__") else made


@breaks("C6")
class HidesTheCauseOfAStray(PlainComponent):
    """Hides which cancellation left an action."""

    async def act(self, row: Transition, message: dict[str, Any]) -> None:
        try:
            await super().act(row, message)
        except HandlerCancelled as exc:
            raise exc from None


@breaks("C7")
class TellsOfInternalTransitions(PlainComponent):
    """Publishes `state.changed` for an internal transition."""

    async def finish(self, row: Transition) -> None:
        await super().finish(row)
        if row.target is None:
            await self.changed(self.state, str(self.state))


@breaks("C7")
class SkipsTheActionsOfInternalOnes(PlainComponent):
    """Doesn't call the action of an internal transition triggered by "note"."""

    async def act(self, row: Transition, message: dict[str, Any]) -> None:
        if row.target is not None or message["type"] != "note":
            await super().act(row, message)


@breaks("C7")
class NoChangeWithoutAnother(PlainComponent):
    """Treats a transition to its own source as an internal one."""

    async def commit(self, target: str) -> None:
        if target != self.state:
            await super().commit(target)


@breaks("C7", "C5")
class AsksNoGuardsOfInternalOnes(PlainComponent):
    """Takes an internal transition whatever its guard answers."""

    async def choose(self, message: dict[str, Any]) -> Transition | None:
        internal = (row for row in self.candidates(message) if row.target is None)
        return next(internal, None) or await super().choose(message)


@breaks("C8")
class IgnoresWhatGuardsRefuse(PlainComponent):
    """Ignores a message that a guard refuses, though its machine is strict."""

    def unmatched(self, message: dict[str, Any]) -> Outcome:
        return Outcome.IGNORED if self.candidates(message) else super().unmatched(message)


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
    """Shares its state with all components that have the same machine."""

    states: dict[object, str] = {}  # noqa: RUF012  that is the fault

    def __init__(self, name: str, *, machine: Any = None) -> None:
        super().__init__(name, machine=machine)
        self._state = self.states.get(machine, self._state)

    async def commit(self, target: str) -> None:
        self.states[self.machine] = target
        await super().commit(target)


@breaks("C9")
class LetsItsStateBeSet(PlainComponent):
    """Has a state that can be set from outside."""

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
    """Gives observers copies of nested values."""

    def shown(self, message: dict[str, Any]) -> dict[str, Any]:
        return copy.deepcopy(message)
