"""Sequential delivery: call the handlers of one publish in order, in the publisher's task (D1)."""

from __future__ import annotations

from inspect import isawaitable
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from flexiflow._cancellation import is_being_cancelled
from flexiflow._delivery.verdict import assess, report
from flexiflow._subscription import admits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flexiflow._delivery.call import CallHandler
    from flexiflow._delivery.verdict import Failures
    from flexiflow._reporting import Announce
    from flexiflow._subscription import HandlerFailure, Subscription


async def deliver_sequential(
    name: str,
    data: Any,
    subscriptions: Iterable[Subscription],
    *,
    raises: bool,
    announce: Announce,
    call: CallHandler | None = None,
) -> Failures:
    """Call the handlers in order, each when the one before has ended.

    Args:
        name: the event's name.
        data: the payload.
        subscriptions: in order of delivery.
        raises: whether the first failure is raised at once (E2); else each is reported (E1).
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
                trouble = assess(exc, subscription, raises=raises)
            else:
                continue
            failures.append(await report(name, subscription, trouble, announce))
        return tuple(failures)
    finally:
        del failures  # their tracebacks hold this frame (B6)
