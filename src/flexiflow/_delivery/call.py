"""Calling a handler that has terms or is watched by instruments (V1, V2, I2).

The steps: wait for a slot (V2); check whether the handler is to start (B5, B8, B9); enter the
instruments (I2); call the handler and await it within its time limit (V1); exit the instruments.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final, final

from flexiflow._callables import describe
from flexiflow._delivery.verdict import judge
from flexiflow._instruments import HANDLING, enter, leave
from flexiflow._limits import await_within
from flexiflow._subscription import Terms, admits

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow._instruments import Entered, Installed
    from flexiflow._subscription import Subscription
    from flexiflow._topic import Event

_NO_TERMS = Terms()

NOT_STARTED: Final = object()
"""The result of a call whose handler was not to start."""


@final
class HandlerCall:
    """Calls the handlers of one publish, if some have terms or instruments watch handlers.

    Args:
        event: what is published.
        instruments: those that watch handlers, the outermost first.
    """

    __slots__ = ("_event", "_instruments")

    def __init__(self, event: Event[Any], instruments: tuple[Installed, ...]) -> None:
        self._event = event
        self._instruments = instruments

    async def __call__(self, subscription: Subscription, cancelled: Callable[[], bool]) -> object:
        """Call the handler, if it is to start; what leaves it leaves this too.

        Args:
            subscription: the handler's subscription.
            cancelled: returns whether publish is being cancelled (E6).

        Returns:
            The handler's result, or `NOT_STARTED`.
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
