"""Calling the handlers of one publish one after another, in the publisher's own task (D1)."""

from __future__ import annotations

import sys
from inspect import isawaitable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

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


class Trouble(NamedTuple):
    """What left a handler and does not leave publish at once.

    Attributes:
        failure: what is to be reported.
        cancellation: publish's own cancellation that came with it, or None.
    """

    failure: Exception
    cancellation: BaseException | None


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
    for subscription in subscriptions:
        try:
            if call is not None:
                await call(subscription, is_being_cancelled)
            elif admits(subscription, name, data):
                result = subscription.handler(data)
                if type(result) is CoroutineType or (result is not None and isawaitable(result)):
                    await result
        except BaseException as exc:
            trouble = assess(exc, subscription, stops=stops)
        else:
            continue
        failures.append(await report(name, subscription, trouble, announce))
    return tuple(failures)


def assess(exception: BaseException, subscription: Subscription, *, stops: bool) -> Trouble:
    """Judge what left a handler, within the `except` that caught it.

    Raises:
        BaseException: what leaves publish at once.
    """
    verdict = judge(exception, subscription.handler, cancelled=is_being_cancelled)
    if verdict.failure is None or stops:
        raise verdict.leaving
    return Trouble(verdict.failure, verdict.cancellation)


async def report(
    name: str, subscription: Subscription, trouble: Trouble, announce: Announce
) -> HandlerFailure:
    """Log a failure and announce it (E1), or go on with publish's cancellation (E5).

    After the `except` that caught it: what is being handled then is the publisher's.
    """
    failed = HandlerFailure(name, subscription.component_name, trouble.failure, subscription)
    log_failure(failed)
    if trouble.cancellation is not None:
        raise trouble.cancellation
    if is_being_cancelled(sys.exception()):
        if not effectively_cancelled():
            # While an exception that was thrown into the task passes through it, as a deadline's
            # does on asyncio, it does not see what the frames around are handling.
            await checkpoint()
        if is_being_cancelled(sys.exception()):
            await resume_cancellation()
    await announce(failed)
    return failed
