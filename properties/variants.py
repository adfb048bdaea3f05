"""Buses that keep the contract in other ways than ours: no checker may complain of them."""

from typing import Any

from anyio.lowlevel import checkpoint

from flexiflow.events import HANDLER_FAILED
from properties.reference.bus import Plain, PlainSubscription, Publishing, is_cancelled, logger
from properties.reference.full_bus import Full

IDLE = "bus.idle"


class LogsAllItDoes(Plain):
    """Logs each start, each end, and each exception with its traceback, for debugging."""

    async def call(self, subscription: PlainSubscription, data: Any) -> None:
        logger.debug("calling %r", subscription.handler)
        try:
            await super().call(subscription, data)
        except BaseException:
            logger.debug("left by", exc_info=True)
            raise
        logger.debug("called")


class PublishesEventsOfItsOwn(Plain):
    """Publishes an event of its own when a publish is over."""

    async def publish(self, event: Any, data: Any = None, **options: Any) -> Any:
        result = await super().publish(event, data, **options)
        if event not in (IDLE, HANDLER_FAILED) and not is_cancelled():
            await super().publish(IDLE, on_error="continue")
        return result


class YieldsAtManyPlaces(Plain):
    """Yields to other tasks wherever it may."""

    async def subscribe(self, *arguments: Any, **options: Any) -> Any:
        await checkpoint()
        return await super().subscribe(*arguments, **options)

    async def make_way(self) -> None:
        await checkpoint()

    async def sequential(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        for each in audience:
            await super().sequential(publishing, [each])
            await checkpoint()

    async def tiered(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        await checkpoint()
        await super().tiered(publishing, audience)


class RaisesInTiers(Plain):
    """Has other defaults, yields in every publish, and refuses attributes with a `TypeError`."""

    class Subscription(PlainSubscription):
        """Is read-only in another way."""

        def __setattr__(self, name: str, value: object) -> None:
            raise TypeError(f"a subscription is read-only: {name}")

    make = Subscription

    def __init__(self) -> None:
        super().__init__()
        self.default_delivery, self.default_on_error = "tiered", "raise"

    async def make_way(self) -> None:
        await checkpoint()


class DeliversFailuresAtOnce(Plain):
    """Delivers its own events concurrently."""

    async def sequential(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        if publishing.event == HANDLER_FAILED:
            await self.concurrent(publishing, audience)
        else:
            await super().sequential(publishing, audience)


VARIANTS = (
    Plain,
    LogsAllItDoes,
    PublishesEventsOfItsOwn,
    YieldsAtManyPlaces,
    RaisesInTiers,
    DeliversFailuresAtOnce,
    Full,
)
