"""Faults of errors: E1 to E8."""

import contextlib
from contextlib import suppress
from typing import Any

import anyio

from flexiflow import HandlerFailure
from properties.faults._registry import breaks
from properties.reference.bus import Plain, PlainSubscription, Publishing, is_cancelled, logger


@breaks("E1")
class LosesTheSecondFailure(Plain):
    """Returns at most one failure."""

    def results(self, publishing: Publishing, audience: Any) -> tuple[HandlerFailure, ...]:
        return super().results(publishing, audience)[:1]


@breaks("E1")
class ReturnsAsTheyFailed(Plain):
    """Returns the failures in the order in which they happened."""

    def results(self, publishing: Publishing, audience: Any) -> tuple[HandlerFailure, ...]:
        return tuple(publishing.failures.values())


@breaks("E1", "B8")
class ReturnsNothing(Plain):
    """Only logs failures."""

    def results(self, publishing: Publishing, audience: Any) -> tuple[HandlerFailure, ...]:
        return ()


@breaks("E1")
class LogsWithoutTraceback(Plain):
    """Logs a failure's message without its traceback."""

    def log(self, failed: HandlerFailure) -> None:
        logger.error("a handler failed: %r", failed.exception)


@breaks("E1")
class LogsAsWarning(Plain):
    """Logs a failure as a warning."""

    def log(self, failed: HandlerFailure) -> None:
        name = failed.subscription.handler.__qualname__
        parts = name, failed.component_name, failed.event_name
        logger.warning("%s of %r failed on %r", *parts, exc_info=failed.exception)


@breaks("E1")
class LogsNoHandler(Plain):
    """Logs a failure without the handler's name."""

    def log(self, failed: HandlerFailure) -> None:
        parts = failed.component_name, failed.event_name
        logger.error("something of %r failed on %r", *parts, exc_info=failed.exception)


@breaks("E1")
class PublishesTwice(Plain):
    """Publishes each failure twice."""

    async def announce(self, failed: HandlerFailure) -> None:
        await super().announce(failed)
        await super().announce(failed)


@breaks("E1")
class PublishesNothing(Plain):
    """Publishes no failure."""

    async def announce(self, failed: HandlerFailure) -> None:
        """Do nothing."""


