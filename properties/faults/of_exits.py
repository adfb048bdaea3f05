"""Faults of exits and groups: E5, E8."""

from typing import Any

import anyio

from properties.faults._registry import breaks
from properties.reference.bus import Plain, PlainSubscription, Publishing


@breaks("E5")
class AnExitWaitsForSiblings(Plain):
    """Raises an exit only when every sibling has ended by itself."""

    async def run(
        self,
        group: Any,
        publishing: Publishing,
        subscription: PlainSubscription,
        *,
        task_status: Any = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        task_status.started()
        if group.cancel_scope.cancel_called or publishing.fatal:
            return
        try:
            failed, passing = await self.attempt(publishing, subscription)
        except BaseException as exc:
            publishing.fatal.append(exc)
            return
        if failed is not None:
            await self.concurrent_failure(group, publishing, failed)
        if passing is not None:
            raise passing


@breaks("E5")
class LosesOtherExits(Plain):
    """Adds no note of a second exit to the first."""

    async def conclude(self, publishing: Publishing, passing: BaseException | None) -> None:
        del publishing.fatal[1:]
        await super().conclude(publishing, passing)


@breaks("E5")
class SystemExitIsAFailure(Plain):
    """Treats Python's own exits as failures, but not other ones."""

    def judge(self, exc: BaseException) -> tuple[Exception | None, BaseException | None]:
        if not isinstance(exc, (KeyboardInterrupt, SystemExit)):
            return super().judge(exc)
        failure = RuntimeError("an exit")
        failure.__cause__ = exc
        return failure, None


@breaks("E8")
class LooksIntoOneGroupOnly(Plain):
    """Overlooks a cancellation in a group within a group."""

    def split(self, exc: BaseException) -> tuple[BaseException | None, BaseException | None]:
        kind = anyio.get_cancelled_exc_class()
        if isinstance(exc, BaseExceptionGroup) and not any(
            isinstance(each, kind) for each in exc.exceptions
        ):
            return None, exc
        return super().split(exc)
