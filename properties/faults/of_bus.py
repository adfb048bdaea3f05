"""Faults of the bus itself: B1 to B11."""

import inspect
from contextlib import suppress
from typing import Any

import anyio
from anyio.lowlevel import checkpoint, current_token

from flexiflow.events import HANDLER_FAILED
from properties.faults._registry import breaks
from properties.reference.bus import Plain, PlainSubscription, Publishing


@breaks("B1")
class NeedsALoop(Plain):
    """Can only be made within a running loop."""

    def __init__(self) -> None:
        super().__init__()
        current_token()


@breaks("B1")
class BoundToItsFirstLoop(Plain):
    """Serves only the run in which it was first used."""

    token: object = None

    def audience(self, event: str) -> list[PlainSubscription]:
        self.token = self.token or current_token()
        return super().audience(event) if self.token == current_token() else []


@breaks("B2")
class SameHandlerOnce(Plain):
    """Returns the first subscription of a handler in place of a second one."""

    async def subscribe(self, event: Any, component: Any, handler: Any, **options: Any) -> Any:
        for each in self.listed:
            if (each.event_name, each.handler) == (event, handler):
                return each
        return await super().subscribe(event, component, handler, **options)


@breaks("B2")
class SubscribesBeforeItsCheckpoint(Plain):
    """Leaves a subscription behind if `subscribe` is cancelled."""

    async def subscribe(self, *arguments: Any, **options: Any) -> Any:
        with anyio.CancelScope(shield=True):
            made = await super().subscribe(*arguments, **options)
        await checkpoint()
        return made


@breaks("B2")
class WithDoesNotEnd(Plain):
    """Keeps a subscription at the end of its `with`."""

    class Subscription(PlainSubscription):
        def __exit__(self, *_: object) -> None:
            """Do nothing."""

    make = Subscription


@breaks("B3")
class TakesAnyPriority(Plain):
    """Accepts a priority out of range."""

    async def check_subscription(self, *arguments: Any, priority: Any, **options: Any) -> None:
        await super().check_subscription(*arguments, priority=3, **options)


@breaks("B3")
class TakesAnyHandler(Plain):
    """Accepts a generator function, which would never run."""

    async def check_subscription(
        self, event: Any, component: Any, handler: Any, **options: Any
    ) -> None:
        checked = print if inspect.isgeneratorfunction(handler) else handler
        await super().check_subscription(event, component, checked, **options)


@breaks("B3")
class ChangesBeforeItRefuses(Plain):
    """Subscribes first, and then refuses a bad filter."""

    async def subscribe(
        self, event: Any, component: Any, handler: Any, *, filter: Any = None, **options: Any
    ) -> Any:
        made = await super().subscribe(event, component, handler, **options)
        await self.check_subscription(event, component, handler, priority=3, filter=filter)
        self.unsubscribe(made)
        return await super().subscribe(event, component, handler, filter=filter, **options)


@breaks("B4", "D2")
class IgnoresPriority(Plain):
    """Orders by age alone."""

    def ordered(self, subscriptions: list[PlainSubscription]) -> list[PlainSubscription]:
        return subscriptions


@breaks("B4", "D2")
class YoungestFirst(Plain):
    """Reverses the order among equal priorities."""

    def ordered(self, subscriptions: list[PlainSubscription]) -> list[PlainSubscription]:
        return super().ordered(subscriptions[::-1])


@breaks("B4")
class PatternsLast(Plain):
    """Puts exact names before patterns of the same priority."""

    def ordered(self, subscriptions: list[PlainSubscription]) -> list[PlainSubscription]:
        return sorted(subscriptions, key=lambda each: (each.priority, "*" in each.event_name))


@breaks("B4", "D2")
class PriorityFiveFirst(Plain):
    """Sorts by priority in descending order."""

    def ordered(self, subscriptions: list[PlainSubscription]) -> list[PlainSubscription]:
        return sorted(subscriptions, key=lambda each: -each.priority)


