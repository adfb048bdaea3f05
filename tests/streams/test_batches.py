"""The events of a stream in lists: `EventStream.batches`."""

import math
from contextlib import suppress
from decimal import Decimal
from typing import Any

import anyio
import pytest
from anyio import create_task_group, fail_after, move_on_after
from anyio.lowlevel import checkpoint

from flexiflow import Event, EventBus, EventStream, ReceiverClosed
from flexiflow.testing import replay
from tests.helpers import PATIENCE, settle


def payloads(batch: list[Event[Any]]) -> list[Any]:
    """Return what was published."""
    return [each.data for each in batch]


async def publish(bus: EventBus, *numbers: int) -> None:
    """Publish each number."""
    for number in numbers:
        await bus.publish("a", number)


async def test_full_lists_come_at_once() -> None:
    """S2: In order, `max_size` events each; what is left comes after `max_wait`."""
    bus = EventBus()
    async with bus.stream("a") as events:
        await publish(bus, *range(7))
        batches = aiter(events.batches(max_size=3, max_wait=0))
        got = [payloads(await anext(batches)) for _ in range(3)]
        assert got == [[0, 1, 2], [3, 4, 5], [6]]
        assert events.statistics().delivered == 7


@pytest.mark.parametrize("max_wait", [0.5, 0.0])
def test_a_list_waits_for_more(max_wait: float, backend: str) -> None:
    """S2: For `max_wait` seconds of the event loop's clock after its first event, no longer."""

    async def main() -> None:
        bus, begun = EventBus(), anyio.current_time()
        async with bus.stream("a") as events, create_task_group() as tasks:
            tasks.start_soon(publish_at, bus, begun, 10.0, 10.25, 10.75)
            batch = await anext(events.batches(max_wait=max_wait))
            expected = ([10.0, 10.25], 10.5) if max_wait else ([10.0], 10.0)
            assert (payloads(batch), anyio.current_time() - begun) == expected

    replay(main, backend=backend, decisions=())


async def publish_at(bus: EventBus, begun: float, *times: float) -> None:
    """Publish each time at that time."""
    for time in times:
        await anyio.sleep_until(begun + time)
        await bus.publish("a", time)


async def test_a_full_buffer_is_a_list() -> None:
    """S2: To wait for more would block publishers, or drop events."""
    bus = EventBus()
    async with bus.stream("a", buffer=2, overflow="drop_oldest") as events:
        await publish(bus, 1, 2)
        with fail_after(PATIENCE):
            assert payloads(await anext(events.batches(max_wait=math.inf))) == [1, 2]


@pytest.mark.parametrize("buffer", [0, 1, 3])
async def test_blocked_publishers_go_on(buffer: int) -> None:
    """S2: Their events are in the list, too, and none is lost."""
    bus, got = EventBus(), list[int]()
    async with bus.stream("a", buffer=buffer) as events, create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(publish, bus, number)
        await settle()
        with fail_after(PATIENCE):
            async for batch in events.batches(max_size=4, max_wait=0):
                assert len(batch) <= 4
                got += payloads(batch)
                if len(got) == 6:
                    break
    assert sorted(got) == list(range(6))


async def test_one_that_is_cancelled_loses_none() -> None:
    """S2: The events stay in the stream until the list is complete."""
    bus = EventBus()
    async with bus.stream("a") as events:
        batches = events.batches(max_size=3, max_wait=math.inf)
        with move_on_after(0):
            await anext(batches)
        await publish(bus, 1, 2)
        async with create_task_group() as tasks:
            tasks.start_soon(anext, batches)
            await settle()
            assert events.statistics().waiting_readers == 1
            tasks.cancel_scope.cancel()
        await publish(bus, 3)
        assert payloads(await anext(batches)) == [1, 2, 3]


async def test_a_reader_that_gets_none_waits_anew() -> None:
    """S2: Another reader may take what a list waits with; then the time begins anew, too."""
    bus, got = EventBus(), list[list[int]]()
    async with bus.stream("a") as events, create_task_group() as tasks:

        async def read(max_size: int) -> None:
            got.append(payloads(await anext(events.batches(max_size, math.inf))))

        tasks.start_soon(read, 2)
        await settle()
        await publish(bus, 1)
        await settle()
        assert (await anext(events)).data == 1
        await settle()
        await publish(bus, 2)
        await settle()
        assert not got
        await publish(bus, 3)
        await settle()
        assert got == [[2, 3]]


async def test_one_event_wakes_a_reader_that_wants_one() -> None:
    """S2: A list that waits for more does not keep events from other readers."""
    bus, got = EventBus(), list[int]()
    async with bus.stream("a") as events, create_task_group() as tasks:
        batches = events.batches(max_size=9, max_wait=math.inf)
        await publish(bus, 0)
        tasks.start_soon(anext, batches)
        await settle()

        async def read() -> None:
            got.append((await anext(events)).data)

        assert (await anext(events)).data == 0
        tasks.start_soon(read)
        await settle()
        await publish(bus, 1)
        await settle()
        tasks.cancel_scope.cancel()
    assert got == [1]


