"""Streams to read and to publish to, and whether their books are balanced."""

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, final

from anyio import create_task_group, fail_after

from flexiflow import BufferFull, EventBus, EventStream
from flexiflow._receiver import RECEIVER
from flexiflow._stream import Overflow
from tests.helpers import PATIENCE, settle

EVENT = "order.placed"

Books = tuple[int, int, int, int]
"""How many events were received, delivered and dropped, and how many are buffered."""

Step = Callable[[], Coroutine[Any, Any, object]]


def books(events: EventStream[Any]) -> Books:
    """Give a stream's counts, which must be balanced."""
    told = events.statistics()
    assert told.received == told.delivered + told.dropped + told.buffered
    return told.received, told.delivered, told.dropped, told.buffered


def waiting(events: EventStream[Any]) -> tuple[int, int]:
    """Give the number of publishers and of readers that wait."""
    told = events.statistics()
    return told.blocked_publishers, told.waiting_readers


def has_receivers(bus: EventBus) -> bool:
    """Tell whether a stream or an expectation is subscribed."""
    return any(each.component_name == RECEIVER for each in bus.subscriptions())


async def read(events: EventStream[Any], number: int = 1) -> list[Any]:
    """Read the payloads of so many events."""
    return [(await anext(events)).data for _ in range(number)]


def reader(events: EventStream[Any], seen: list[Any]) -> Step:
    """Give what reads one event, and notes its payload."""

    async def read_one() -> None:
        seen.extend(await read(events))

    return read_one


def publisher(bus: EventBus, data: object, ended: list[Any]) -> Step:
    """Give what publishes, and notes the payload once that is over."""

    async def publish() -> None:
        assert await bus.publish(EVENT, data) == ()
        ended.append(data)

    return publish


@asynccontextmanager
async def meanwhile(*steps: Step) -> AsyncGenerator[None]:
    """Run each in a task of its own, begun in this order, and wait for all at the end."""
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            for step in steps:
                group.start_soon(step)
                await settle()
            yield


@final
class Traffic:
    """Tasks that publish to a stream, and tasks that read it until all has been published.

    Args:
        buffer: the stream's.
        overflow: the stream's.
        publishers: how many tasks publish.
        readers: how many tasks read.
        each: how many events each publisher has.
    """

    def __init__(
        self, buffer: int, overflow: Overflow, *, publishers: int, readers: int, each: int
    ) -> None:
        self._options: dict[str, Any] = {"buffer": buffer, "overflow": overflow}
        self._overflow = overflow
        self._sizes = publishers, readers, each

    async def run(self) -> None:
        """Begin anew, and let all be published; the stream's block does not end yet."""
        publishers, readers, each = self._sizes
        self.bus, self.published = EventBus(), 0
        self.seen: list[int] = []
        self.reached: list[int] = []
        self.events: EventStream[Any] = self.bus.stream(EVENT, **self._options)
        await self.events.__aenter__()
        await self.bus.subscribe(EVENT, "c", self.reached.append, priority=1)
        async with create_task_group() as reading:
            for _ in range(readers):
                reading.start_soon(self._read)
            async with create_task_group() as publishing:
                for number in range(publishers):
                    publishing.start_soon(
                        self._publish, range(number, each * publishers, publishers)
                    )
            reading.cancel_scope.cancel()

    async def _read(self) -> None:
        async for event in self.events:
            self.seen.append(event.data)

    async def _publish(self, numbers: range) -> None:
        for number in numbers:
            failures = await self.bus.publish(EVENT, number)
            assert all(isinstance(each.exception, BufferFull) for each in failures)
            self.published += 1

    async def assert_none_is_lost(self) -> None:
        """See that each event is accounted for and came in its order; then end the block."""
        received, _, dropped, buffered = books(self.events)
        assert waiting(self.events) == (0, 0)
        assert self.published <= received <= len(self.reached)
        came = [*self.seen, *await read(self.events, buffered)]
        assert came == [number for number in self.reached if number in came]
        assert len(came) + dropped == received
        assert not dropped or self._overflow != "block"
        await self.events.__aexit__(None, None, None)
        assert not has_receivers(self.bus)
