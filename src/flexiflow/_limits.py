"""What a subscription's handler is held to: so many calls at once, and so much time (V1, V2)."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, final

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from flexiflow._callables import describe
from flexiflow._cancellation import cancel_requests, effectively_cancelled, split
from flexiflow._errors import HandlerTimeout, LimitDeadlock
from flexiflow._mailbox import Turn, live_turns, never_comes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@final
class Limiter:
    """Lets so many calls of a handler run at once, first come first served.

    Of those who get a slot in the same step, the scheduler chooses who goes on first.

    Args:
        limit: how many, at least 1.

    Attributes:
        holders: the calls that run.
    """

    __slots__ = ("_waiting", "holders", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.holders: set[Turn] = set()
        self._waiting: OrderedDict[Turn, None] = OrderedDict()

    async def take(self, function: Callable[..., object]) -> LimitedTurn:
        """Wait for a slot; the call then is the context manager to call the function in.

        It takes its place in line at once, and waits only where there is no slot.

        Raises:
            LimitDeadlock: it came from within a call that runs, or would wait for ever.
        """
        call = self.join()
        at_once = call in self.holders
        if not await call.granted():
            raise LimitDeadlock(describe(function), self.limit)
        if not at_once:
            # Whoever waited may have been cancelled in the very step in which the slot came (E3).
            try:
                await checkpoint_if_cancelled()
            except BaseException:
                call.end()
                raise
        return call

    def join(self) -> LimitedTurn:
        """Take a slot or a place in line, at once, but for one who would wait for itself."""
        call = LimitedTurn()
        call.limiter = self
        enclosing = frozenset(live_turns())
        is_full = len(self.holders) >= self.limit
        # Within a call of its own it would wait for itself sooner or later, whoever else calls.
        if not enclosing.isdisjoint(self.holders) or (is_full and never_comes(self, enclosing)):
            call.would_deadlock = True
        elif is_full:
            call.enclosing = enclosing
            self._waiting[call] = None
            call.begin_waiting()
        else:
            self.holders.add(call)
        return call

    def withdraw(self, turn: Turn) -> None:
        """Give up a place in line, or the slot, which passes to the next in line."""
        if turn not in self.holders:
            self._waiting.pop(turn, None)
            return
        self.holders.remove(turn)
        if self._waiting:
            successor, _ = self._waiting.popitem(last=False)
            self.holders.add(successor)
            successor.end_waiting()


@final
class LimitedTurn(Turn):
    """The turn of one call of a handler that is limited; it ends when it is left."""

    limiter: Limiter

    @property
    def line(self) -> Limiter:
        """What it is limited by."""
        return self.limiter

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        self.end()


async def in_time(awaitable: Awaitable[object], time_limit: float, culprit: str) -> None:
    """Await what a handler has given, and cancel it when its time is over.

    Args:
        awaitable: what the handler has given.
        time_limit: the seconds that it has.
        culprit: the handler's name.

    Raises:
        HandlerTimeout: the time was over before the handler was, whatever became of it then; an
            exception in its cleanup is the cause.
        BaseException: what leaves the handler in time, and what is no failure: a cancellation
            from outside, KeyboardInterrupt and the like.
    """
    deadline = anyio.current_time() + time_limit
    failure: BaseException | None = None
    try:
        try:
            with anyio.CancelScope(deadline=deadline):
                await awaitable
        except BaseException as exc:
            failure = split(exc)[1]
            if anyio.current_time() < deadline or not _is_to_blame(failure):
                raise
        # Not within the `except`: what leaves is not to tell of a cancellation that nobody sees.
        if anyio.current_time() >= deadline:
            raise HandlerTimeout(culprit, time_limit) from failure
    finally:
        del failure  # its traceback holds this frame (B6)


def _is_to_blame(failure: BaseException | None) -> bool:
    """Tell whether a handler is, whose time is over, given what left it but for cancellations."""
    if failure is None:
        return not effectively_cancelled() and cancel_requests() == 0
    return isinstance(failure, Exception)
