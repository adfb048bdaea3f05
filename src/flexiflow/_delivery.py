"""Calling the handlers of one publish one after another, in the publisher's own task (D1)."""

from __future__ import annotations

import sys
from inspect import isawaitable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeAlias, final

from flexiflow._cancellation import is_being_cancelled, judge, resume_cancellation
from flexiflow._reporting import log_failure
from flexiflow._subscription import HandlerFailure, admits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flexiflow._registry import Route
    from flexiflow._reporting import Announce
    from flexiflow._subscription import Subscription

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
    delivery = SequentialDelivery(name, data, stops, announce, sys.exception())
    await delivery.call(iter(route.subscriptions))
    return tuple(delivery.failures)


@final
class SequentialDelivery:
    """One publish, or what is left of it after a handler has failed.

    Args:
        name: the event's name.
        data: the payload.
        stops: whether the first failure leaves at once.
        announce: publishes a reported failure.
        handled: the exception that was being handled as the publish began.

    Attributes:
        failures: those reported so far.
    """

    __slots__ = ("_announce", "_data", "_handled", "_name", "_stops", "failures")

    def __init__(
        self,
        name: str,
        data: Any,
        stops: bool,  # noqa: FBT001  a mode of delivery passes it on
        announce: Announce,
        handled: BaseException | None,
    ) -> None:
        self._name = name
        self._data = data
        self._stops = stops
        self._announce = announce
        self._handled = handled
        self.failures: list[HandlerFailure] = []

    async def call(self, subscriptions: Iterator[Subscription]) -> None:
        """Call those that are left."""
        for subscription in subscriptions:
            try:
                if admits(subscription, self._name, self._data):
                    result = subscription.handler(self._data)
                    if type(result) is CoroutineType or (
                        result is not None and isawaitable(result)
                    ):
                        await result
            except BaseException as exc:
                failure, cancellation = self.judge(exc, subscription)
            else:
                continue
            await self.report(failure, cancellation, subscription)

    def judge(
        self, exception: BaseException, subscription: Subscription
    ) -> tuple[Exception, BaseException | None]:
        """Return a failure that is to be reported, and the cancellation that came with it.

        Raises:
            BaseException: what leaves publish instead.
        """
        verdict = judge(exception, subscription.handler, cancelled=is_being_cancelled)
        if verdict.failure is None or self._stops:
            raise verdict.leaving
        return verdict.failure, verdict.cancellation

    async def report(
        self,
        failure: Exception,
        cancellation: BaseException | None,
        subscription: Subscription,
    ) -> None:
        """Log a failure and announce it (E1), or go on with publish's cancellation (E5)."""
        failed = HandlerFailure(self._name, subscription.component_name, failure, subscription)
        log_failure(failed)
        if cancellation is not None:
            raise cancellation
        if is_being_cancelled(self._handled):
            await resume_cancellation()
        await self._announce(failed)
        self.failures.append(failed)
