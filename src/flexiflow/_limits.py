"""The limits of a subscription: how long its handler may run, and how many calls at once (V1, V2).

A limited call takes a turn with the subscription's `Limiter`. That is a `Line`, as a mailbox is, so
a deadlock is found even where it leads through calls and messages (`_turns`).
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING, final

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from flexiflow._callables import describe
from flexiflow._cancellation import cancel_requests, contexts, effectively_cancelled, split
from flexiflow._errors import HandlerTimeout, LimitDeadlock
from flexiflow._turns import Turn, live_turns, never_comes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@final
class Limiter:
    """The slots for the calls of one handler, given out first come first served.

    When several calls get a slot in the same step, the scheduler decides which one runs first.

    Args:
        limit: how many calls may run at once, at least 1.

    Attributes:
        holders: the running calls.
    """

    __slots__ = ("_waiting", "holders", "limit")

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self.holders: set[Turn] = set()
        self._waiting: OrderedDict[Turn, None] = OrderedDict()

    async def take(self, function: Callable[..., object]) -> LimitedTurn:
        """Wait for a slot, and return a context manager to call the function in.

        The place in line is taken at once; there is no checkpoint if a slot is free.

        Args:
            function: the handler, for the message of an error.

        Raises:
            LimitDeadlock: this was called from within a running call, or would wait for ever.
        """
        call = self.join()
        at_once = call in self.holders
        if not await call.wait_granted():
            raise LimitDeadlock(describe(function), self.limit)
        if not at_once:
            # The task may have been cancelled in the very step that gave it the slot (E3).
            try:
                await checkpoint_if_cancelled()
            except BaseException:
                call.end()
                raise
        return call

    def join(self) -> LimitedTurn:
        """Take a slot or a place in line at once; neither for a call that would wait for itself."""
        call = LimitedTurn()
        call.line = self
        enclosing = frozenset(live_turns())
        is_full = len(self.holders) >= self.limit
        # A call from within a running call is refused even while slots are free: it would wait for
        # itself whenever other calls hold them.
        if not enclosing.isdisjoint(self.holders) or (is_full and never_comes(self, enclosing)):
            call.would_deadlock = True
        elif is_full:
            call.enclosing = enclosing
            self._waiting[call] = None
            call.begin_waiting()
        else:
            self.holders.add(call)
        return call

    @property
    def waiting(self) -> int:
        """How many calls wait for a slot."""
        return len(self._waiting)

    def withdraw(self, turn: Turn) -> None:
        """Give up a place in line, or the slot, which then passes to the next in line."""
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
    """The turn of one call of a limited handler; leaving it as a context manager ends it."""

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        self.end()


async def await_within(awaitable: Awaitable[object], time_limit: float, culprit: str) -> object:
    """Await what a handler returned, and cancel it when its time is over; return the result.

    Args:
        awaitable: what the handler returned.
        time_limit: how many seconds it may take.
        culprit: the handler's name.

    Raises:
        HandlerTimeout: the time was over before the handler had ended, however it ended then. If
            it raised an exception in its cleanup, that is the cause. What it had been handling when
            it was cancelled is the context (R8).
        BaseException: what left the handler in time; and, at any time, a cancellation from outside,
            KeyboardInterrupt and the like, which are no failures.
    """
    deadline = anyio.current_time() + time_limit
    failure: BaseException | None = None
    earlier: BaseException | None = None
    result: object = None
    try:
        try:
            with anyio.CancelScope(deadline=deadline):
                try:
                    result = await awaitable
                except BaseException as exc:
                    # The scope may swallow it, and with it what had failed before (R8).
                    earlier = _failed_before(exc)
                    raise
        except BaseException as exc:
            failure = split(exc)[1]
            if anyio.current_time() < deadline or not _is_to_blame(failure):
                raise
        # Not within the `except`: the timeout's context must not be the scope's own cancellation.
        if anyio.current_time() >= deadline:
            timeout = HandlerTimeout(culprit, time_limit)
            timeout.__cause__ = failure
            try:
                raise timeout
            finally:
                if earlier is not None:
                    timeout.__context__ = earlier
                del timeout
        return result
    finally:
        del failure, earlier  # their tracebacks hold this frame (B6)


def _failed_before(exception: BaseException) -> BaseException | None:
    """Return what was being handled when an exception was raised, cancellations left out."""
    before = islice(contexts(exception), 1, None)
    return next((each for each in before if split(each)[0] is None), None)


def _is_to_blame(failure: BaseException | None) -> bool:
    """Return whether what left a handler after its deadline counts as its timeout.

    A cancellation from outside does not, nor do KeyboardInterrupt and the like.

    Args:
        failure: what left it, without cancellations; None if there was nothing else.
    """
    if failure is None:
        return not effectively_cancelled() and cancel_requests() == 0
    return isinstance(failure, Exception)
