"""Sequential delivery: call the handlers of one publish in order, in the publisher's task (D1).

What leaves a handler is dealt with in two steps. `assess` judges it, inside the `except` that
caught it: it raises what must leave publish, and returns what is to be reported. After the
`except`, `report` logs and announces that.
"""

from __future__ import annotations

import sys
from inspect import isawaitable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeAlias, final

from anyio.lowlevel import checkpoint

from flexiflow._cancellation import (
    effectively_cancelled,
    is_being_cancelled,
    judge,
    resume_cancellation,
)
from flexiflow._reporting import log_failure
from flexiflow._subscription import HandlerFailure, admits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flexiflow._call import Call
    from flexiflow._reporting import Announce
    from flexiflow._subscription import Subscription

Failures: TypeAlias = tuple[HandlerFailure, ...]


@final
class Trouble:
    """A failure that is to be reported; it can be taken out once.

    The traceback of an exception holds the frame of the publish. If the frame held the exception
    too, both would stay in memory until the garbage collector runs (B6).

    Args:
        failure: what is to be reported.
        cancellation: publish's own cancellation, if it came with the failure, or None.
    """

    __slots__ = ("_held",)

    def __init__(self, failure: Exception, cancellation: BaseException | None) -> None:
        self._held = [(failure, cancellation)]

    def take(self) -> tuple[Exception, BaseException | None]:
        """Return the failure and the cancellation, and forget them."""
        return self._held.pop()


async def deliver_sequential(
    name: str,
    data: Any,
    subscriptions: Iterable[Subscription],
    *,
    stops: bool,
    announce: Announce,
    call: Call | None = None,
) -> Failures:
    """Call the handlers in order, each when the one before has ended.

    Args:
        name: the event's name.
        data: the payload.
        subscriptions: in order of delivery.
        stops: whether the first failure is raised at once (E2); else each is reported (E1).
        announce: publishes a failure as `event.handler.failed`.
        call: calls each handler, if some have terms or are watched; else None.

    Returns:
        The reported failures, in order of delivery.
    """
    failures: list[HandlerFailure] = []
    try:
        for subscription in subscriptions:
            try:
                if call is not None:
                    await call(subscription, is_being_cancelled)
                elif admits(subscription, name, data):
                    result = subscription.handler(data)
                    if type(result) is CoroutineType or (
                        result is not None and isawaitable(result)
                    ):
                        await result
            except BaseException as exc:
                trouble = assess(exc, subscription, stops=stops)
            else:
                continue
            failures.append(await report(name, subscription, trouble, announce))
        return tuple(failures)
    finally:
        del failures  # their tracebacks hold this frame (B6)


def assess(exception: BaseException, subscription: Subscription, *, stops: bool) -> Trouble:
    """Judge what left a handler; call it within the `except` that caught that.

    Returns:
        The failure, to be passed to `report`.

    Raises:
        BaseException: what must leave publish at once: a cancellation, an interrupt, or, if
            `stops`, the failure.
    """
    verdict = judge(exception, subscription.handler, cancelled=is_being_cancelled)
    try:
        if verdict.failure is None or stops:
            raise verdict.leaving
        return Trouble(verdict.failure, verdict.cancellation)
    finally:
        del exception, verdict  # their tracebacks hold this frame (B6)


async def report(
    name: str, subscription: Subscription, trouble: Trouble, announce: Announce
) -> HandlerFailure:
    """Log a failure and announce it (E1), or go on with publish's cancellation (E5).

    Call it after the `except` that caught the failure, so that `sys.exception()` is what the
    publisher was handling.

    Raises:
        BaseException: publish is being cancelled; the failure has been logged only.
    """
    failure, cancellation = trouble.take()
    failed = HandlerFailure(name, subscription.component_name, failure, subscription)
    log_failure(failed)
    if cancellation is not None:
        try:
            raise cancellation
        finally:
            del failure, cancellation, failed  # their tracebacks hold this frame (B6)
    if is_being_cancelled(sys.exception()):
        if not effectively_cancelled():
            # On asyncio a deadline throws a cancellation into the task. While that passes through,
            # `sys.exception()` does not show what the frames around are handling.
            await checkpoint()
        if is_being_cancelled(sys.exception()):
            await resume_cancellation()
    await announce(failed)
    return failed
