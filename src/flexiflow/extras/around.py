"""Ready-made functions for `around`: a circuit breaker, a deduplicator, a rate limit (A3).

Each is an object that is called around handlers, and keeps its state in memory, for all handlers
that it is around. So to share a state give the same object to several subscriptions, and to keep
states apart give each its own. They use the event loop's clock, and belong to one run of it.
"""

from __future__ import annotations

import reprlib
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, Final, final

import anyio

from flexiflow._arguments import check_int, check_seconds
from flexiflow._callables import check_callable, describe
from flexiflow._errors import FlexiFlowError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from flexiflow._names import Event
    from flexiflow._subscription import Subscription

__all__ = ["CircuitBreaker", "CircuitOpen", "Deduplicator", "RateLimit"]

_RUNNING: Final = False
_HANDLED: Final = True


@final
class CircuitOpen(FlexiFlowError):
    """A circuit breaker did not call a handler, since it had failed too often (A3).

    Args:
        culprit: the handler's name.
        remaining: the seconds until it is tried again; 0 while it is being tried.
    """

    def __init__(self, culprit: str, remaining: float) -> None:
        super().__init__(culprit, remaining)
        self.culprit = culprit
        self.remaining = remaining

    def __str__(self) -> str:
        """Return the message: which handler, and when it is tried again."""
        again = f"in {self.remaining:g} s" if self.remaining else "right now"
        return (
            f"{self.culprit} was not called, since it failed too often; it is tried again {again}"
        )


@final
class CircuitBreaker:
    """Stops calling what keeps failing, so that a service that is down is left in peace.

    After so many failures in a row the circuit is *open*: each call fails with `CircuitOpen`, and
    the handler is not called. After `recovery` seconds one call is let through. If it succeeds, the
    circuit is closed again; if it fails or is cancelled, it stays open for as long again.

    Args:
        failures: how many failures in a row open the circuit, 1 or more.
        recovery: seconds, more than 0.

    Raises:
        ValueError: one of them is out of its range.
    """

    def __init__(self, *, failures: int = 5, recovery: float = 30.0) -> None:
        self._most = check_int("failures", failures, "1 or more failures", least=1)
        check_seconds("recovery", recovery)
        self._recovery = recovery
        self._failures = 0
        self._open_until: float | None = None
        self._is_trying = False

    @property
    def is_open(self) -> bool:
        """Whether it has opened, and no call has succeeded since."""
        return self._open_until is not None

    async def __call__(
        self, event: Event[Any], subscription: Subscription, call: Callable[[], Awaitable[None]]
    ) -> None:
        """Call the handler, unless the circuit is open.

        Raises:
            CircuitOpen: it is open.
            Exception: what the handler raised.
        """
        is_trial = self._open_until is not None
        if self._open_until is not None:
            remaining = self._open_until - anyio.current_time()
            if self._is_trying or remaining > 0:
                raise CircuitOpen(describe(subscription.handler), max(remaining, 0.0))
            self._is_trying = True
        failed = True
        try:
            await call()
            failed = False
        except Exception:
            self._failures += 1
            raise
        finally:
            if is_trial:
                self._is_trying = False
            # A call that began before the circuit opened says nothing about it any more.
            if is_trial or not self.is_open:
                self._note(failed=failed, is_trial=is_trial)

    def _note(self, *, failed: bool, is_trial: bool) -> None:
        if not failed:
            self._failures, self._open_until = 0, None
        elif is_trial or self._failures >= self._most:
            self._open_until = anyio.current_time() + self._recovery


@final
class Deduplicator:
    """Calls a handler once for each key, as long as it remembers the key.

    A key is remembered while its handler runs and after it has succeeded; after a failure it is
    forgotten, so that the event can come again. The keys that were seen last are remembered, and of
    each subscription by itself. A duplicate has succeeded without a call.

    Args:
        key: takes the event, and returns something hashable; None for an event that is always
            handled.
        remember: how many keys are remembered, 1 or more; those that run come on top.

    Raises:
        TypeError: `key` is not a function of one argument.
        ValueError: `remember` is out of its range.
    """

    def __init__(self, key: Callable[[Event[Any]], Hashable], *, remember: int = 10_000) -> None:
        check_callable("key", key, 1)
        self._key = key
        self._remember = check_int("remember", remember, "1 or more keys", least=1)
        self._running: set[tuple[object, Hashable]] = set()
        self._handled: OrderedDict[tuple[object, Hashable], None] = OrderedDict()

    async def __call__(
        self, event: Event[Any], subscription: Subscription, call: Callable[[], Awaitable[None]]
    ) -> None:
        """Call the handler, unless it was called for the event's key.

        Raises:
            TypeError: the key is not hashable.
            Exception: what `key` or the handler raised.
        """
        given = self._key(event)
        if given is None:
            await call()
            return
        key = (subscription, given)
        if key in self._handled:
            self._handled.move_to_end(key)
        elif key not in self._running:
            self._running.add(key)
            try:
                await call()
            finally:
                self._running.discard(key)
            self._handled[key] = None
            if len(self._handled) > self._remember:
                self._handled.popitem(last=False)


@final
class RateLimit:
    """Lets so many calls begin in any period; further ones wait, first come first served.

    Args:
        calls: how many calls, 1 or more.
        period: seconds, more than 0 and finite.

    Raises:
        ValueError: one of them is out of its range.
    """

    def __init__(self, calls: int, period: float) -> None:
        check_int("calls", calls, "1 or more calls", least=1)
        check_seconds("period", period)
        if period == float("inf"):
            raise ValueError(f"period must be finite, not {reprlib.repr(period)}")
        self._period = period
        # When the last calls began, as many as may begin in a period.
        self._begun: deque[float] = deque(maxlen=calls)
        self._line = anyio.Lock()

    async def __call__(
        self, event: Event[Any], subscription: Subscription, call: Callable[[], Awaitable[None]]
    ) -> None:
        """Wait until a call may begin, then call the handler.

        Raises:
            Exception: what the handler raised.
        """
        async with self._line:
            if len(self._begun) == self._begun.maxlen:
                await anyio.sleep_until(self._begun[0] + self._period)
            self._begun.append(anyio.current_time())
        await call()
