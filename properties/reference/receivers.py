"""The reference implementation of streams and expectations, for a bus that has them."""

from collections.abc import Callable, Generator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import anyio
from anyio.lowlevel import checkpoint

from flexiflow import BufferFull, Event, HandlerFailure, ReceiverClosed, StreamDeadlock
from properties.reference.bus import is_cancelled

waiting_for_publishes: ContextVar[tuple[object, ...]] = ContextVar("waiting", default=())
"""The tasks that wait for the publishes around, or backgrounds, for which a task `waits`."""


def current_task() -> object:
    """Return an object that differs for every task, also for those that have ended."""
    return anyio.get_current_task().coro


class Counted(NamedTuple):
    """What became of a stream's events."""

    received: int
    delivered: int
    dropped: int
    buffered: int


@dataclass(eq=False)
class Place:
    """Where a publisher waits for room."""

    event: Event[Any]


@dataclass(eq=False)
class PlainStream:
    """The events of a name or pattern, one by one."""

    size: int
    overflow: str
    subscribe: Callable[[Callable[[Event[Any]], Any]], Any]
    buffered: list[Event[Any]] = field(default_factory=list[Event[Any]])
    blocked: list[Place] = field(default_factory=list[Place])
    received: int = 0
    delivered: int = 0
    dropped: int = 0
    is_read: bool = False
    is_open: bool = False

    def __post_init__(self) -> None:
        """Do nothing; for a fault to override."""

    async def __aenter__(self) -> Self:
        self.subscription = self.subscribe(self.receive)
        self.change = anyio.Event()
        self.consumers = {current_task()}
        self.is_open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        self.subscription.bus.unsubscribe(self.subscription)
        self.is_open = False
        self.dropped += len(self.buffered)
        self.buffered.clear()
        self.wake()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event[Any]:
        self.note_reader()
        await checkpoint()
        while not (self.buffered or self.blocked):
            await self.change.wait()
            self.check_open()
        return self.take()

    def check_open(self) -> None:
        if not self.is_open:
            raise ReceiverClosed("the stream", "is closed")

    def statistics(self) -> Counted:
        return Counted(self.received, self.delivered, self.dropped, len(self.buffered))

    async def receive(self, event: Event[Any]) -> None:
        """Take an event from its publisher."""
        if len(self.buffered) < self.size and not self.blocked:
            self.accept(event)
        else:
            await getattr(self, self.overflow)(event)

    def accept(self, event: Event[Any]) -> None:
        self.buffered.append(event)
        self.received += 1
        self.wake()

    async def block(self, event: Event[Any]) -> None:
        place = Place(event)
        self.blocked.append(place)
        self.wake()
        try:
            await self.wait_for_room(place)
        finally:
            if place in self.blocked:
                self.blocked.remove(place)

    async def wait_for_room(self, place: Place) -> None:
        while place in self.blocked and self.is_open:
            if self.waits_for_itself():
                # A reader that was just started may begin.
                await checkpoint()
                await checkpoint()
                if self.waits_for_itself() and place in self.blocked:
                    self.drop()
                    raise StreamDeadlock("a", self.size)
            else:
                await self.change.wait()

    def waits_for_itself(self) -> bool:
        tasks = [getattr(each, "waits", each) for each in waiting_for_publishes.get()]
        return len(self.consumers) == 1 and not self.consumers.isdisjoint(tasks)

    async def drop_oldest(self, event: Event[Any]) -> None:
        self.buffered.pop(0)
        self.dropped += 1
        self.accept(event)

    async def drop_newest(self, event: Event[Any]) -> None:
        self.drop()

    async def error(self, event: Event[Any]) -> None:
        self.drop()
        raise BufferFull("a", self.size)

    def drop(self) -> None:
        """Count this event as lost."""
        self.received += 1
        self.dropped += 1

    def take(self) -> Event[Any]:
        """Take an event out, and let the next publisher in."""
        if self.blocked:
            self.accept(self.blocked.pop(0).event)
        self.delivered += 1
        return self.buffered.pop(0)

    def wake(self) -> None:
        """Make all waiting tasks look again."""
        self.change.set()
        self.change = anyio.Event()

    def note_reader(self) -> None:
        if not self.is_read:
            self.consumers.clear()
        self.is_read = True
        self.consumers.add(current_task())


@dataclass(eq=False)
class PlainExpectation:
    """The first event that its filter takes."""

    filter: Callable[[str, Any], bool] | None
    subscribe: Callable[[Callable[[Event[Any]], Any]], Any]
    failure: Exception | None = None
    is_told: bool = False
    is_settled: bool = False

    def __post_init__(self) -> None:
        """Do nothing; for a fault to override."""

    async def __aenter__(self) -> Self:
        self.subscription = self.subscribe(self.notice)
        self.settled = anyio.Event()
        return self

    async def __aexit__(self, *_: object) -> None:
        bus = self.subscription.bus
        bus.unsubscribe(self.subscription)
        self.settled.set()
        if self.failure is not None and not self.is_told:
            failed = HandlerFailure(
                self.subscription.event_name,
                self.subscription.component_name,
                self.failure,
                self.subscription,
            )
            bus.log(failed)
            if not is_cancelled():
                await bus.announce(failed)

    def __await__(self) -> Generator[Any, None, Event[Any]]:
        return self.wait().__await__()

    async def wait(self) -> Event[Any]:
        await self.settled.wait()
        if not self.is_settled:
            raise ReceiverClosed("the expectation", "is closed")
        if self.failure is not None:
            self.is_told = True
            raise self.failure
        return self.event

    def notice(self, event: Event[Any]) -> None:
        """Keep an event that the filter takes."""
        try:
            if self.filter is not None and not self.filter(*event):
                return
            if not self.is_settled:
                self.event = event
        except Exception as exc:
            self.failure = exc
        self.settle()

    def settle(self) -> None:
        self.is_settled = True
        self.subscription.bus.unsubscribe(self.subscription)
        self.settled.set()
