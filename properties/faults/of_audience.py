"""Faults in which handlers are called, and in which order: B4, B5, B8 to B11."""

from contextlib import suppress
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from flexiflow.events import HANDLER_FAILED
from properties.faults._registry import breaks
from properties.reference.bus import Plain, PlainSubscription, Publishing


@breaks("B4")
class FillsTheGap(Plain):
    """Moves the youngest subscription to where one was removed."""

    def unsubscribe(self, subscription: PlainSubscription) -> bool:
        if subscription not in self.listed:
            return False
        youngest = self.listed.pop()
        if youngest is not subscription:
            self.listed[self.listed.index(subscription)] = youngest
        return True


@breaks("B5")
class YieldsBeforeItsSnapshot(Plain):
    """Yields before it takes its snapshot."""

    async def publish(self, event: Any, data: Any = None, **options: Any) -> Any:
        await checkpoint()
        return await super().publish(event, data, **options)


@breaks("B5")
class CancelsWhoIsRemoved(Plain):
    """Cancels a running handler when it is unsubscribed."""

    def __init__(self) -> None:
        super().__init__()
        self.running: list[tuple[PlainSubscription, anyio.CancelScope]] = []

    async def call(self, subscription: PlainSubscription, data: Any) -> None:
        with anyio.CancelScope() as scope:
            self.running.append((subscription, scope))
            try:
                await super().call(subscription, data)
            finally:
                self.running.remove((subscription, scope))

    def unsubscribe(self, subscription: PlainSubscription) -> bool:
        for each, scope in self.running:
            if each is subscription:
                scope.cancel()
        return super().unsubscribe(subscription)


@breaks("B8")
class TieredAsksAllFirst(Plain):
    """Asks all filters before the first tier starts."""

    async def tiered(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        accepted = []
        for each in audience:
            with suppress(Exception):
                if self.accepts(each, publishing):
                    accepted.append(each)
        await super().tiered(publishing, accepted)


@breaks("B8")
class AnExitRefuses(Plain):
    """Treats a filter that exits as one that refuses."""

    def accepts(self, subscription: PlainSubscription, publishing: Publishing) -> bool:
        try:
            return super().accepts(subscription, publishing)
        except Exception:
            raise
        except BaseException:
            return False


@breaks("B8")
class AsksTheRemoved(Plain):
    """Asks the filter of a subscription that was removed."""

    def admits(self, subscription: PlainSubscription, publishing: Publishing) -> bool:
        return self.accepts(subscription, publishing) and (
            self.unsubscribe(subscription) if subscription.once else subscription.active
        )


@breaks("B9")
class SubscribedWhileItRuns(Plain):
    """Starts a one-time handler once, but unsubscribes it only when it has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.used: list[PlainSubscription] = []

    def admits(self, subscription: PlainSubscription, publishing: Publishing) -> bool:
        if subscription in self.used or not subscription.active:
            return False
        accepted = self.accepts(subscription, publishing)
        if accepted and subscription.once:
            self.used.append(subscription)
        return accepted

    async def call(self, subscription: PlainSubscription, data: Any) -> None:
        try:
            await super().call(subscription, data)
        finally:
            if subscription.once:
                self.unsubscribe(subscription)


@breaks("B10")
class ADotIsAnything(Plain):
    """Matches the dot of a name with any character, as a regular expression does."""

    def hears(self, subscription: PlainSubscription, event: str) -> bool:
        name = subscription.event_name
        return super().hears(subscription, event) or (
            len(name) == len(event)
            and all(mine in (".", theirs) for mine, theirs in zip(name, event, strict=True))
        )


@breaks("B11")
class NestedInATask(Plain):
    """Runs a publish inside a handler in a task of its own."""

    depth = 0

    async def publish(self, event: Any, data: Any = None, **options: Any) -> Any:
        if not self.depth or event == HANDLER_FAILED:
            self.depth += 1
            try:
                return await super().publish(event, data, **options)
            finally:
                self.depth -= 1
        results: list[Any] = []

        async def run() -> None:
            results.append(await Plain.publish(self, event, data, **options))

        async with anyio.create_task_group() as group:
            group.start_soon(run)
        return results[0]
