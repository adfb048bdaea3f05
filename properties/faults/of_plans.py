"""Faults in one plan of several, and in one step of many: what scenes are tried for."""

from typing import Any

import anyio
from anyio.abc import TaskGroup

from flexiflow import Event, HandlerFailure
from properties.faults._registry import breaks
from properties.reference.bus import PlainSubscription, Publishing
from properties.reference.full_bus import Full, Turn, watching


class Planned(Full):
    """Has a plan of its own for one function around, and one for a single watched publish."""

    def is_surrounded(self, subscription: PlainSubscription) -> bool:
        return len(self.around[subscription]) == 1 and not self.instruments

    def is_watched(self) -> bool:
        return len(self.instruments) == 1 and not hasattr(self.instruments[0], "handling")


@breaks("B8")
class AsksNoFilterWhereOneWatches(Planned):
    """Asks no filter while one instrument watches publishes."""

    def accepts(self, subscription: PlainSubscription, publishing: Publishing) -> bool:
        return self.is_watched() or super().accepts(subscription, publishing)


@breaks("B9")
class ForgetsOnceWithinAFunction(Planned):
    """Keeps a `once` subscription that has one function around."""

    def admits(self, subscription: PlainSubscription, publishing: Publishing) -> bool:
        if subscription in self.around and self.is_surrounded(subscription):
            return subscription.active and self.accepts(subscription, publishing)
        return super().admits(subscription, publishing)


@breaks("B5")
class StartsTheEndedWithinAFunction(Planned):
    """Starts what was unsubscribed before its turn, with one function around."""

    def admits(self, subscription: PlainSubscription, publishing: Publishing) -> bool:
        if subscription in self.around and self.is_surrounded(subscription):
            return True
        return super().admits(subscription, publishing)

    def is_still_to_start(self, subscription: PlainSubscription) -> bool:
        return True


@breaks("E1")
class NamesThePattern(Full):
    """Names the pattern of the handler that failed in place of the event."""

    async def attempt(self, publishing: Publishing, subscription: PlainSubscription) -> Any:
        failed, passing = await super().attempt(publishing, subscription)
        if failed is not None:
            failed = HandlerFailure(
                subscription.event_name,
                failed.component_name,
                failed.exception,
                failed.subscription,
            )
        return failed, passing


@breaks("E5")
class SwallowsExitsWhereOneWatches(Planned):
    """Takes an exit for the end of a handler while one instrument watches."""

    async def attempt(self, publishing: Publishing, subscription: PlainSubscription) -> Any:
        try:
            return await super().attempt(publishing, subscription)
        except BaseException as exc:
            if not self.is_watched() or isinstance(exc, anyio.get_cancelled_exc_class()):
                raise
            return None, None


@breaks("I2")
class WatchesWhomItSkips(Full):
    """Lets instruments watch a handler that does not start."""

    async def start(self, subscription: PlainSubscription, publishing: Publishing) -> None:
        event: Event[Any] = Event(publishing.event, publishing.data)
        if self.admits(subscription, publishing):
            await self.call_watched(event, subscription)
        else:
            self.leave(self.enter("handling", watching.get(), event, subscription), None)


@breaks("V1")
class ForgetsTheTimeWithinAFunction(Planned):
    """Does not end a handler whose time is over with one function around."""

    async def call(self, subscription: PlainSubscription, data: Any) -> Any:
        if subscription in self.around and self.is_surrounded(subscription):
            self.times.pop(subscription, None)
        return await super().call(subscription, data)


@breaks("V2")
class CallsItselfIfASlotIsFree(Full):
    """Lets a call from within the same handler through while a slot is free."""

    def would_wait_for_itself(self, turn: Turn) -> bool:
        is_free = len(turn.line.holders) < turn.line.limit
        return not is_free and super().would_wait_for_itself(turn)


@breaks("V2")
class KeepsTheSlotOfWhoLeaves(Full):
    """Keeps the slot of a waiter that is cancelled in the step in which it gets it."""

    def give_up(self, mine: Turn) -> None:
        if mine in self.waiting:
            self.waiting.remove(mine)


@breaks("A1")
class AnswersForWhoIsGone(Full):
    """Answers None if the answerer was unsubscribed while the question waited for a slot."""

    async def call_answerer(self, answerer: PlainSubscription, event: Any) -> Any:
        return await super().call_answerer(answerer, event) if answerer.active else None


@breaks("A1")
class LooksForAnAnswererTooEarly(Full):
    """Looks whether a query has an answerer before it yields, and not again."""

    async def answer(self, query: Any, *given: Any, **options: Any) -> PlainSubscription:
        super().check_unanswered(query)
        return await super().answer(query, *given, **options)

    def check_unanswered(self, query: str) -> None: ...


@breaks("E4")
class TellsNobodyBesideAnExit(Full):
    """Only logs what a sibling raises in its cleanup after an exit under `continue`."""

    async def concurrent_failure(
        self, group: TaskGroup, publishing: Publishing, failed: HandlerFailure
    ) -> None:
        if publishing.fatal and not publishing.stops:
            self.log(failed)
        else:
            await super().concurrent_failure(group, publishing, failed)
