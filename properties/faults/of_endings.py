"""Faults that show only where one way of ending, or of being seen, meets another feature."""

from typing import Any

import anyio

from flexiflow import Event, HandlerTimeout, PublishRefused
from flexiflow.events import HANDLER_FAILED
from properties.faults._registry import breaks
from properties.reference.bus import PlainSubscription
from properties.reference.full_bus import Full
from properties.reference.receivers import PlainExpectation


@breaks("A3")
class SurroundsWhatIsBuiltIn(Full):
    """Calls functions around the handlers of all built-in events but one."""

    def functions(self, event: Event[Any], subscription: PlainSubscription) -> list[Any]:
        if event.name == HANDLER_FAILED or subscription in self.receivers:
            return []
        return self.own_around + self.around.get(subscription, [])


@breaks("I3")
class IsRefusedAHandler(Full):
    """Lets an instrument refuse a handler, as it may refuse a publish."""

    def take_out(self, instrument: Any, failure: BaseException) -> None:
        super().take_out(instrument, failure)
        if isinstance(failure, PublishRefused):
            raise failure


@breaks("V1")
class ForgivesWhoReturns(Full):
    """Takes a handler that returns when its time is over for one that was in time."""

    async def await_in_time(self, result: Any, limit: float) -> Any:
        with anyio.move_on_after(limit):
            return await result
        raise HandlerTimeout("a handler", limit)


class Silent(PlainExpectation):
    """Tells nobody what its filter raised."""

    async def __aexit__(self, *_: object) -> None:
        self.subscription.bus.unsubscribe(self.subscription)


@breaks("S4")
class KeepsAFiltersFailure(Full):
    """Reports no failure of an expectation's filter for which nobody waits."""

    expectation_type = Silent


@breaks("B12")
class ShowsAllOfOneOwner(Full):
    """Shows all subscriptions of an owner, also those of other events."""

    def subscriptions(
        self, event: str | None = None, *, component: str | None = None
    ) -> tuple[PlainSubscription, ...]:
        return super().subscriptions(event if component is None else None, component=component)
