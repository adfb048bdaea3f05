"""Streams: the events of a name or pattern, read one by one (S1 to S4).

A stream is a subscription whose handler, `_receive`, puts events into a buffer. If the buffer is
full and the stream blocks, each publisher waits in `_blocked` with its event, and a reader moves
the first of these into the buffer as it takes an event out. Readers of an empty stream wait in
`_sleeping`. An event leaves the buffer only in the step in which a reader returns it, so a
cancelled reader loses none.

A publisher that would wait for its own consumer is refused; `_receiver` knows who waits for whom.
That may change while the publisher is blocked: it is woken, and looks again (`reconsider`).
Waits for turns, of components and of limited handlers, are another matter: see `_turns`.
"""

from __future__ import annotations

import math
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Generic, Literal, Self, TypeAlias, final

import anyio
from anyio.lowlevel import checkpoint, current_token

from flexiflow._arguments import check_int, check_seconds
from flexiflow._errors import BufferFull, StreamDeadlock
from flexiflow._names import T
from flexiflow._objects import Fixed, Record
from flexiflow._receiver import NAMES, Block, blocking_streams, is_publishing
from flexiflow._text import show

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from flexiflow._names import Event
    from flexiflow._subscription import Handler, Subscription

Overflow: TypeAlias = Literal["block", "drop_oldest", "drop_newest", "error"]


@final
class StreamStatistics(Record, Fixed):
    """What became of a stream's events; `received == delivered + dropped + buffered` (S2).

    Attributes:
        received: how many events were accepted or dropped.
        delivered: how many events readers took.
        dropped: how many events no reader will get, because the buffer was full or the stream's
            block was left first.
        buffered: how many events wait for a reader.
        blocked_publishers: how many publishers wait for room; their events are not received yet.
        waiting_readers: how many readers wait for an event.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> async def main():
        ...     bus = EventBus()
        ...     async with bus.stream("order.*", buffer=1, overflow="drop_oldest") as stream:
        ...         for order in ("A7", "A8"):
        ...             await bus.publish("order.placed", order)
        ...         statistics = stream.statistics()
        ...         print(statistics.received, statistics.dropped, statistics.buffered)
        >>> anyio.run(main)
        2 1 1
    """

    __slots__ = __match_args__ = (
        "received",
        "delivered",
        "dropped",
        "buffered",
        "blocked_publishers",
        "waiting_readers",
    )

    received: int
    delivered: int
    dropped: int
    buffered: int
    blocked_publishers: int
    waiting_readers: int


@final
class _Blocked(Generic[T]):
    """A publisher that waits for room.

    Args:
        event: its event.

    Attributes:
        event: see above.
        woken: set when the event is accepted, or whether it would wait for itself has changed.
    """

    __slots__ = ("event", "woken")
    woken: anyio.Event

    def __init__(self, event: Event[T]) -> None:
        self.event = event


@final
class EventBatches(Generic[T]):
    """An async iterator over a stream's events in lists, made by `EventStream.batches`.

    It has no end: it raises `ReceiverClosed` when the stream's block is left, as the stream does.

    Args:
        take: waits for a list, and returns it.
    """

    __slots__ = ("_take",)

    def __init__(self, take: Callable[[], Awaitable[list[Event[T]]]]) -> None:
        self._take = take

    def __aiter__(self) -> Self:
        """Return the iterator itself."""
        return self

    async def __anext__(self) -> list[Event[T]]:
        """Wait for the next list, which is not empty; if this is cancelled, it has taken nothing.

        Raises:
            ReceiverClosed: the stream's block is not entered, or is left while this waits.
        """
        return await self._take()


