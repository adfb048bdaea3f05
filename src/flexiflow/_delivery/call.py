"""Calling a handler that has terms, is watched, or has functions around it (V1, V2, I2, A3).

The steps: wait for a slot (V2); check whether the handler is to start (B5, B8, B9); enter the
instruments (I2); go through the functions around the handler (A3); call the handler and await it
within its time limit (V1); exit the instruments.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

from flexiflow._callables import describe
from flexiflow._delivery.around import call_inside
from flexiflow._delivery.verdict import judge
from flexiflow._instruments import HANDLING, enter, leave
from flexiflow._limits import await_within
from flexiflow._subscription import Terms, admits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flexiflow._instruments import Entered, Installed
    from flexiflow._names import Event
    from flexiflow._subscription import Around, Subscription

CallHandler: TypeAlias = "Callable[[Subscription, Callable[[], bool]], Awaitable[object]]"
"""Calls the handler of a subscription; `HandlerCall.start`."""

_NO_TERMS = Terms()

NOT_STARTED: Final = object()
"""The result of a call whose handler was not to start."""


@final
class HandlerCall:
    """Calls the handlers of one publish that have terms, are watched, or have functions around.

    Args:
        event: what is published.
        instruments: those that watch handlers, the outermost first.
        around: the bus's own functions around handlers; None where there are to be none, not even
            those of subscriptions (A3).
    """

    __slots__ = ("_around", "_event", "_instruments")

    def __init__(
        self,
        event: Event[Any],
        instruments: tuple[Installed, ...],
        around: tuple[Around, ...] | None,
    ) -> None:
        self._event = event
        self._instruments = instruments
        self._around = around

    async def start(self, subscription: Subscription, cancelled: Callable[[], bool]) -> object:
        """Call the handler, if it is to start; the exceptions that leave it pass through.

        Args:
            subscription: the handler's subscription.
            cancelled: returns whether publish is being cancelled (E6).

        Returns:
            The handler's result, or `NOT_STARTED`. With functions around the handler, the result is
            that of the first one.
        """
        terms = subscription._terms or _NO_TERMS
        if terms.limiter is None:
            return await self._start(subscription, terms, cancelled)
        if not subscription.active:
            return NOT_STARTED
        with await terms.limiter.take(subscription.handler):
            return await self._start(subscription, terms, cancelled)

    async def _start(
        self, subscription: Subscription, terms: Terms, cancelled: Callable[[], bool]
    ) -> object:
        event = self._event
        # `admits` spends a `once`. So what may skip the handler comes before it, and what counts
        # a start comes after it.
        if not admits(subscription, event.name, event.data):
            return NOT_STARTED
        if not self._instruments:
            return await self._run(subscription, terms)
        result: object = NOT_STARTED
        entered = enter(self._instruments, event, subscription)
        try:
            # An instrument may have unsubscribed it (B5); with `once` that was done before.
            if subscription.active or subscription.once:
                result = await self._run(subscription, terms)
        except BaseException as exc:
            instead = _leave_failed(entered, exc, subscription, cancelled)
            if instead:
                raise instead.pop()
            raise
        leave(entered, None, HANDLING)
        return result

    async def _run(self, subscription: Subscription, terms: Terms) -> object:
        if self._around is not None and not terms.takes_event:
            functions = self._around + terms.around
            if functions:
                return await call_inside(functions, self._event, subscription)
        handler: Callable[[Any], object] = subscription.handler
        result = handler(self._event if terms.takes_event else self._event.data)
        if result is None or not isawaitable(result):
            return result
        if terms.time_limit is None:
            return await result
        return await await_within(result, terms.time_limit, describe(handler))


def _leave_failed(
    entered: Entered,
    exception: BaseException,
    subscription: Subscription,
    cancelled: Callable[[], bool],
) -> list[Exception]:
    """Exit the instruments with what left a handler, as it was judged (I2).

    Returns:
        The exception to raise in place of `exception`, such as `HandlerCancelled`, or nothing. A
        list, so that the caller can take it out: its traceback will hold the caller's frame (B6).
    """
    verdict = judge(exception, subscription.handler, cancelled=cancelled)
    try:
        if verdict.failure is None:
            leave(entered, verdict.leaving, HANDLING)
            return []
        leave(entered, verdict.failure, HANDLING)
        is_new = verdict.failure is not exception and verdict.cancellation is None
        return [verdict.failure] if is_new else []
    finally:
        del exception, verdict  # raised again by an instrument, it would hold this frame (B6)
