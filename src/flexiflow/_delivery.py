"""Calling the handlers of one publish one after another, in the publisher's own task (D1)."""

from __future__ import annotations

import sys
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, TypeAlias

from flexiflow._cancellation import (
    is_being_cancelled,
    judge,
    resume_cancellation,
)
from flexiflow._reporting import log_failure
from flexiflow._subscription import HandlerFailure, admits

if TYPE_CHECKING:
    from flexiflow._registry import Route
    from flexiflow._reporting import Announce

Failures: TypeAlias = tuple[HandlerFailure, ...]


async def deliver_sequential(
    name: str, data: Any, route: Route, *, stops: bool, announce: Announce
) -> Failures:
    """Call the handlers in order, each when the one before has ended.

    Args:
        name: the event's name.
        data: the payload.
        route: the subscriptions, in order.
        stops: whether the first failure leaves at once (E2), or is reported (E1).
        announce: publishes a reported failure.

    Returns:
        The reported failures, in order of delivery.
    """
    failures: list[HandlerFailure] = []
    handled = sys.exception()
    for subscription in route.subscriptions:
        try:
            if subscription.active if route.unconditional else admits(subscription, name, data):
                result = subscription.handler(data)
                if result is not None and isawaitable(result):
                    await result
        except BaseException as exc:
            verdict = judge(exc, subscription.handler, cancelled=is_being_cancelled)
            if verdict.failure is None or stops:
                raise verdict.leaving
            failed = HandlerFailure(
                name, subscription.component_name, verdict.failure, subscription
            )
            log_failure(failed)
            if verdict.cancellation is not None:
                raise verdict.cancellation
            if is_being_cancelled(handled):
                await resume_cancellation()
            await announce(failed)
            failures.append(failed)
    return tuple(failures)
