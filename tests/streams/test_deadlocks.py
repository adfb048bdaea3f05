"""A consumer that publishes to the full stream that it alone reads: S3."""

from functools import partial
from typing import Any

import pytest
from anyio import Event, create_task_group, fail_after

from flexiflow import EventBus, EventStream, StreamDeadlock
from flexiflow.events import HANDLER_FAILED
from tests.helpers import MODES, PATIENCE, settle
from tests.streams.streaming import EVENT, books, meanwhile, publisher, read, reader, waiting

each_mode = pytest.mark.parametrize("mode", MODES)
each_buffer = pytest.mark.parametrize("buffer", [0, 1, 3])


async def fill(bus: EventBus, events: EventStream[Any]) -> None:
    """Publish as many events as there is room for."""
    for _ in range(events._size):
        assert await bus.publish(EVENT, "filling") == ()


async def deadlocked(bus: EventBus, event: str = EVENT) -> StreamDeadlock:
    """Publish, and give the failure, which must be the stream's."""
    with fail_after(PATIENCE):
        (failure,) = await bus.publish(event)
    assert failure.component_name == "<receiver>"
    assert isinstance(failure.exception, StreamDeadlock)
    return failure.exception


class TestRefused:
    """Tasks that would wait for themselves."""

    @each_mode
    @each_buffer
    async def test_the_task_that_entered_is_refused(self, mode: Any, buffer: int) -> None:
        """S3: Its event is counted as dropped, and the failure says what to do."""
        bus = EventBus(delivery=mode)
        async with bus.stream(EVENT, buffer=buffer) as events:
            await fill(bus, events)
            failure = await deadlocked(bus)
            assert (failure.stream, failure.buffer) == (EVENT, buffer)
            assert f"is full with {buffer} event" in str(failure)
            assert (books(events), waiting(events)) == ((buffer + 1, 0, 1, buffer), (0, 0))

    @each_mode
    async def test_it_leaves_publish_under_raise(self, mode: Any) -> None:
        """S3: It is a failure like any other."""
        bus = EventBus(delivery=mode, on_error="raise")
        async with bus.stream(EVENT, buffer=0):
            with fail_after(PATIENCE), pytest.raises(StreamDeadlock):
                await bus.publish(EVENT)

    async def test_the_failure_is_no_event_that_waits_for_itself(self) -> None:
        """S3: A stream of all names refuses to wait for the news of its own failure too."""
        bus = EventBus()
        async with bus.stream("**", buffer=0) as events:
            await deadlocked(bus)
            assert books(events) == (2, 0, 2, 0)

    async def test_a_consumer_that_has_read_is_refused(self) -> None:
        """S3: As long as no other task reads."""
        bus = EventBus()
        async with bus.stream(EVENT, buffer=1) as events:
            await fill(bus, events)
            assert await read(events) == ["filling"]
            await fill(bus, events)
            await deadlocked(bus)
            assert books(events) == (3, 1, 1, 1)

    @each_mode
    @each_buffer
    async def test_the_only_task_that_has_read_is_refused(self, mode: Any, buffer: int) -> None:
        """S3: Another task that reads is the consumer, and no longer the one that entered."""
        bus, ended = EventBus(delivery=mode), list[Any]()

        async def consume() -> None:
            await read(events)
            await fill(bus, events)
            await deadlocked(bus)
            await settle()
            ended.extend(await read(events, buffer + 1))

        async with bus.stream(EVENT, buffer=buffer) as events:
            async with meanwhile(consume):
                await bus.publish(EVENT, "first")
                await settle()
                await bus.publish(EVENT, "last")
            assert ended == ["filling"] * buffer + ["last"]

    @pytest.mark.parametrize("outer", MODES)
    @pytest.mark.parametrize("inner", MODES)
    async def test_a_handler_of_the_consumers_publish_is_refused(
        self, outer: Any, inner: Any
    ) -> None:
        """S3: The consumer waits for its handlers, in whichever tasks they run."""
        bus, failures = EventBus(), list[Any]()

        async def handle(data: object) -> None:
            failures.extend(await bus.publish(EVENT, delivery=inner))

        async def pass_on(data: object) -> None:
            await bus.publish("inner", delivery=outer)

        await bus.subscribe("outer", "c", pass_on)
        await bus.subscribe("inner", "c", handle)
        async with bus.stream(EVENT, buffer=0):
            with fail_after(PATIENCE):
                await bus.publish("outer", delivery=outer)
        assert [type(each.exception) for each in failures] == [StreamDeadlock]

    async def test_a_handler_of_failures_is_refused(self) -> None:
        """S3: Also one of `event.handler.failed` that the consumer publishes itself."""
        bus, failures = EventBus(delivery="concurrent"), list[Any]()

        async def handle(data: object) -> None:
            failures.extend(await bus.publish(EVENT))

        await bus.subscribe(HANDLER_FAILED, "c", handle)
        async with bus.stream(EVENT, buffer=0):
            with fail_after(PATIENCE):
                await bus.publish(HANDLER_FAILED, {})
        assert [type(each.exception) for each in failures] == [StreamDeadlock]


