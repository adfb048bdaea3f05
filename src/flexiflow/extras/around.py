"""Ready-made functions for `around`: a circuit breaker, a deduplicator, a rate limit (A3).

Each object keeps its state in memory. Subscriptions that are given the same object share its
state; give each subscription an object of its own to keep their states apart. Like a bus, these
objects are bound to no event loop.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, final
from weakref import WeakKeyDictionary

import anyio

from flexiflow._arguments import check_count, check_seconds
from flexiflow._callables import check_callable, describe, is_coroutine_callable
from flexiflow._errors import FlexiFlowError
from flexiflow._limits import Limiter
from flexiflow._turns import live_turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from flexiflow._names import Event
    from flexiflow._subscription import Subscription

__all__ = ["CircuitBreaker", "CircuitOpen", "Deduplicator", "RateLimiter"]


@final
class CircuitOpen(FlexiFlowError):
    """A circuit breaker did not call a handler, since too many calls had failed (A3).

    Args:
        culprit: the handler's name; if handlers share the breaker, others may have failed.
        remaining: the seconds until a trial call; 0 while one runs.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.extras.around import CircuitBreaker, CircuitOpen
        >>> async def main():
        ...     bus = EventBus()
        ...     breaker = CircuitBreaker(max_failures=1)
        ...     await bus.subscribe("order.placed", "billing", lambda _: 1 / 0, around=[breaker])
        ...     for order in ("A7", "A8"):
        ...         [failure] = await bus.publish("order.placed", order)
        ...         print(isinstance(failure.exception, CircuitOpen))
        >>> anyio.run(main)
        False
        True
    """

    def __init__(self, culprit: str, remaining: float) -> None:
        super().__init__(culprit, remaining)
        self.culprit = culprit
        self.remaining = remaining

    def __str__(self) -> str:
        """Return the message: which handler, and when it is tried again."""
        trial = f"comes in {self.remaining:g} s" if self.remaining else "runs now"
        return (
            f"{self.culprit} was not called, since its circuit breaker is open after too many "
            f"failures; a trial call {trial}"
        )


@final
class CircuitBreaker:
    """Stops calling a handler that keeps failing, so that a service that is down can recover.

    After `max_failures` failures in a row the circuit is *open*: each call fails with
    `CircuitOpen`, and the handler is not called. After `reset_timeout` seconds it is *half-open*:
    one call is let through, as a trial. If the trial succeeds, the circuit is closed again; if it
    fails or is cancelled, the circuit stays open for as long again.

    Args:
        max_failures: how many failures in a row open the circuit, 1 or more.
        reset_timeout: seconds, more than 0.

    Raises:
        ValueError: one of them is out of its range.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.extras.around import CircuitBreaker
        >>> async def main():
        ...     bus = EventBus()
        ...     breaker = CircuitBreaker(max_failures=1)
        ...     await bus.subscribe("order.placed", "billing", lambda _: 1 / 0, around=[breaker])
        ...     for order in ("A7", "A8"):
        ...         [failure] = await bus.publish("order.placed", order)
        ...         print(type(failure.exception).__name__)
        >>> anyio.run(main)
        ZeroDivisionError
        CircuitOpen
    """

    def __init__(self, *, max_failures: int = 5, reset_timeout: float = 30.0) -> None:
        check_count("max_failures", max_failures)
        check_seconds("reset_timeout", reset_timeout)
        self._max_failures = max_failures
        self._reset_timeout = reset_timeout
        self._failures = 0
        self._opened_at: float | None = None
        self._is_trying = False

    @property
    def is_open(self) -> bool:
        """Whether the circuit is open or half-open; then no call has succeeded since it opened."""
        return self._opened_at is not None

    async def __call__(
        self, event: Event[Any], subscription: Subscription, call: Callable[[], Awaitable[None]]
    ) -> None:
        """Call the handler, unless the circuit is open.

        Raises:
            CircuitOpen: it is open.
            Exception: what the handler raised.
        """
        is_trial = self._opened_at is not None
        if self._opened_at is not None:
            remaining = self._remaining(self._opened_at)
            if self._is_trying or remaining:
                raise CircuitOpen(describe(subscription.handler), remaining)
            self._is_trying = True
        # A call that began before the circuit opened changes nothing until it is closed again.
        try:
            await call()
        except BaseException as exc:
            self._note_failure(exc, is_trial=is_trial)
            raise
        if is_trial or not self.is_open:
            self._failures, self._opened_at, self._is_trying = 0, None, False

    def _note_failure(self, exception: BaseException, *, is_trial: bool) -> None:
        if is_trial and isinstance(exception, GeneratorExit):
            # Perhaps no event loop is left, whose clock could be asked.
            self._is_trying = False
        elif is_trial:
            self._open()
        elif not self.is_open and isinstance(exception, Exception):
            self._failures += 1
            if self._failures >= self._max_failures:
                self._open()

    def _open(self) -> None:
        self._is_trying = False
        self._opened_at = anyio.current_time()

    def _remaining(self, opened_at: float) -> float:
        """Return how many seconds are left until a trial; 0 if another run's clock shows less."""
        elapsed = anyio.current_time() - opened_at
        return self._reset_timeout - elapsed if 0 <= elapsed < self._reset_timeout else 0.0


