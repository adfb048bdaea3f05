"""Engines and components with one planted fault each: C1 and C2."""

from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from flexiflow import ComponentError, DuplicateComponent, Outcome, UnknownComponent
from flexiflow.events import COMPONENT_REGISTERED
from properties.faults._component_registry import breaks
from properties.reference.engine import (
    Handling,
    PlainComponent,
    PlainEngine,
    making,
)


@breaks("C1")
class ADuplicateReplaces(PlainEngine):
    """Registers a second component under a name that is taken."""

    def check(self, component: Any) -> None:
        """Do nothing."""


@breaks("C1")
class TakesTheNameLate(PlainEngine):
    """Registers two components at once under one name."""

    def check(self, component: Any) -> None:
        registering, self.pending = self.pending, {}
        super().check(component)
        self.pending = registering


@breaks("C1")
class BelongsToTwo(PlainEngine):
    """Registers a component of another engine."""

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
    """Delivers while a component is still being registered."""

    async def send(self, name: str, message: Any) -> Outcome:
        if name in self.hosted:
            return await self.hosted[name].take(self.copied(message), self)
        return await super().send(name, message)


@breaks("C1")
class ShowsItsOwnTable(PlainEngine):
    """Returns a mapping that can be written to."""

    @property
    def components(self) -> dict[str, PlainComponent]:
        return self.hosted


@breaks("C1")
class KeepsSubscriptions(PlainEngine):
    """Keeps the subscriptions of a component that it unregisters."""

    def end_subscriptions(self, name: str) -> None:
        """Do nothing."""


@breaks("C1")
class LetsWaitersHang(PlainComponent):
    """Forgets waiting senders when it is unregistered."""

    def leave(self) -> list[Handling]:
        self.line.clear()
        return super().leave()


@breaks("C1")
class LosesTheDeferredAsItLeaves(PlainComponent):
    """Forgets deferred messages when it is unregistered."""

    def leave(self) -> list[Handling]:
        super().leave()
        return []


@breaks("C1")
class KeepsWhatItRefuses(PlainEngine):
    """Marks a duplicate that it refuses as its own."""

    def check(self, component: Any) -> None:
        try:
            super().check(component)
        except DuplicateComponent:
            component.engine = component.engine or self
            raise


@breaks("C1")
class ADuplicateEndsSubscriptions(PlainEngine):
    """Ends the subscriptions under a name when it refuses a duplicate."""

    def check(self, component: Any) -> None:
        try:
            super().check(component)
        except DuplicateComponent:
            self.end_subscriptions(component.name)
            raise


@breaks("C1")
class TakesAwayWhatItRefuses(PlainEngine):
    """Detaches what it refuses from the engine that has it."""

    def check(self, component: Any) -> None:
        try:
            super().check(component)
        except ComponentError:
            if component.name not in self.hosted:
                component.engine = None
            raise


@breaks("C1")
class ForgetsWhoWaitsForARegistration(PlainEngine):
    """Forgets senders that wait for a component which is unregistered while it is registered."""

    async def unregister(self, name: str) -> None:
        del self.pending.get(name, [])[1:]
        await super().unregister(name)


@breaks("C1")
class ReportsTheFirstDeferred(PlainComponent):
    """Reports only the first of several deferred messages when it is unregistered."""

    def leave(self) -> list[Handling]:
        return super().leave()[:1]


@breaks("C1")
class LogsNothingAsItLeaves(PlainEngine):
    """Publishes, but doesn't log, what was deferred when a component leaves."""

    def log(self, name: str, mine: Handling, failure: Exception) -> None:
        if not isinstance(failure, UnknownComponent):
            super().log(name, mine, failure)


@breaks("C1")
class DoesNotFinish(PlainComponent):
    """Doesn't change its state any more once it is unregistered."""

    async def commit(self, target: str) -> None:
        if not self.has_left:
            await super().commit(target)

    has_left = False

    def leave(self) -> list[Handling]:
        self.has_left = True
        return super().leave()


@breaks("C2")
class AsksForEach(PlainEngine):
    """Asks the factory for each of several senders that ask at the same time."""

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
class AsksAgainForNothing(PlainEngine):
    """Asks again after the factory has returned None."""

    def failed(self, name: str, failure: Exception) -> None:
        if isinstance(failure, UnknownComponent):
            self.made(name)
        super().failed(name, failure)


@breaks("C2")
class HangsAfterACancelledAsker(PlainEngine):
    """Lets no other sender ask after the first was cancelled."""

    def abandoned(self, name: str) -> None:
        """Do nothing."""


@breaks("C2")
class WaitsForItself(PlainEngine):
    """Lets a factory that asks for the same name wait for its own end."""

    def is_made_by_caller(self, name: str) -> bool:
        return False


@breaks("C2")
class TakesAnyName(PlainEngine):
    """Registers a component of another name than it asked for."""

    def check_made(self, name: str, component: Any) -> None:
        """Do nothing."""


@breaks("C2")
class LetsNoFactorySend(PlainEngine):
    """Refuses any unknown name that a factory asks for."""

    def is_made_by_caller(self, name: str) -> bool:
        return super().is_made_by_caller(name) or (bool(making.get()) and name not in self.hosted)


@breaks("C2")
class RemembersFailures(PlainEngine):
    """Never again asks a factory that has failed for a name."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.failures: dict[str, Exception] = {}

    def failed(self, name: str, failure: Exception) -> None:
        self.failures[name] = failure
        super().failed(name, failure)

    async def make(self, name: str) -> Any:
        if name in self.failures:
            raise self.failures[name]
        return await super().make(name)