@breaks("E1", "B8")
class StopsAtAFailure(Plain):
    """Starts no handler after a failure, whatever the policy."""

    async def sequential(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        for each in audience:
            await super().sequential(publishing, [each])
            if publishing.failures:
                return


@breaks("E1")
class ReportsAtTheEnd(Plain):
    """Logs failures only when every handler has ended, in the publisher's task."""

    async def concurrent_failure(self, group: Any, publishing: Any, failed: Any) -> None:
        if publishing.stops:
            await super().concurrent_failure(group, publishing, failed)
        else:
            publishing.failures[failed.subscription] = failed

    async def conclude(self, publishing: Publishing, passing: BaseException | None) -> None:
        for failed in publishing.failures.values():
            self.log(failed)
            await self.announce(failed)
        await super().conclude(publishing, passing)


@breaks("E2")
class WrapsTheFailure(Plain):
    """Raises another exception, made from the failure."""

    async def sequential_failure(self, publishing: Publishing, failed: HandlerFailure) -> None:
        if publishing.stops:
            raise RuntimeError("a handler failed") from failed.exception
        await super().sequential_failure(publishing, failed)


@breaks("E2")
class RaisesTheLast(Plain):
    """Calls all handlers, and then raises the last failure."""

    async def sequential(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        last: Exception | None = None
        for each in audience:
            try:
                await super().sequential(publishing, [each])
            except Exception as exc:
                last = exc
        if last is not None:
            raise last


@breaks("E2")
class LaterTiersAllTheSame(Plain):
    """Runs the tiers after one that failed, and then raises."""

    async def tiered(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        failures: list[Exception] = []
        for priority in sorted({each.priority for each in audience}):
            try:
                await self.concurrent(publishing, [e for e in audience if e.priority == priority])
            except Exception as exc:
                failures.append(exc)
                publishing.kept.clear()
        if failures:
            raise failures[0]


@breaks("E3", "E2")
class RaisesAGroup(Plain):
    """Raises failures in a group, as a task group does."""

    async def conclude(self, publishing: Publishing, passing: BaseException | None) -> None:
        try:
            await super().conclude(publishing, passing)
        except Exception as exc:
            raise ExceptionGroup("handlers failed", [exc]) from None


@breaks("E3")
class LetsTheSiblingsRun(Plain):
    """Waits for every sibling, however long it takes."""

    async def concurrent_failure(self, group: Any, publishing: Any, failed: Any) -> None:
        publishing.kept.append(failed)
        if not publishing.stops:
            publishing.kept.pop()
            await super().concurrent_failure(group, publishing, failed)


@breaks("E3", "E4")
class SwallowsCleanupErrors(Plain):
    """Forgets what a sibling raises in its cleanup."""

    async def conclude(self, publishing: Publishing, passing: BaseException | None) -> None:
        del publishing.kept[1:]
        await super().conclude(publishing, passing)


@breaks("E3")
class TakesNoNotes(Plain):
    """Adds no notes to what it raises."""

    async def conclude(self, publishing: Publishing, passing: BaseException | None) -> None:
        try:
            await super().conclude(publishing, passing)
        except Exception as exc:
            exc.__notes__ = []
            raise


@breaks("E3")
class RaisesTheLastOfThem(Plain):
    """Raises what a sibling raised in its cleanup."""

    async def conclude(self, publishing: Publishing, passing: BaseException | None) -> None:
        publishing.kept.reverse()
        await super().conclude(publishing, passing)


@breaks("E3", "B9")
class StartsAfterAFailure(Plain):
    """Uses up the `once` of handlers that never start after a failure."""

    async def conclude(self, publishing: Publishing, passing: BaseException | None) -> None:
        if publishing.kept:
            for each in self.audience(publishing.event):
                if not each.active or each.once:
                    self.unsubscribe(each)
        await super().conclude(publishing, passing)


@breaks("E4")
class LogsWhatItRaises(Plain):
    """Logs a failure that it also raises."""

    async def sequential_failure(self, publishing: Publishing, failed: HandlerFailure) -> None:
        if publishing.stops:
            self.log(failed)
        await super().sequential_failure(publishing, failed)


@breaks("E4", "E2", "D5")
class RaisesNothing(Plain):
    """Neither raises nor reports a failure under `raise`."""

    async def sequential_failure(self, publishing: Publishing, failed: HandlerFailure) -> None:
        if not publishing.stops:
            await super().sequential_failure(publishing, failed)


@breaks("E4")
class LosesFailuresOfTheCancelled(Plain):
    """Forgets a failure that happens while it is being cancelled."""

    def log(self, failed: HandlerFailure) -> None:
        if not is_cancelled():
            super().log(failed)


@breaks("E5")
class CancellationsAreFailures(Plain):
    """Logs its own cancellation as the failure of a handler."""

    def judge(self, exc: BaseException) -> tuple[Exception | None, BaseException | None]:
        if isinstance(exc, anyio.get_cancelled_exc_class()):
            failure = RuntimeError("cancelled")
            failure.__cause__ = exc
            logger.error("a handler failed", exc_info=exc)
            return None, exc
        return super().judge(exc)


@breaks("E5")
class SwallowsCancellations(Plain):
    """Returns normally when a handler was cancelled."""

    async def sequential(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        with suppress(anyio.get_cancelled_exc_class()):
            await super().sequential(publishing, audience)


@breaks("E5")
class GoesOnWhileCancelled(Plain):
    """Starts the next handler after one failed while `publish` is being cancelled."""

    async def sequential_failure(self, publishing: Publishing, failed: HandlerFailure) -> None:
        if publishing.stops or not is_cancelled():
            await super().sequential_failure(publishing, failed)
        else:
            self.log(failed)


@breaks("E5")
class ExitsAreFailures(Plain):
    """Treats an exception that is no `Exception` as a failure."""

    def judge(self, exc: BaseException) -> tuple[Exception | None, BaseException | None]:
        if isinstance(exc, (Exception, BaseExceptionGroup, anyio.get_cancelled_exc_class())):
            return super().judge(exc)
        failure = RuntimeError("an exit")
        failure.__cause__ = exc
        return failure, None


@breaks("E5")
class WrapsExits(Plain):
    """Raises an exit in a group, as a task group does."""

    async def conclude(self, publishing: Publishing, passing: BaseException | None) -> None:
        if publishing.fatal:
            raise BaseExceptionGroup("handlers", publishing.fatal)
        await super().conclude(publishing, passing)


@breaks("E6")
class StraysPass(Plain):
    """Treats every cancellation as its own."""

    def judge(self, exc: BaseException) -> tuple[Exception | None, BaseException | None]:
        if isinstance(exc, anyio.get_cancelled_exc_class()):
            return None, exc
        return super().judge(exc)


@breaks("E6")
class StraysAreLost(Plain):
    """Treats a handler that a stray cancellation left as one that returned."""

    def judge(self, exc: BaseException) -> tuple[Exception | None, BaseException | None]:
        failure, passing = super().judge(exc)
        return (failure if failure is exc or passing else None), passing


@breaks("E6")
class StraysWithoutCause(Plain):
    """Leaves out the cause of `HandlerCancelled`."""

    def judge(self, exc: BaseException) -> tuple[Exception | None, BaseException | None]:
        failure, passing = super().judge(exc)
        if failure is not None and failure is not exc:
            failure.__cause__ = None
        return failure, passing


@breaks("E7")
class PublishesFailuresOfObservers(Plain):
    """Publishes the failure of a failure's handler, which may fail again."""

    @contextlib.contextmanager
    def announcement(self) -> Any:
        yield


@breaks("E7")
class PublishesWhatObserversPublish(Plain):
    """Publishes failures in what a failure's handler publishes."""

    async def publish(self, event: Any, data: Any = None, **options: Any) -> Any:
        token = self.announcing.set(False)
        try:
            return await super().publish(event, data, **options)
        finally:
            self.announcing.reset(token)


@breaks("E7")
class LosesFailuresOfObservers(Plain):
    """Doesn't even log the failure of a failure's handler."""

    def log(self, failed: HandlerFailure) -> None:
        if not self.announcing.get():
            super().log(failed)


@breaks("E8", "E1")
class TakesGroupsApart(Plain):
    """Reports only the first exception of a group."""

    def judge(self, exc: BaseException) -> tuple[Exception | None, BaseException | None]:
        if isinstance(exc, ExceptionGroup):
            return exc.exceptions[0], None
        return super().judge(exc)


@breaks("E8")
class KeepsCancellationsInGroups(Plain):
    """Treats a group that holds a cancellation as a cancellation."""

    def split(self, exc: BaseException) -> tuple[BaseException | None, BaseException | None]:
        cancellation, rest = super().split(exc)
        return (cancellation, None) if cancellation is not None else (None, rest)


@breaks("E8", "E1")
class CopiesGroups(Plain):
    """Reports a new group of what the group held."""

    def judge(self, exc: BaseException) -> tuple[Exception | None, BaseException | None]:
        if isinstance(exc, ExceptionGroup):
            return exc.derive(exc.exceptions), None
        return super().judge(exc)