@breaks("B5")
class HearsLatecomers(Plain):
    """Delivers also to handlers that are subscribed meanwhile."""

    async def sequential(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        await super().sequential(publishing, audience)
        late = [each for each in self.audience(publishing.event) if each not in audience]
        await super().sequential(publishing, late)


@breaks("B5")
class StartsTheRemoved(Plain):
    """Starts a handler that was unsubscribed meanwhile."""

    def admits(self, subscription: PlainSubscription, publishing: Publishing) -> bool:
        return self.accepts(subscription, publishing)


@breaks("B5")
class SkipsAfterARemoval(Plain):
    """Removes from the very list that a publish iterates over, which then skips the next one."""

    running: list[PlainSubscription] = []  # noqa: RUF012  replaced, not shared

    def unsubscribe(self, subscription: PlainSubscription) -> bool:
        if subscription in self.running:
            self.running.remove(subscription)
        return super().unsubscribe(subscription)

    async def sequential(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        self.running = audience
        await super().sequential(publishing, audience)


@breaks("B5")
class ConcurrentHearsLatecomers(Plain):
    """Delivers to handlers that are subscribed during a concurrent publish."""

    async def start_all(self, group: Any, publishing: Any, audience: Any) -> None:
        await super().start_all(group, publishing, audience)
        await checkpoint()
        late = [each for each in self.audience(publishing.event) if each not in audience]
        await super().start_all(group, publishing, late)


@breaks("B6")
class AlwaysTrue(Plain):
    """Returns True for a subscription that was removed before."""

    def unsubscribe(self, subscription: PlainSubscription) -> bool:
        super().unsubscribe(subscription)
        return True


@breaks("B6")
class CountsAllOfThem(Plain):
    """Returns how many subscriptions there are, not how many were removed."""

    def unsubscribe_all(self, component: str) -> int:
        count = len(self.listed)
        super().unsubscribe_all(component)
        return count


@breaks("B6")
class RemembersTheRemoved(Plain):
    """Keeps what was unsubscribed in memory."""

    def unsubscribe(self, subscription: PlainSubscription) -> bool:
        self.removed = subscription
        return super().unsubscribe(subscription)


@breaks("B6")
class UnsubscribesElsewhere(Plain):
    """Ends a subscription of another bus."""

    def unsubscribe(self, subscription: PlainSubscription) -> bool:
        return Plain.unsubscribe(subscription.bus, subscription)


@breaks("B7")
class AwaitsOnlyCoroutineFunctions(Plain):
    """Doesn't await what other callables return."""

    async def call(self, subscription: PlainSubscription, data: Any) -> Any:
        if inspect.iscoroutinefunction(subscription.handler):
            return await super().call(subscription, data)
        result = subscription.handler(data)
        if inspect.iscoroutine(result):
            result.close()
        return None


@breaks("B7")
class CopiesThePayload(Plain):
    """Gives handlers a copy of the payload."""

    async def publish(self, event: Any, data: Any = None, **options: Any) -> Any:
        copy = [*data] if isinstance(data, list) else data
        return await super().publish(event, copy, **options)


@breaks("B8")
class AsksAllFirst(Plain):
    """Asks all filters before the first handler starts."""

    async def sequential(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        accepted = []
        for each in audience:
            with suppress(Exception):
                if self.accepts(each, publishing):
                    accepted.append(each)
        await super().sequential(publishing, accepted)


@breaks("B8")
class AFilterStopsThePublish(Plain):
    """Skips all later handlers once one filter refuses."""

    async def sequential(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        for each in audience:
            if each.filter is not None:
                with suppress(Exception):
                    if each.filter(publishing.event, publishing.data) is False:
                        return
            await super().sequential(publishing, [each])


@breaks("B8")
class AFailedFilterStopsThePublish(Plain):
    """Reports a filter that fails, and starts no handler after it."""

    async def sequential(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        for each in audience:
            await super().sequential(publishing, [each])
            if each in publishing.failures and each.filter is not None:
                return


@breaks("B8")
class FiltersGetNoPayload(Plain):
    """Passes filters the event's name but no payload."""

    def accepts(self, subscription: PlainSubscription, publishing: Publishing) -> bool:
        unnamed = Publishing(publishing.event, None, stops=publishing.stops)
        return super().accepts(subscription, unnamed)


@breaks("B8")
class FailedFiltersAccept(Plain):
    """Treats a filter that fails as one that accepts."""

    def accepts(self, subscription: PlainSubscription, publishing: Publishing) -> bool:
        try:
            return super().accepts(subscription, publishing)
        except Exception:
            return True


@breaks("B8")
class FailedFiltersRefuse(Plain):
    """Treats a filter that fails as one that refuses."""

    def accepts(self, subscription: PlainSubscription, publishing: Publishing) -> bool:
        try:
            return super().accepts(subscription, publishing)
        except Exception:
            return False


@breaks("B8")
class TakesAwaitablesForTrue(Plain):
    """Treats an awaitable that a filter returns as true."""

    def accepts(self, subscription: PlainSubscription, publishing: Publishing) -> bool:
        accepts = subscription.filter
        return accepts is None or bool(accepts(publishing.event, publishing.data))


@breaks("B9")
class OnceEndsAfterwards(Plain):
    """Unsubscribes a one-time handler only when it has ended."""

    def admits(self, subscription: PlainSubscription, publishing: Publishing) -> bool:
        return subscription.active and self.accepts(subscription, publishing)

    async def call(self, subscription: PlainSubscription, data: Any) -> None:
        await super().call(subscription, data)
        if subscription.once:
            self.unsubscribe(subscription)


@breaks("B9")
class ARefusalUsesOnceUp(Plain):
    """Unsubscribes a one-time handler whose filter refuses."""

    def admits(self, subscription: PlainSubscription, publishing: Publishing) -> bool:
        if subscription.once and not self.unsubscribe(subscription):
            return False
        return (subscription.once or subscription.active) and self.accepts(subscription, publishing)


@breaks("B10")
class OneStarMatchesAll(Plain):
    """Matches `*` with several segments."""

    def hears(self, subscription: PlainSubscription, event: str) -> bool:
        name = subscription.event_name
        return super().hears(subscription, event) or (
            name.endswith(".*") and event.startswith(name[:-1])
        )


@breaks("B10")
class TwoStarsMatchNothing(Plain):
    """Matches `**` with no segment at all."""

    def hears(self, subscription: PlainSubscription, event: str) -> bool:
        name = subscription.event_name
        return super().hears(subscription, event) or name == f"{event}.**"


@breaks("B10")
class PatternsMissTheBuiltIn(Plain):
    """Reports failures only to exact subscriptions to the event's name."""

    def hears(self, subscription: PlainSubscription, event: str) -> bool:
        if event == HANDLER_FAILED:
            return subscription.event_name == event
        return super().hears(subscription, event)


@breaks("B10")
class RemembersWhoHears(Plain):
    """Keeps the audience of a name even when a pattern is subscribed later."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, list[PlainSubscription]] = {}

    def audience(self, event: str) -> list[PlainSubscription]:
        if event not in self.known:
            self.known[event] = super().audience(event)
        new = [each for each in super().audience(event) if "*" not in each.event_name]
        return self.ordered([*dict.fromkeys([*self.known[event], *new])])

    def unsubscribe(self, subscription: PlainSubscription) -> bool:
        for event, known in self.known.items():
            self.known[event] = [each for each in known if each is not subscription]
        return super().unsubscribe(subscription)


@breaks("B11")
class PutsNestedPublishesOff(Plain):
    """Puts a publish inside a handler off until the one around it is over."""

    busy = False
    later: list[tuple[Any, Any, Any]] = []  # noqa: RUF012  replaced, not shared

    async def publish(self, event: Any, data: Any = None, **options: Any) -> Any:
        if self.busy:
            self.later.append((event, data, options))
            return ()
        self.busy, self.later = True, []
        try:
            result = await super().publish(event, data, **options)
            while self.later:
                event, data, options = self.later.pop()
                await super().publish(event, data, **options)
        finally:
            self.busy = False
        return result
