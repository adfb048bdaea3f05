"""Faults of reporting failures: E1, E2, E3, E7."""

from dataclasses import replace
from typing import Any

from flexiflow import HandlerFailure
from properties.faults._registry import breaks
from properties.reference.bus import Plain, PlainSubscription, Publishing, is_cancelled, logger


@breaks("E1")
class LogsNoEvent(Plain):
    """Logs a failure without the name of the event."""

    def log(self, failed: HandlerFailure) -> None:
        name = failed.subscription.handler.__qualname__
        parts = name, failed.component_name
        logger.error("%s of component %r failed", *parts, exc_info=failed.exception)


@breaks("E1")
class ReturnsAnotherEvent(Plain):
    """Returns failures as those of another event."""

    def results(self, publishing: Publishing, audience: Any) -> tuple[HandlerFailure, ...]:
        failures = super().results(publishing, audience)
        return tuple(replace(failed, event_name="another") for failed in failures)


@breaks("E1")
class LogsWhenAllHaveRun(Plain):
    """Reports the failures of a sequential publish only at its end."""

    async def sequential(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        late: list[HandlerFailure] = []
        for each in audience:
            failed, passing = await self.attempt(publishing, each)
            if passing is not None:
                raise passing
            if failed is not None and publishing.stops:
                raise failed.exception
            if failed is not None:
                publishing.failures[each] = failed
                late.append(failed)
        for failed in late:
            self.log(failed)
            await self.announce(failed)


@breaks("E1")
class PublishesAtTheEnd(Plain):
    """Logs failures at once, but publishes them only when every handler has ended."""

    async def concurrent_failure(self, group: Any, publishing: Any, failed: Any) -> None:
        if publishing.stops or publishing.fatal or is_cancelled():
            await super().concurrent_failure(group, publishing, failed)
        else:
            publishing.failures[failed.subscription] = failed
            self.log(failed)

    async def concurrent(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        await super().concurrent(publishing, audience)
        for each in audience:
            if each in publishing.failures:
                await self.announce(publishing.failures[each])


@breaks("E3")
class NotesNonsense(Plain):
    """Notes that something happened, but not what."""

    async def conclude(self, publishing: Publishing, passing: BaseException | None) -> None:
        try:
            await super().conclude(publishing, passing)
        except Exception as exc:
            exc.__notes__ = ["x" for _ in getattr(exc, "__notes__", ())]
            raise


@breaks("E2")
class TieredLetsTheSiblingsRun(Plain):
    """Waits for every sibling of a handler that failed in a tier, however long it takes."""

    in_tiers = False

    async def tiered(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        self.in_tiers = True
        try:
            await super().tiered(publishing, audience)
        finally:
            self.in_tiers = False

    async def concurrent_failure(self, group: Any, publishing: Any, failed: Any) -> None:
        if publishing.stops and self.in_tiers:
            publishing.kept.append(failed)
        else:
            await super().concurrent_failure(group, publishing, failed)


@breaks("E7")
class ConcurrentObserversPublish(Plain):
    """Publishes failures in what a failure's handler publishes concurrently."""

    async def concurrent(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        token = self.announcing.set(False)
        try:
            await super().concurrent(publishing, audience)
        finally:
            self.announcing.reset(token)