@final
class Deduplicator:
    """Calls a handler once for each key, as long as it remembers the key.

    A key is remembered when its handler has succeeded; a duplicate then succeeds without a call. A
    duplicate that comes while the handler runs waits for it, and calls the handler itself if that
    call fails or is cancelled.

    A duplicate from within the handler's own call can't wait for it, so it succeeds at once. If two
    calls would wait for each other, because each publishes the other's key, one of them fails with
    `LimitDeadlock`.

    Args:
        key: takes the event, and returns something hashable; None for an event that is always
            handled.
        max_keys: how many keys are remembered for each subscription, 1 or more: those that were
            seen last. Choose more than can be handled at once.

    Raises:
        TypeError: `key` is not a plain function of one argument.
        ValueError: `max_keys` is out of its range.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.extras.around import Deduplicator
        >>> async def main():
        ...     bus = EventBus()
        ...     once = Deduplicator(key=lambda event: event.data)
        ...     await bus.subscribe("order.placed", "billing", print, around=[once])
        ...     for order in ("A7", "A7", "A8"):
        ...         await bus.publish("order.placed", order)
        >>> anyio.run(main)
        A7
        A8
    """

    def __init__(self, key: Callable[[Event[Any]], Hashable], *, max_keys: int = 10_000) -> None:
        check_callable("key", key, 1)
        if is_coroutine_callable(key):
            raise TypeError(f"key must be a plain function, but {describe(key)} is async")
        self._key = key
        self._max_keys = check_count("max_keys", max_keys)
        # Weak, so that a subscription that was removed is freed (B6).
        self._keys: WeakKeyDictionary[Subscription, _Keys] = WeakKeyDictionary()

    async def __call__(
        self, event: Event[Any], subscription: Subscription, call: Callable[[], Awaitable[None]]
    ) -> None:
        """Call the handler, unless it has succeeded for the event's key.

        Raises:
            TypeError: the key is not hashable.
            LimitDeadlock: another call for the key would wait for this one.
            Exception: what `key` or the handler raised.
        """
        key = self._key(event)
        if key is None:
            await call()
            return
        keys = self._keys.get(subscription)
        if keys is None:
            keys = self._keys[subscription] = _Keys()
        line = keys.running.setdefault(key, Limiter(1))
        if not line.holders.isdisjoint(live_turns()):
            return
        try:
            with await line.take(subscription.handler):
                if key not in keys.handled:
                    await call()
                keys.remember(key, self._max_keys)
        finally:
            if not line.holders:
                del keys.running[key]


@final
class _Keys:
    """The keys of one subscription.

    Attributes:
        running: a line for each key whose handler runs: one call at a time, the others wait.
        handled: the keys whose handler has succeeded, those that were seen last at the end.
    """

    def __init__(self) -> None:
        self.running: dict[Hashable, Limiter] = {}
        self.handled: OrderedDict[Hashable, None] = OrderedDict()

    def remember(self, key: Hashable, most: int) -> None:
        self.handled[key] = None
        self.handled.move_to_end(key)
        if len(self.handled) > most:
            self.handled.popitem(last=False)


@final
class RateLimiter:
    """Bounds how many calls begin within a period; further calls wait, first come first served.

    Args:
        calls: how many calls, 1 or more.
        period: seconds, more than 0 and finite.

    Raises:
        ValueError: one of them is out of its range.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.extras.around import RateLimiter
        >>> async def main():
        ...     bus = EventBus()
        ...     slowly = RateLimiter(calls=1, period=0.01)
        ...     await bus.subscribe("mail.due", "mail", print, around=[slowly])
        ...     for order in ("A7", "A8"):
        ...         await bus.publish("mail.due", order)
        >>> anyio.run(main)
        A7
        A8
    """

    def __init__(self, calls: int, period: float) -> None:
        check_count("calls", calls)
        check_seconds("period", period)
        if math.isinf(period):
            raise ValueError("period must be finite, not inf")
        self._period = period
        # When the last calls began, as many as may begin in a period.
        self._begun: deque[float] = deque(maxlen=calls)
        self._line = Limiter(1)

    async def __call__(
        self, event: Event[Any], subscription: Subscription, call: Callable[[], Awaitable[None]]
    ) -> None:
        """Wait until a call may begin, then call the handler.

        Raises:
            Exception: what the handler raised.
        """
        with await self._line.take(subscription.handler):
            if self._begun and self._begun[-1] > anyio.current_time():
                # These are times of an earlier run, whose clock showed more.
                self._begun.clear()
            if len(self._begun) == self._begun.maxlen:
                await anyio.sleep_until(self._begun[0] + self._period)
            self._begun.append(anyio.current_time())
        await call()
