"""Faults of delivery: D1 to D6."""

from contextlib import suppress
from contextvars import copy_context
from typing import Any

import anyio
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from flexiflow.events import HANDLER_FAILED
from properties.faults._registry import breaks
from properties.reference.bus import Plain, PlainSubscription, Publishing, spawn


@breaks("D1")
class SequentialInTasks(Plain):
    """Runs each handler of a sequential publish in a task of its own."""

    async def sequential(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        for each in audience:
            async with anyio.create_task_group() as group:
                group.start_soon(super().sequential, publishing, [each])


@breaks("D1")
class ForgetsTheContext(Plain):
    """Undoes what a handler set in a context variable."""

    async def sequential(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        before = dict(copy_context())
        for each in audience:
            await super().sequential(publishing, [each])
            for variable, value in before.items():
                variable.set(value)


@breaks("D1")
class SequentialAtOnce(Plain):
    """Delivers concurrently even if the call says sequential."""

    async def sequential(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        await self.concurrent(publishing, audience)


@breaks("D2")
class ConcurrentInTurn(Plain):
    """Delivers sequentially even if the call says concurrent."""

    async def concurrent(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        await self.sequential(publishing, audience)


@breaks("D2")
class StartsOutOfOrder(Plain):
    """Starts the second handler last."""

    async def start_all(self, group: Any, publishing: Any, audience: Any) -> None:
        await super().start_all(group, publishing, audience[:1] + audience[2:] + audience[1:2])


@breaks("D2")
class TakesTheBackendsOrder(Plain):
    """Starts handlers in the order that the backend's scheduler happens to choose."""

    async def start_all(self, group: Any, publishing: Any, audience: Any) -> None:
        for each in audience:
            group.start_soon(self.run, group, publishing, each)


@breaks("D2")
class LeaksWhereThereIsOne(Plain):
    """Runs a single handler in the publisher's own context."""

    async def concurrent(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        if len(audience) == 1:
            await self.sequential(publishing, audience)
        else:
            await super().concurrent(publishing, audience)


@breaks("D2")
class LeaksToLaterHandlers(Plain):
    """Starts each handler in the context of the handler that ended last."""

    async def start_all(self, group: Any, publishing: Any, audience: Any) -> None:
        self.left = copy_context()
        await super().start_all(group, publishing, audience)

    async def call(self, subscription: PlainSubscription, data: Any) -> None:
        if hasattr(self, "left"):
            for variable, value in self.left.items():
                variable.set(value)
        await super().call(subscription, data)
        self.left = copy_context()


@breaks("D2")
class TwoAtATime(Plain):
    """Runs at most two handlers of a publish at once."""

    most = 2

    async def start_all(self, group: Any, publishing: Any, audience: Any) -> None:
        slots = anyio.Semaphore(self.most)

        async def run(each: PlainSubscription) -> None:
            async with slots:
                await self.run(group, publishing, each)

        for each in audience:
            group.start_soon(run, each)
            await checkpoint()


@breaks("D2", "D3")
class SixAtATime(TwoAtATime):
    """Runs at most six handlers of a publish at once."""

    most = 6


@breaks("D3")
class TiersOverlap(Plain):
    """Delivers all tiers at once."""

    async def tiered(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        await self.concurrent(publishing, audience)


@breaks("D3")
class TiersInTurn(Plain):
    """Delivers the handlers of a tier one after another."""

    async def tiered(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        await self.sequential(publishing, audience)


@breaks("D3")
class AFailedTierIsTheLast(Plain):
    """Stops after a tier in which something failed."""

    async def tiered(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        for priority in sorted({each.priority for each in audience}):
            await self.concurrent(publishing, [e for e in audience if e.priority == priority])
            if publishing.failures:
                return


@breaks("D4")
class LeavesTasksBehind(Plain):
    """Leaves its handlers running when a concurrent publish is cancelled."""

    async def concurrent(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        outcome: list[BaseException] = []
        over = anyio.Event()

        async def run() -> None:
            try:
                await Plain.concurrent(self, publishing, audience)
            except Exception as exc:
                outcome.append(exc)
            over.set()

        spawn(run)
        await over.wait()
        for exception in outcome:
            raise exception


@breaks("D4")
class DoesNotWaitForTheLast(Plain):
    """Returns while the last handler of a concurrent publish is running."""

    async def start_all(self, group: Any, publishing: Any, audience: Any) -> None:
        if not audience or audience[-1].filter is not None:
            await super().start_all(group, publishing, audience)
            return
        await super().start_all(group, publishing, audience[:-1])
        spawn(self.attempt, publishing, audience[-1])
        await checkpoint()
        await checkpoint()


@breaks("D4", "E3")
class DoesNotWaitForCleanup(Plain):
    """Raises a failure while the siblings still clean up."""

    async def concurrent(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        over = anyio.Event()

        async def run() -> None:
            with suppress(Exception):
                await Plain.concurrent(self, publishing, audience)
            over.set()

        spawn(run)
        while not over.is_set() and not publishing.kept:
            await checkpoint()
        if publishing.kept:
            raise publishing.kept[0].exception


@breaks("D5")
class IgnoresTheCallsPolicy(Plain):
    """Uses its own policy, whatever the call says."""

    def choose(self, delivery: str | None, on_error: str | None) -> tuple[str, str]:
        return super().choose(delivery, None)


@breaks("D2", "D3", "D5")
class IgnoresTheCallsDelivery(Plain):
    """Uses its own delivery, whatever the call says."""

    def choose(self, delivery: str | None, on_error: str | None) -> tuple[str, str]:
        return super().choose(None, on_error)


@breaks("D5")
class RemembersTheLastCall(Plain):
    """Uses the options of the last call as defaults from then on."""

    def choose(self, delivery: str | None, on_error: str | None) -> tuple[str, str]:
        chosen = super().choose(delivery, on_error)
        self.default_delivery, self.default_on_error = chosen
        return chosen


@breaks("D6")
class NeverYields(Plain):
    """Never yields, so that every other task starves."""

    async def make_way(self) -> None:
        """Do nothing."""


@breaks("D6")
class YieldsTooRarely(Plain):
    """Counts only every other publish."""

    async def make_way(self) -> None:
        self.since_yield -= 0.5
        await super().make_way()


@breaks("D6")
class LooksButDoesNotYield(Plain):
    """Notices that it is cancelled, but gives no other task a turn."""

    async def make_way(self) -> None:
        if anyio.current_effective_deadline() == -float("inf"):
            await checkpoint()


@breaks("D1")
class SequentialInTasksUnderRaise(Plain):
    """Runs the handlers of a sequential publish under `raise` in a task of their own."""

    async def sequential(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        if not publishing.stops:
            await super().sequential(publishing, audience)
            return
        failures: list[Exception] = []

        async def run() -> None:
            try:
                await Plain.sequential(self, publishing, audience)
            except Exception as exc:
                failures.append(exc)

        async with anyio.create_task_group() as group:
            group.start_soon(run)
        for exception in failures:
            raise exception


@breaks("D2")
class ReversesUnderRaise(Plain):
    """Starts the last handler first under `raise`."""

    async def start_all(self, group: Any, publishing: Any, audience: Any) -> None:
        in_order = audience[::-1] if publishing.stops else audience
        await super().start_all(group, publishing, in_order)


@breaks("D2", "D3")
class TooManyInTurn(Plain):
    """Delivers one after another if there are more than six handlers."""

    async def concurrent(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        if len(audience) > 6:
            await self.sequential(publishing, audience)
        else:
            await super().concurrent(publishing, audience)


@breaks("D6")
class YieldsHalfAsOften(Plain):
    """Checks whether it is cancelled, but yields only in every 122nd publish."""

    async def make_way(self) -> None:
        self.since_yield -= 0.5
        await checkpoint_if_cancelled()
        await super().make_way()


@breaks("D6")
class BuiltInEventsDoNotCount(Plain):
    """Counts only what is published from outside."""

    async def publish(self, event: Any, data: Any = None, **options: Any) -> Any:
        self.since_yield -= event == HANDLER_FAILED
        return await super().publish(event, data, **options)
