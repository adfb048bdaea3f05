"""Faults of functions around handlers: A3."""

from typing import Any

from flexiflow import Event
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
class AroundTheBuiltIn(Full):
    """Puts them around the handlers of built-in events, too."""

    def functions(self, event: Event[Any], subscription: PlainSubscription) -> list[Any]:
        return self.around.get(subscription, [])


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
        if not functions:
            await super().start(subscription, publishing)
            return
        call: Any = inside
        for function in reversed(functions):
            call = self.inner(function, event, subscription, call)
        await call()
