"""Expectations: waiting for one event without a race (S1, S4).

The subscription is there before the block's first line runs, so an event that is caused within the
block can't be missed.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Generic, Self, final

import anyio

from flexiflow._cancellation import is_being_cancelled
from flexiflow._names import T
from flexiflow._receiver import NAMES, Block
from flexiflow._reporting import log_failure
from flexiflow._subscription import HandlerFailure, is_true
from flexiflow._text import show

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType

    from flexiflow._names import Event
    from flexiflow._reporting import Announce
    from flexiflow._subscription import Filter, Handler, Subscription


@final
class Expectation(Generic[T]):
    """The first event published within the block that its filter accepts (S4).

    Made by `EventBus.expect`. An async context manager, to be entered once; inside, any number of
    tasks may await it, and each gets that event.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> async def main():
        ...     bus = EventBus()
        ...     async with bus.expect("order.paid", filter=lambda _, order: order == "A7") as paid:
        ...         for order in ("A6", "A7"):
        ...             await bus.publish("order.paid", order)
        ...         print((await paid).data)
        >>> anyio.run(main)
        A7
    """

    __slots__ = (
        "_announce",
        "_block",
        "_event",
        "_failure",
        "_filter",
        "_has_outcome",
        "_is_raised",
        "_name",
        "_settled",
        "_waiting",
    )

    def __init__(
        self,
        name: str,
        filter: Filter | None,
        subscribe: Callable[[Handler], Subscription],
        announce: Announce,
    ) -> None:
        self._name = name
        self._filter = filter
        self._announce = announce
        self._block = Block(f"the expectation of {show(name)}", subscribe)
        # What settles it: the event that the filter accepts, or on which it fails.
        self._event: Event[T]
        self._failure: Exception | None = None
        self._has_outcome = self._is_raised = False
        self._waiting = 0

    def __repr__(self) -> str:
        """Show what is expected, the state of the block, and what has come."""
        come = f": {show(self._event.name)} has come" if self._has_outcome else ""
        return f"<Expectation of {show(self._name)}, {NAMES[self._block.state]}{come}>"

    async def __aenter__(self) -> Self:
        """Subscribe, without a checkpoint: from here on no event is missed (S1).

        Raises:
            ReceiverClosed: the block was entered before.
        """
        self._block.enter(self._notice)
        self._settled = anyio.Event()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Unsubscribe; report a failure of the filter that was raised to no waiter (E4)."""
        subscription = self._block.leave()
        self._settled.set()
        if subscription is not None and self._failure is not None and not self._is_raised:
            # The failure is reported now, so a waiter that has not run since it came must not get
            # it too (E4).
            self._has_outcome = False
            failed = HandlerFailure(
                self._event.name, subscription.component_name, self._failure, subscription
            )
            self._failure = None
            log_failure(failed)
            # As in E1: a task that cleans up after a cancellation is not being cancelled.
            handled = sys.exception() if exc is None else exc.__context__
            if not is_being_cancelled(handled):
                await self._announce(failed)
        self._forget_failure()

    def __await__(self) -> Generator[Any, None, Event[T]]:
        """Wait for the event; a checkpoint.

        Raises:
            ReceiverClosed: the block was not entered, or ends before the event comes.
            Exception: what the filter raised (S4).
        """
        return self._wait().__await__()

    async def _wait(self) -> Event[T]:
        self._block.check()
        self._waiting += 1
        try:
            await self._settled.wait()
            # Leaving the block wakes waiters too; an event that came before still counts.
            if not self._has_outcome:
                self._block.check()
            if self._failure is not None:
                self._is_raised = True
                raise self._failure
            return self._event
        finally:
            self._waiting -= 1
            self._forget_failure()

    def _forget_failure(self) -> None:
        """Drop the failure once nobody can wait any more: its traceback holds this object (B6)."""
        if self._block.is_over and not self._waiting:
            self._failure = None

    def _notice(self, event: Event[T]) -> None:
        """Check an event, as the subscription's handler, and settle if it is the expected one."""
        accepts = self._filter
        try:
            if accepts is not None and not is_true(accepts(*event), accepts):
                return
        except Exception as exc:
            if self._settled.is_set():
                raise
            # It is raised to the waiter, not to the publisher.
            self._failure = exc
        # The filter itself may have published the expected event.
        if not self._settled.is_set():
            self._event, self._has_outcome = event, True
            self._block.unsubscribe()
            self._settled.set()
