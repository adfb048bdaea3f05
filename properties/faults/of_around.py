"""Faults of functions around handlers: A3."""

from functools import partial
from typing import Any

from anyio.lowlevel import checkpoint

from flexiflow import Event
from flexiflow.events import BUILT_IN
from properties.faults._registry import breaks
from properties.reference.bus import PlainSubscription, Publishing
from properties.reference.full_bus import Full


@breaks("A3")
class OutermostLast(Full):
    """Calls the functions from the last to the first."""

    def functions(self, event: Event[Any], subscription: PlainSubscription) -> list[Any]:
        return super().functions(event, subscription)[::-1]


@breaks("A3")
class OnlyTheFirst(Full):
    """Leaves out all functions but the first."""

    def functions(self, event: Event[Any], subscription: PlainSubscription) -> list[Any]:
        return super().functions(event, subscription)[:1]


@breaks("A3")
class OwnInnermost(Full):
    """Calls the bus's own functions inside of the subscription's."""

    def functions(self, event: Event[Any], subscription: PlainSubscription) -> list[Any]:
        functions = super().functions(event, subscription)
        return [each for each in functions if each not in self.own_around] + (
            self.own_around if functions else []
        )


@breaks("A3")
class AroundTheBuiltIn(Full):
    """Puts the subscription's around the handlers of built-in events, too."""

    def functions(self, event: Event[Any], subscription: PlainSubscription) -> list[Any]:
        return self.around.get(subscription, [])


@breaks("A3")
class OwnAroundTheBuiltIn(Full):
    """Puts the bus's own around the handlers of built-in events, too."""

    def functions(self, event: Event[Any], subscription: PlainSubscription) -> list[Any]:
        found = super().functions(event, subscription)
        return self.own_around if event.name in BUILT_IN else found


@breaks("A3")
class AroundReceivers(Full):
    """Puts the bus's own around streams and expectations, too."""

    def functions(self, event: Event[Any], subscription: PlainSubscription) -> list[Any]:
        found = super().functions(event, subscription)
        return self.own_around if subscription in self.receivers else found


@breaks("A3")
class AroundAnswers(Full):
    """Puts the bus's own around answers, too."""

    async def call_answerer(self, answerer: PlainSubscription, event: Event[Any]) -> Any:
        for function in self.own_around:
            await function(event, answerer, checkpoint)
        return await super().call_answerer(answerer, event)


@breaks("A3")
class AroundTheWait(Full):
    """Calls the functions before the handler's turn has come."""

    async def take_turn(self, subscription: PlainSubscription, publishing: Publishing) -> None:
        event = Event(publishing.event, publishing.data)
        call = partial(super().take_turn, subscription, publishing)
        await self.surround(super().functions(event, subscription), event, subscription, call)

    def functions(self, event: Event[Any], subscription: PlainSubscription) -> list[Any]:
        return []


@breaks("A3")
class AroundInstruments(Full):
    """Calls the functions outside of the instruments."""

    async def call_watched(self, event: Event[Any], subscription: PlainSubscription) -> None:
        call = partial(super().call_watched, event, subscription)
        await self.surround(super().functions(event, subscription), event, subscription, call)

    def functions(self, event: Event[Any], subscription: PlainSubscription) -> list[Any]:
        return []


@breaks("A3")
class CallsAllTheSame(Full):
    """Calls the handler if no function has done so."""

    async def call_inside(
        self, event: Event[Any], subscription: PlainSubscription, *, is_receiver: bool
    ) -> None:
        self.was_called = False
        await super().call_inside(event, subscription, is_receiver=is_receiver)
        if not self.was_called:
            await self.call(subscription, event if is_receiver else event.data)

    async def call(self, subscription: PlainSubscription, data: Any) -> Any:
        self.was_called = True
        return await super().call(subscription, data)


@breaks("A3")
class CallsOnceForAll(Full):
    """Does nothing at a second call."""

    async def once_at_a_time(self, state: dict[str, bool], call: Any) -> None:
        if not state.get("was_called") or state["is_running"] or state["is_over"]:
            state["was_called"] = True
            await super().once_at_a_time(state, call)


@breaks("A3")
class CallsAtAnyTime(Full):
    """Lets a function call while a call runs, and after its end."""

    async def once_at_a_time(self, state: dict[str, bool], call: Any) -> None:
        await call()


@breaks("A3")
class LetsStraysIn(Full):
    """Lets a function see a stray cancellation as it is."""

    async def call_judged(self, subscription: PlainSubscription, data: Any) -> None:
        await self.call(subscription, data)


@breaks("A3")
class GoesAroundTheFilter(Full):
    """Calls the functions before the filter is asked."""

    async def start(self, subscription: PlainSubscription, publishing: Publishing) -> None:
        event = Event(publishing.event, publishing.data)

        async def inside() -> None:
            if self.admits(subscription, publishing):
                await self.call_judged(subscription, publishing.data)

        functions = self.functions(event, subscription)
        if functions:
            await self.surround(functions, event, subscription, inside)
        else:
            await super().start(subscription, publishing)
