"""Streams: the events of a name or pattern, read one by one (S1 to S4).

A stream is a subscription whose handler, `_receive`, puts events into a buffer. If the buffer is
full and the stream blocks, each publisher waits in `_blocked` with its event, and a reader moves
the first of these into the buffer as it takes an event out. Readers of an empty stream wait in
`_sleeping`. An event leaves the buffer only in the step in which a reader returns it, so a
cancelled reader loses none.

A publisher that would wait for its own consumer is refused; `_receiver` knows who waits for whom.
Waits for turns, of components and of limited handlers, are another matter: see `_turns`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, Self, TypeAlias, final

import anyio
from anyio.lowlevel import checkpoint

from flexiflow._errors import BufferFull, StreamDeadlock
from flexiflow._names import T
from flexiflow._receiver import Block, blocking_streams, is_publishing
from flexiflow._text import show

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from flexiflow._names import Event
    from flexiflow._subscription import Handler, Subscription

Overflow: TypeAlias = Literal["block", "drop_oldest", "drop_newest", "error"]


@final
@dataclass(frozen=True, slots=True)
class StreamStatistics:
    """What became of a stream's events; `received == delivered + dropped + buffered` (S2).

    Attributes:
        received: how many events were accepted or dropped.
        delivered: how many events readers took.
        dropped: how many events no reader will get, because the buffer was full or the stream's
            block was left first.
        buffered: how many events wait for a reader.
        blocked_publishers: how many publishers wait for room; their events are not received yet.
        waiting_readers: how many readers wait for an event.
    """

    received: int
    delivered: int
    dropped: int
    buffered: int
    blocked_publishers: int
    waiting_readers: int


@final
class EventStream(Generic[T]):
    """The events that a bus publishes while the stream's block is entered (S1).

    Made by `EventBus.stream`. An async context manager, to be entered once, and an async iterator,
    which yields to other tasks when it waits, and at least once in `yield_every` events (D6).
    Several tasks may read it; each event goes to one of them.
    """

    __slots__ = (
        "_block",
        "_blocked",
        "_buffer",
        "_consumer",
        "_delivered",
        "_dropped",
        "_is_read",
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
        # accepted, a reader when there is an event for it.
        self._blocked: dict[anyio.Event, Event[T]] = {}
        self._sleeping: dict[anyio.Event, None] = {}
        self._until_yield = self._yield_every = yield_every
        self._received = self._delivered = self._dropped = 0
        # The coroutine of the only task that has read or, if none has yet, of the task that entered
        # the block; None if several have read. Not a task's id: another task may get the same one.
        self._consumer: object = None
        self._is_read = False

    async def __aenter__(self) -> Self:
        """Subscribe, without a checkpoint: from here on no event is missed (S1).

        Raises:
            ReceiverClosed: the block was entered before.
        """
        self._block.enter(self._receive)
        if self._overflow == "block":
            self._consumer = anyio.get_current_task().coro
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
        self._consumer = None
        self._dropped += len(self._buffer)
        self._buffer.clear()
        for waiting in (*self._blocked, *self._sleeping):
            waiting.set()
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
        self._block.check()
        if self._consumer is not None:
            self._note_reader(anyio.get_current_task().coro)
        self._until_yield -= 1
        if self._until_yield <= 0:
            self._until_yield = self._yield_every
            await checkpoint()
        while not self._has_events():
            self._block.check()
            self._until_yield = self._yield_every
            await self._sleep()
        return self._take()

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
        accepted = anyio.Event()
        self._blocked[accepted] = event
        self._wake_reader()
        try:
            if self._waits_for_itself():
                await self._let_another_read()
                if self._waits_for_itself():
                    self._received += 1
                    self._dropped += 1
                    raise StreamDeadlock(self._name, self._size)
            await accepted.wait()
        finally:
            self._blocked.pop(accepted, None)

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
            self._buffer.append(self._blocked.pop(accepted))
            self._received += 1
            accepted.set()
        self._delivered += 1
        return self._buffer.popleft()

    async def _sleep(self) -> None:
        """Wait until there may be an event; another reader may take it first."""
        woken = anyio.Event()
        self._sleeping[woken] = None
        try:
            await woken.wait()
        except BaseException:
            if woken in self._sleeping:
                del self._sleeping[woken]
            elif self._has_events():
                self._wake_reader()
            raise

    def _wake_reader(self) -> None:
        if self._sleeping:
            woken = next(iter(self._sleeping))
            del self._sleeping[woken]
            woken.set()

    def _note_reader(self, task: object) -> None:
        if task is not self._consumer:
            self._consumer = None if self._is_read else task
        self._is_read = True