class TestAllowed:
    """Tasks that wait for others."""

    @each_buffer
    async def test_a_reader_in_another_task_is_waited_for(self, buffer: int) -> None:
        """S3: The task that entered publishes, and another one reads."""
        bus, seen = EventBus(), list[Any]()

        async def consume() -> None:
            seen.extend(await read(events, 10))

        async with bus.stream(EVENT, buffer=buffer) as events, meanwhile(consume):
            for data in range(10):
                assert await bus.publish(EVENT, data) == ()
        assert seen == [*range(10)]

    @pytest.mark.parametrize("others", [0, 3])
    async def test_a_reader_that_was_just_started_is_waited_for(self, others: int) -> None:
        """S3: Before it refuses, a publish lets tasks that were started before begin to read."""
        bus, seen = EventBus(), list[Any]()

        async def consume() -> None:
            seen.extend(await read(events, 3))

        async with bus.stream(EVENT, buffer=1) as events:
            with fail_after(PATIENCE):
                async with create_task_group() as group:
                    for _ in range(others):
                        group.start_soon(settle)
                    group.start_soon(consume)
                    for data in range(3):
                        assert await bus.publish(EVENT, data) == ()
        assert seen == [0, 1, 2]

    async def test_one_of_two_readers_may_publish(self) -> None:
        """S3: The other one reads, so that it is no deadlock."""
        bus, seen, ended = EventBus(), list[Any](), list[Any]()

        async def echo() -> None:
            (data,) = await read(events)
            await publisher(bus, f"echo of {data}", ended)()

        async with bus.stream(EVENT, buffer=0) as events, meanwhile(echo):
            await bus.publish(EVENT, 0)
            seen += await read(events)
        assert seen == ended == ["echo of 0"]

    async def test_a_task_is_not_taken_for_one_that_has_ended(self) -> None:
        """S3: A reader that is gone refuses nobody, though its address may be another's now."""
        bus, ended = EventBus(), list[Any]()
        for data in range(20):
            async with bus.stream(EVENT, buffer=1) as events:
                await fill(bus, events)
                async with meanwhile(reader(events, [])):
                    """It ends at once."""
                await fill(bus, events)
                async with meanwhile(publisher(bus, data, ended)):
                    await read(events, 2)
        assert ended == [*range(20)]

    async def test_a_task_that_outlives_its_publish_is_waited_for(self) -> None:
        """S3: Nobody waits any more for the publish that it was started by."""
        bus, ended, gate = EventBus(), list[Any](), Event()

        async def publish_later() -> None:
            await gate.wait()
            await publisher(bus, 0, ended)()

        def start(data: object) -> None:
            group.start_soon(publish_later)

        async with bus.stream(EVENT, buffer=0) as events:
            with fail_after(PATIENCE):
                async with create_task_group() as group:
                    await bus.subscribe("start", "c", start)
                    await bus.publish("start", delivery="concurrent")
                    gate.set()
                    await settle()
                    assert await read(events) == [0]
        assert ended == [0]

    async def test_a_publish_that_outlives_the_one_around_it(self) -> None:
        """S3: A task publishes as the consumer's publish ends, which does not wait for that."""
        bus, failures, gate = EventBus(delivery="concurrent"), list[Any](), Event()

        def start(data: object) -> None:
            group.start_soon(bus.publish, "inner")

        async def publish_later(data: object) -> None:
            await gate.wait()
            failures.extend(await bus.publish(EVENT, "late"))

        await bus.subscribe("start", "c", start)
        await bus.subscribe("inner", "c", publish_later)
        async with bus.stream(EVENT, buffer=0) as events:
            with fail_after(PATIENCE):
                async with create_task_group() as group:
                    await bus.publish("start")
                    await settle()
                    gate.set()
                    await settle()
                    assert await read(events) == ["late"]
        assert failures == []

    async def test_a_stream_that_ends_meanwhile_refuses_nobody(self) -> None:
        """S3: A task that lets others read finds that the block has ended, and goes on."""
        bus = EventBus()
        events = bus.stream(EVENT, buffer=0)
        await events.__aenter__()
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(partial(events.__aexit__, None, None, None))
                assert await bus.publish(EVENT) == ()
        assert (books(events), waiting(events)) == ((0, 0, 0, 0), (0, 0))

    @pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
    async def test_a_stream_that_does_not_wait_refuses_nobody(self, overflow: Any) -> None:
        """S3: Only `block` has a publisher wait."""
        bus = EventBus(delivery="concurrent")
        async with bus.stream(EVENT, buffer=1, overflow=overflow) as events:
            for _ in range(5):
                assert await bus.publish(EVENT) == ()
            assert len(await read(events)) == 1
            assert books(events) == (5, 1, 4, 0)

    @each_mode
    async def test_a_reader_that_came_second_waits_for_the_first(self, mode: Any) -> None:
        """S3: Of two tasks that have read neither is the only consumer, whichever came last."""
        bus = EventBus(delivery=mode)
        failures: list[object] = []
        goes_on = Event()
        async with bus.stream(EVENT, buffer=1) as events:

            async def first() -> None:
                await read(events)
                await goes_on.wait()
                await read(events, 2)

            async def second() -> None:
                await read(events)
                for _ in range(2):
                    failures.extend(await bus.publish(EVENT))

            with fail_after(PATIENCE):
                async with create_task_group() as group:
                    for step in (first, second):
                        group.start_soon(step)
                        await settle()
                    for _ in range(2):
                        await bus.publish(EVENT)
                    await settle()
                    goes_on.set()
        assert failures == []
