"""Calling the handlers of one publish one after another, in the publisher's own task (D1)."""

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
    """What left a handler and does not leave publish at once; it is taken out once.

    The traceback of an exception holds the frame of the publish. If that held the exception in
    turn, both would stay until the collector runs (B6).

    Args:
        failure: what is to be reported.
        cancellation: publish's own cancellation that came with it, or None.
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
        stops: whether the first failure leaves at once (E2), or is reported (E1).
        announce: publishes a reported failure.
        call: calls a handler, where that takes more than a call.

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
    """Judge what left a handler, within the `except` that caught it.

    Raises:
        BaseException: what leaves publish at once.
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

    After the `except` that caught it: what is being handled then is the publisher's.
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
            # While an exception that was thrown into the task passes through it, as a deadline's
            # does on asyncio, it does not see what the frames around are handling.
            await checkpoint()
        if is_being_cancelled(sys.exception()):
            await resume_cancellation()
    await announce(failed)
    return failed
