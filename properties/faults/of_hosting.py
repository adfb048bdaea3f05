"""Engines and components with one deliberate fault each: C1 and C2."""

from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from flexiflow import Outcome
from flexiflow.events import COMPONENT_REGISTERED
from properties.faults._component_registry import breaks
from properties.faults.plain_engine import (
    Handling,
    PlainComponent,
    PlainEngine,
)


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