@pytest.mark.parametrize("max_wait", [math.inf, PATIENCE * 2])
async def test_a_list_that_waits_longer_passes_an_event_on(max_wait: float) -> None:
    """S2: Readers that were asleep when it came get it, if their lists are complete with it."""
    bus, got = EventBus(), list[list[int]]()
    async with bus.stream("a") as events, create_task_group() as tasks:

        async def read(max_size: int) -> None:
            got.append(payloads(await anext(events.batches(max_size, max_wait))))

        for max_size in (3, 2, 1):
            tasks.start_soon(read, max_size)
            await settle()
        await publish(bus, 1)
        await settle()
        assert got == [[1]]
        await publish(bus, 2, 3)
        await settle()
        assert got == [[1], [2, 3]]
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("max_size", [1, 2])
async def test_a_reader_that_is_cancelled_as_it_is_woken(max_size: int) -> None:
    """S2: The next reader is woken in its place."""
    import asyncio  # noqa: PLC0415  the only backend that can cancel a task that was woken

    bus, got, woken = EventBus(), list[list[int]](), list[asyncio.Task[Any] | None]()
    async with bus.stream("a") as events, create_task_group() as tasks:

        async def read() -> None:
            woken.append(asyncio.current_task())
            # At the end of the task, it would cancel the group.
            with suppress(asyncio.CancelledError):
                got.append(payloads(await anext(events.batches(max_size, math.inf))))

        for _ in range(2):
            tasks.start_soon(read)
            await settle()
        await publish(bus, *range(max_size - 1))
        await settle()
        await publish(bus, max_size - 1)
        assert woken[0] is not None
        woken[0].cancel()
        await settle()
        tasks.cancel_scope.cancel()
    assert got == [[*range(max_size)]]


def test_the_time_begins_anew(backend: str) -> None:
    """S2: Its time counts from an event that it gets, not from one that another reader took."""

    async def main() -> None:
        bus, begun = EventBus(), anyio.current_time()
        async with bus.stream("a") as events, create_task_group() as tasks:
            tasks.start_soon(publish_at, bus, begun, 1.0, 5.0)
            tasks.start_soon(take_at, events, begun + 1.5)
            batch = await anext(events.batches(max_wait=1.0))
            assert (payloads(batch), anyio.current_time() - begun) == ([5.0], 6.0)

    replay(main, backend=backend, decisions=())


def test_another_reader_makes_no_list_late(backend: str) -> None:
    """S2: If it takes one event of two, the other one waits no longer than both would have."""

    async def main() -> None:
        bus, begun = EventBus(), anyio.current_time()
        async with bus.stream("a") as events, create_task_group() as tasks:
            tasks.start_soon(publish_and_take, bus, events, begun)
            batch = await anext(events.batches(max_size=2, max_wait=1.0))
            assert (payloads(batch), anyio.current_time() - begun) == ([1.25], 2.0)

    replay(main, backend=backend, decisions=(), buses_yield=False)


async def publish_and_take(bus: EventBus, events: EventStream[float], begun: float) -> None:
    """Publish two times at these times, and take the first one as the second one comes."""
    await publish_at(bus, begun, 1.0, 1.25)
    await anext(events)


async def take_at(events: EventStream[float], time: float) -> None:
    """Take one event at a time."""
    await anyio.sleep_until(time)
    await anext(events)


async def test_leaving_the_block_ends_the_wait() -> None:
    """S1: `ReceiverClosed`, with or without events; those in the buffer are dropped."""
    bus, left = EventBus(), list[object]()

    async def read(events: EventStream[Any]) -> None:
        try:
            await anext(events.batches(max_wait=math.inf))
        except ReceiverClosed as exc:
            left.append(exc.what)

    for numbers in ((), (1,)):
        async with create_task_group() as tasks, bus.stream("a") as events:
            tasks.start_soon(read, events)
            await settle()
            await publish(bus, *numbers)
            await settle()
        with pytest.raises(ReceiverClosed):
            await anext(events.batches())
    assert left == ["the stream of 'a'"] * 2


async def test_lists_yield_to_other_tasks() -> None:
    """D6: At least once in `yield_every` events, even if all are there."""
    bus, turns = EventBus(yield_every=10), 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await checkpoint()

    async with bus.stream("a", buffer=1000) as events, create_task_group() as tasks:
        await publish(bus, *range(1000))
        tasks.start_soon(count_turns)
        before = turns
        async for batch in events.batches(max_size=5, max_wait=0):
            if batch[-1].data == 999:
                break
        assert turns - before >= 50
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"max_size": 0}, "max_size must be an int, 1 or more events, not 0"),
        ({"max_size": 1.5}, "max_size must be an int"),
        ({"max_wait": -1}, "max_wait must be a number of seconds, 0 or more, not -1"),
        ({"max_wait": math.nan}, "max_wait must be"),
        ({"max_wait": False}, "max_wait must be"),
        ({"max_wait": "1"}, "max_wait must be"),
        ({"max_wait": Decimal(0)}, "max_wait must be"),
        ({"max_wait": 0j}, "max_wait must be"),
    ],
    ids=repr,
)
async def test_what_is_refused(arguments: Any, problem: str) -> None:
    """B3: The message says what was given, and what would be right."""
    events = EventBus().stream("a")
    with pytest.raises(ValueError, match=problem):
        events.batches(**arguments)
