"""Publishing in the background: the publisher goes on while the handlers run (B15).

Workers take the events from the buffer, in order, and publish them, each in a copy of its
publisher's context (`InContext`). A worker that has taken an event wakes or starts the next worker
before it publishes. So handlers that never wait are run by one worker, which spares a task for each
event; and events begin in order on trio too, whose scheduler starts tasks in random order. If the
buffer is full and `overflow` is "block", publishers wait in `_blocked`, with their events.

**Who waits for whom.** The publisher does not wait for the publish, so the turns and announcements
that it runs in are left behind. The task that opened the block waits for it as it leaves the block,
and so does all that this task runs in. So a publish has the turns and announcements of that task
(`copy_context_within`), and its mark as a `Publisher` leads to `_opener`, which names that task
while it waits. A handler that finds its own background among those marks gets `StreamDeadlock`
rather than wait for room.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final, Self, final, overload

import anyio
from anyio.lowlevel import (
    cancel_shielded_checkpoint,
    checkpoint,
    checkpoint_if_cancelled,
)

from flexiflow._cancellation import (
    absorb_native_cancel,
    cancel_counter,
    effectively_cancelled,
)
from flexiflow._contexts import InContext, copy_context_within
from flexiflow._errors import BufferFull, PublishRefused, ReceiverClosed, StreamDeadlock
from flexiflow._names import check_is_event
from flexiflow._objects import Fixed, Record
from flexiflow._receiver import NAMES, Publisher, enclosing_publishes, reconsider_streams
from flexiflow._reporting import logger
from flexiflow._tasks import TaskBlock
from flexiflow._text import show

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextvars import Context
    from types import TracebackType

    from flexiflow._dispatcher import Dispatcher
    from flexiflow._names import T, Topic
    from flexiflow._stream import Overflow

_TITLE: Final = "the background"
_NEW: Final = "was not entered"
_OPEN: Final = "is open"
_OVER: Final = "has ended"


@final
class BackgroundStatistics(Record, Fixed):
    """What became of the events of a background so far (B15).

    Attributes:
        ended: how many publishes have ended and were not cancelled; one that an instrument refused
            or that a handler interrupted counts.
        running: how many publishes run.
        waiting: how many events wait to be published.
        dropped: how many events the overflow policy dropped.
        cancelled: how many publishes were cancelled.
        abandoned: how many events waited to be published as the block was left by an exception or
            a cancellation.
        blocked_publishers: how many publishers wait for room; their events are in none of the
            other counts.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> async def main():
        ...     async with EventBus().background(limit=10) as background:
        ...         await background.publish("mail.due", "A7")
        ...     statistics = background.statistics()
        ...     print(statistics.ended, statistics.waiting)
        >>> anyio.run(main)
        1 0
    """

    __slots__ = __match_args__ = (
        "ended",
        "running",
        "waiting",
        "dropped",
        "cancelled",
        "abandoned",
        "blocked_publishers",
    )

    ended: int
    running: int
    waiting: int
    dropped: int
    cancelled: int
    abandoned: int
    blocked_publishers: int


class _Item:
    """An event that is to be published, in a context."""

    __slots__ = ("context", "data", "event")

    def __init__(self, context: Context, event: str, data: Any) -> None:
        self.context = context
        self.event = event
        self.data = data


@final
class Background:
    """Publishes events while their publishers go on; made by `EventBus.background` (B15).

    An async context manager, to be entered once. Leaving the block waits until all publishes have
    ended. If an exception or a cancellation leaves the block, its publishes are cancelled, and
    events whose publish has not begun are abandoned, counted and logged.

    A limited handler that opens a block can't be called from within the block: it would wait for
    the task that opened it (`LimitDeadlock`, V2). Indirect waits are not detected: two backgrounds
    whose handlers publish to each other can fill up and wait for ever.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> async def main():
        ...     bus = EventBus()
        ...     await bus.subscribe("mail.due", "mail", print)
        ...     async with bus.background(limit=10) as background:
        ...         await background.publish("mail.due", "mail for A7")
        ...         print("the publisher goes on")
        >>> anyio.run(main)
        the publisher goes on
        mail for A7
    """

    __slots__ = (
        "_blocked",
        "_counts",
        "_dispatcher",
        "_finished",
        "_idle",
        "_is_leaving",
        "_is_starting",
        "_limit",
        "_opener",
        "_overflow",
        "_publish",
        "_running",
        "_size",
        "_state",
        "_tasks",
        "_until_yield",
        "_waiting",
    )

    def __init__(
        self,
        dispatcher: Dispatcher,
        publish: Callable[..., Awaitable[object]],
        *,
        limit: int,
        buffer: int,
        overflow: Overflow,
    ) -> None:
        self._dispatcher = dispatcher
        self._publish = publish
        self._limit = limit
        self._size = buffer
        self._overflow: Overflow = overflow
        self._state = _NEW
        self._waiting: deque[_Item] = deque()
        # The publishers that wait for room, in order; each is woken when its event has a place, and
        # all when the block is left.
        self._blocked: dict[anyio.Event, _Item] = {}
        self._running = 0
        # The workers that wait for events.
        self._idle: dict[anyio.Event, None] = {}
        self._is_leaving = False
        # Whether a worker was woken or started that has not taken an event yet.
        self._is_starting = False
        self._counts: Counter[str] = Counter()
        self._until_yield = dispatcher.yield_every
        self._finished = anyio.Event()
        self._tasks = TaskBlock()
        # The mark of the wait for the publishes.
        self._opener: Publisher

    async def __aenter__(self) -> Self:
        """Accept events from now on; without a checkpoint.

        Raises:
            ReceiverClosed: the block was entered before.
        """
        if self._state != _NEW:
            raise ReceiverClosed(_TITLE, "was entered before")
        await self._tasks.open()
        self._state = _OPEN
        self._opener = Publisher(None, Publisher.current())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Wait until all publishes have ended; after an exception, cancel them first.

        Raises:
            ReceiverClosed: the block was not entered.
            BaseException: KeyboardInterrupt or the like, which a handler raised.
        """
        self._begin_waiting()
        leaving = exc
        if exc is None:
            try:
                await self._finish()
            except BaseException as interrupted:  # noqa: BLE001  raised below
                leaving = interrupted
        if leaving is not None:
            self._tasks.cancel()
        # From here on nothing is accepted: the task group may be over at any time.
        self._abandon()
        self._dismiss()
        try:
            return await self._tasks.close(exc, leaving)
        finally:
            del exc, traceback, leaving  # their tracebacks hold this frame (B6)

    def _begin_waiting(self) -> None:
        """Note that the current task waits for the publishes, which may not wait for it now.

        Raises:
            ReceiverClosed: the block was not entered.
        """
        if self._state == _NEW:
            raise ReceiverClosed(_TITLE, _NEW)
        self._opener.task = anyio.get_current_task().coro
        reconsider_streams()

    def _dismiss(self) -> None:
        """End the workers that have nothing to do."""
        self._is_leaving = True
        for woken in self._idle:
            woken.set()
        self._idle.clear()

    async def _finish(self) -> None:
        """Wait until nothing runs or waits."""
        while self._running or self._waiting:
            self._finished = anyio.Event()
            await self._finished.wait()

    @overload
    async def publish(self, event: Topic[None], data: None = None) -> None: ...

    @overload
    async def publish(self, event: Topic[T], data: T) -> None: ...

    @overload
    async def publish(self, event: str, data: Any = None) -> None: ...

    async def publish(self, event: Any, data: Any = None) -> None:
        """Wait until the event has its place; it is published later, in order of these calls.

        At least one in `yield_every` of these calls is a checkpoint (D6). The subscriptions are
        those at the time when the publish begins (B5). Its failures are logged and published as
        `event.handler.failed` (E1). A refusal by an instrument is logged. The handlers run in a
        copy of this call's context. But their turns, limits and announcements are those of the
        task that opened the block, since that task waits for them.

        Args:
            event: a name without wildcards.
            data: the payload; each handler gets this very object.

        Raises:
            ReceiverClosed: the block is not entered.
            ValueError: a malformed name, or a pattern (B3).
            TypeError: a name that is not a str, or a `Query` (B3).
            BufferFull: there is no room, and `overflow` is "error".
            StreamDeadlock: there is no room, and this is called from within a handler of such a
                publish, which would wait for itself.
        """
        self._until_yield -= 1
        must_yield = self._until_yield <= 0
        if must_yield:
            self._until_yield = self._dispatcher.yield_every
            # A call that is refused is one, too.
            await (checkpoint_if_cancelled if self._state == _OPEN else checkpoint)()
        self._check_open()
        check_is_event(event, "ask it with bus.ask")
        name = self._dispatcher.registry.resolve(event).name
        item = _Item(copy_context_within(self._tasks.context), name, data)
        is_refused = False
        if self._has_room:
            self._waiting.append(item)
            self._start()
        elif self._overflow != "block":
            is_refused = self._drop_for(item)
        elif any(each.background is self for each in enclosing_publishes()):
            is_refused = True
        else:
            await self._wait_for_room(item)
        if must_yield:
            # The rest of the checkpoint: the event has its place, so this is not cancelled.
            await cancel_shielded_checkpoint()
        if is_refused:
            refusal = StreamDeadlock if self._overflow == "block" else BufferFull
            raise refusal(None, self._size)

    def statistics(self) -> BackgroundStatistics:
        """Return counts of what became of the events so far."""
        return BackgroundStatistics(
            ended=self._counts["ended"],
            running=self._running,
            waiting=len(self._waiting),
            dropped=self._counts["dropped"],
            cancelled=self._counts["cancelled"],
            abandoned=self._counts["abandoned"],
            blocked_publishers=len(self._blocked),
        )

    def __repr__(self) -> str:
        """Show the state of the block, and how many publishes run and wait."""
        counts = f"{self._running} running, {len(self._waiting)} waiting"
        return f"<Background, {NAMES[self._state]}: {counts}>"

    def _check_open(self) -> None:
        if self._state != _OPEN:
            raise ReceiverClosed(_TITLE, self._state)

    @property
    def _has_room(self) -> bool:
        # An event that will be begun at once takes no room in the buffer.
        free = self._limit - self._running
        return not self._blocked and len(self._waiting) < self._size + free

    @property
    def _may_take(self) -> bool:
        return self._running < self._limit and bool(self._waiting)

    def _drop_for(self, item: _Item) -> bool:
        """Drop an event by the overflow policy; return whether the publisher gets an error."""
        self._counts["dropped"] += 1
        if self._overflow == "drop_oldest":
            self._waiting.popleft()
            self._waiting.append(item)
        return self._overflow == "error"

    async def _wait_for_room(self, item: _Item) -> None:
        placed = anyio.Event()
        self._blocked[placed] = item
        try:
            await placed.wait()
        finally:
            # One that has its place is no longer there.
            is_refused = self._blocked.pop(placed, None) is not None
        if is_refused:
            raise ReceiverClosed(_TITLE, self._state)

    def _start(self) -> None:
        """Wake or start one worker for the next event; it does the same for the one after."""
        if self._is_starting or not self._may_take:
            return
        self._is_starting = True
        if self._idle:
            self._idle.popitem()[0].set()
        else:
            self._tasks.start(self._work)

    async def _work(self) -> None:
        """Publish events and wait for more, until the block is left or a handler cancels the task.

        Another worker goes on then: on asyncio a native cancel leaves a trace in the task.
        """
        try:
            await self._work_on()
        except anyio.get_cancelled_exc_class():
            # A native cancel that came late, of a handler that had ended: it struck a wait.
            if effectively_cancelled():
                raise
        await absorb_native_cancel()
        self._is_starting = False
        if not effectively_cancelled():
            self._start()

    async def _work_on(self) -> None:
        requests = cancel_counter()
        while True:
            self._is_starting = False
            while self._may_take:
                if self._dispatcher.until_yield <= 1:
                    # The yield of the next publish (D6): in there, it would come between taking the
                    # event and its first handler, and a later event could overtake.
                    await checkpoint()
                    self._dispatcher.until_yield = self._dispatcher.yield_every + 1
                    continue
                item = self._take()
                self._start()
                await self._publish_one(item)
                del item  # its payload and its context are nobody's any more
                if requests():
                    return
            if self._is_leaving:
                # As many as may run are running, or nothing is left.
                return
            woken = anyio.Event()
            self._idle[woken] = None
            try:
                await woken.wait()
            finally:
                self._idle.pop(woken, None)

    def _take(self) -> _Item:
        self._running += 1
        return self._waiting.popleft()

    async def _publish_one(self, item: _Item) -> None:
        outcome = "ended"
        try:
            await InContext(item.context, self._publish_within(item))
        except PublishRefused as exc:
            logger.warning(
                "the publish of %s in the background was refused: %s", show(item.event), exc
            )
        except anyio.get_cancelled_exc_class():
            outcome = "cancelled"
            if effectively_cancelled():
                raise
            logger.warning("the publish of %s in the background was cancelled", show(item.event))
        except GeneratorExit:
            raise
        except BaseException as exc:  # noqa: BLE001  the block raises it
            self._abandon()
            self._tasks.interrupt(exc)
        finally:
            self._running -= 1
            self._counts[outcome] += 1
            if not (self._running or self._waiting):
                self._finished.set()
            if self._blocked and not effectively_cancelled():
                # There is room for one more now.
                placed = next(iter(self._blocked))
                self._waiting.append(self._blocked.pop(placed))
                placed.set()

    async def _publish_within(self, item: _Item) -> None:
        # Overrides the publisher's own mark, which is in the item's context.
        with Publisher(None, self._opener, self):
            await self._publish(item.event, item.data, on_error="continue")

    def _abandon(self) -> None:
        """Accept nothing more; count and log the events that will not be published."""
        self._state = _OVER
        for placed in self._blocked:
            placed.set()
        abandoned = len(self._waiting)
        self._waiting.clear()
        if abandoned:
            self._counts["abandoned"] += abandoned
            logger.error(
                "the block of the background was left; events that were not published: %d",
                abandoned,
            )