@final
class EventStream(Generic[T]):
    """The events that a bus publishes while the stream's block is entered (S1).

    Made by `EventBus.stream`. An async context manager, to be entered once, and an async iterator,
    which yields to other tasks when it waits, and at least once in `yield_every` events (D6).
    Several tasks may read it; each event goes to one of them.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> async def main():
        ...     bus = EventBus()
        ...     async with bus.stream("order.*") as stream:
        ...         await bus.publish("order.placed", "A7")
        ...         async for event in stream:
        ...             print(event.name, event.data)
        ...             break
        >>> anyio.run(main)
        order.placed A7
    """

    __slots__ = (
        "_block",
        "_blocked",
        "_buffer",
        "_consumer",
        "_delivered",
        "_dropped",
        "_is_read",
        "_loop",
        "_name",
        "_overflow",
        "_received",
        "_size",
        "_sleeping",
        "_until_yield",
        "_yield_every",
    )

    def __init__(
        self,
        name: str,
        size: int,
        overflow: Overflow,
        yield_every: int,
        subscribe: Callable[[Handler], Subscription],
    ) -> None:
        self._name = name
        self._size = size
        self._overflow: Overflow = overflow
        self._block = Block(f"the stream of {show(name)}", subscribe)
        self._buffer: deque[Event[T]] = deque()
        # The publishers and readers that wait, in order. A publisher is woken when its event is
        # accepted, a reader when there are as many events as it wants.
        self._blocked: dict[_Blocked[T], None] = {}
        self._sleeping: dict[anyio.Event, int] = {}
        self._until_yield = self._yield_every = yield_every
        self._received = self._delivered = self._dropped = 0
        # The coroutine of the only task that has read or, if none has yet, of the task that entered
        # the block; None if several have read. Not a task's id: another task may get the same one.
        self._consumer: object = None
        self._is_read = False
        # The event loop in which the block was entered, while publishers may wait.
        self._loop: object = None

    async def __aenter__(self) -> Self:
        """Subscribe, without a checkpoint: from here on no event is missed (S1).

        Raises:
            ReceiverClosed: the block was entered before.
        """
        self._block.enter(self._receive)
        if self._overflow == "block":
            self._consumer = anyio.get_current_task().coro
            self._loop = current_token()
            blocking_streams.add(self)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Unsubscribe, without a checkpoint; blocked publishers go on (S1)."""
        self._block.leave()
        blocking_streams.discard(self)
        self._consumer = self._loop = None
        self._dropped += len(self._buffer)
        self._buffer.clear()
        for woken in (*[each.woken for each in self._blocked], *self._sleeping):
            woken.set()
        self._blocked.clear()
        self._sleeping.clear()

    def __aiter__(self) -> Self:
        """Return the stream itself."""
        return self

    async def __anext__(self) -> Event[T]:
        """Wait for the next event, and return it; if this is cancelled, it has taken none (S2).

        Raises:
            ReceiverClosed: the stream's block is not entered, or is left while this waits.
        """
        if self._consumer is not None:
            self._note_reader(anyio.get_current_task().coro)
        self._until_yield -= 1
        if self._until_yield <= 0:
            self._until_yield = self._yield_every
            await checkpoint()
        self._block.check()
        while not self._has_events():
            self._block.check()
            self._until_yield = self._yield_every
            await self._sleep(1)
        return self._take()

    def batches(self, max_size: int = 100, max_wait: float = 1.0) -> EventBatches[T]:
        """Return an async iterator over the events in lists, in order.

        A list is complete when it has `max_size` events, when the stream's buffer is full, or
        `max_wait` seconds after the reader began to wait with its first event. Until then the
        events stay in the buffer. So if reading is cancelled, no event is lost: the next reader
        gets them.

        Args:
            max_size: the most events in a list, 1 or more.
            max_wait: seconds, 0 or more: 0 takes what is there, infinity waits for a full list.

        Raises:
            ValueError: one of them is out of its range.
        """
        check_int("max_size", max_size, "1 or more events", least=1)
        check_seconds("max_wait", max_wait, zero=True)
        return EventBatches(partial(self._take_batch, max_size, max_wait))

    async def _take_batch(self, max_size: int, max_wait: float) -> list[Event[T]]:
        """Wait for a list of events, and take it; nothing is taken before it is complete.

        Raises:
            ReceiverClosed: the stream's block is not entered, or is left while this waits.
        """
        self._block.check()
        if self._consumer is not None:
            self._note_reader(anyio.get_current_task().coro)
        if self._until_yield <= 0:
            self._until_yield = self._yield_every
            await checkpoint()
        wanted = min(max_size, max(self._size, 1))
        deadline = math.inf
        while (available := self._available) < wanted:
            self._block.check()
            if available == 0:
                # Also if another reader has taken what was there.
                deadline = math.inf
            elif deadline == math.inf:
                deadline = anyio.current_time() + max_wait
            if available:
                # Another reader may want no more than that.
                self._wake_reader()
            with anyio.CancelScope(deadline=deadline) as waiting:
                await self._sleep(wanted if available else 1)
            self._until_yield = self._yield_every
            if waiting.cancelled_caught and self._available:
                break
        batch = [self._take() for _ in range(min(self._available, max_size))]
        self._until_yield -= len(batch)
        return batch

    @property
    def _available(self) -> int:
        """How many events could be taken now."""
        return len(self._buffer) + len(self._blocked)

    def statistics(self) -> StreamStatistics:
        """Return counts of what became of the events so far (S2)."""
        return StreamStatistics(
            received=self._received,
            delivered=self._delivered,
            dropped=self._dropped,
            buffered=len(self._buffer),
            blocked_publishers=len(self._blocked),
            waiting_readers=len(self._sleeping),
        )

    def __repr__(self) -> str:
        """Show what the stream hears, its state, and how full its buffer is."""
        held = f"{len(self._buffer)} of {self._size} events"
        return f"<EventStream of {show(self._name)}, {NAMES[self._block.state]}: {held}>"

    def _receive(self, event: Event[T]) -> Awaitable[None] | None:
        """Take an event from its publisher, as the subscription's handler."""
        if len(self._buffer) < self._size:
            self._put(event)
        elif self._overflow == "block":
            return self._wait_for_room(event)
        elif self._overflow == "drop_oldest":
            self._buffer.popleft()
            self._dropped += 1
            self._put(event)
        else:
            # This type makes a type checker refuse a new policy that has no branch of its own.
            losing: Literal["drop_newest", "error"] = self._overflow
            self._received += 1
            self._dropped += 1
            if losing == "error":
                raise BufferFull(self._name, self._size)
        return None

    async def _wait_for_room(self, event: Event[T]) -> None:
        blocked = _Blocked(event)
        self._blocked[blocked] = None
        self._wake_reader()
        try:
            while blocked in self._blocked:
                blocked.woken = anyio.Event()
                if self._waits_for_itself():
                    await self._let_another_read()
                    if self._waits_for_itself():
                        self._received += 1
                        self._dropped += 1
                        raise StreamDeadlock(self._name, self._size)
                await blocked.woken.wait()
        finally:
            self._blocked.pop(blocked, None)

    def reconsider(self, loop: object) -> None:
        """Find out again which publishers wait for themselves: a task of `loop` began to wait.

        In another event loop, which another thread may run, nothing has changed.
        """
        if loop == self._loop:
            for each in self._blocked:
                each.woken.set()

    def _waits_for_itself(self) -> bool:
        return self._consumer is not None and is_publishing(self._consumer)

    async def _let_another_read(self) -> None:
        """Wait until each task that was started before has had a chance to read.

        On asyncio one checkpoint is enough; trio may run this task again before them, so there is a
        second one.
        """
        await checkpoint()
        await checkpoint()

    def _put(self, event: Event[T]) -> None:
        self._buffer.append(event)
        self._received += 1
        self._wake_reader()

    def _has_events(self) -> bool:
        # If the buffer's size is 0, readers take from the publishers that wait.
        return bool(self._buffer or self._blocked)

    def _take(self) -> Event[T]:
        if self._blocked:
            accepted = next(iter(self._blocked))
            del self._blocked[accepted]
            self._buffer.append(accepted.event)
            self._received += 1
            accepted.woken.set()
        self._delivered += 1
        return self._buffer.popleft()

    async def _sleep(self, wanted: int) -> None:
        """Wait until there may be so many events; another reader may take them first."""
        woken = anyio.Event()
        self._sleeping[woken] = wanted
        try:
            await woken.wait()
        except BaseException:
            self._sleeping.pop(woken, None)
            if self._has_events():
                # Another one may want fewer events than this one did.
                self._wake_reader()
            raise

    def _wake_reader(self) -> None:
        for woken, wanted in self._sleeping.items():
            if wanted <= 1 or wanted <= self._available:
                del self._sleeping[woken]
                woken.set()
                return

    def _note_reader(self, task: object) -> None:
        if task is not self._consumer:
            self._consumer = None if self._is_read else task
        self._is_read = True
