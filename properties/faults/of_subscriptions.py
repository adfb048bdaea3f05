"""Faults of subscribing and unsubscribing: B2, B3, B6, B7."""

from typing import Any

from anyio import to_thread
from anyio.lowlevel import checkpoint

from properties.faults._registry import breaks
from properties.reference.bus import Plain, PlainSubscription, Publishing


@breaks("B2")
class SubscribesBetweenCheckpoints(Plain):
    """Leaves a subscription behind if `subscribe` is cancelled at its second checkpoint."""

    async def subscribe(self, *arguments: Any, **options: Any) -> Any:
        made = await super().subscribe(*arguments, **options)
        await checkpoint()
        return made


@breaks("B2")
class WithSwallowsExceptions(Plain):
    """Swallows an exception at the end of a `with`."""

    class Subscription(PlainSubscription):
        def __exit__(self, *_: object) -> Any:
            self.bus.unsubscribe(self)
            return True

    make = Subscription


@breaks("B2")
class EndsItsTwin(Plain):
    """Ends both of two subscriptions of the same handler."""

    def unsubscribe(self, subscription: PlainSubscription) -> bool:
        if subscription not in self.listed:
            return False
        mine = subscription.event_name, subscription.handler
        for each in [*self.listed]:
            if (each.event_name, each.handler) == mine:
                self.listed.remove(each)
        return True


@breaks("B2")
class ActiveAfterUnsubscribeAll(Plain):
    """Reports a subscription as active that `unsubscribe_all` has ended."""

    class Subscription(PlainSubscription):
        @property
        def active(self) -> bool:
            return super().active or self in getattr(self.bus, "emptied", ())

    make = Subscription

    def unsubscribe_all(self, component: str) -> int:
        self.emptied = [each for each in self.listed if each.component_name == component]
        return super().unsubscribe_all(component)


@breaks("B2")
class ActiveAfterOnce(Plain):
    """Reports a one-time subscription as active after it was used."""

    class Subscription(PlainSubscription):
        @property
        def active(self) -> bool:
            return super().active or self.once

    make = Subscription

    def admits(self, subscription: PlainSubscription, publishing: Publishing) -> bool:
        return subscription in self.listed and super().admits(subscription, publishing)


@breaks("B3")
class KeepsWhatItRefuses(Plain):
    """Adds a subscription that it refuses for its name, to an event that is never published."""

    async def check_subscription(
        self, event: Any, component: Any, handler: Any, **options: Any
    ) -> None:
        try:
            await super().check_subscription(event, component, handler, **options)
        except ValueError:
            self.listed.append(self.make("", component, 3, self, handler, None, once=False))
            raise


@breaks("B3")
class TakesNoPriority(Plain):
    """Treats None as the default priority."""

    async def check_subscription(self, *arguments: Any, priority: Any, **options: Any) -> None:
        given = 3 if priority is None else priority
        await super().check_subscription(*arguments, priority=given, **options)


@breaks("B6")
class UnsubscribeAllRemembers(Plain):
    """Keeps what `unsubscribe_all` has ended in memory."""

    def unsubscribe_all(self, component: str) -> int:
        self.emptied = [each for each in self.listed if each.component_name == component]
        return super().unsubscribe_all(component)


@breaks("B6")
class OnceRemembers(Plain):
    """Keeps a one-time subscription in memory after it was used."""

    def admits(self, subscription: PlainSubscription, publishing: Publishing) -> bool:
        if subscription.once:
            self.used = subscription
        return super().admits(subscription, publishing)


@breaks("B7")
class SyncInAThread(Plain):
    """Runs sync handlers in a thread."""

    async def call(self, subscription: PlainSubscription, data: Any) -> None:
        result = await to_thread.run_sync(subscription.handler, data)
        if result is not None:
            await result


@breaks("B7")
class AwaitsPartials(Plain):
    """Treats every partial and bound method as async."""

    async def call(self, subscription: PlainSubscription, data: Any) -> None:
        handler = subscription.handler
        if hasattr(handler, "func") or hasattr(handler, "__func__"):
            await handler(data)
        else:
            await super().call(subscription, data)
