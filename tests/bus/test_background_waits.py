"""Waiting for the publishes in the background; none waits for itself: B15."""

from functools import partial
from typing import Any

import anyio
import pytest
from anyio import CancelScope, create_task_group, fail_after, to_thread

from flexiflow import (
    Background,
    Component,
    Engine,
    EventBus,
    LimitDeadlock,
    Outcome,
    StateMachine,
    StreamDeadlock,
    Transition,
    events,
)
from tests.accounting import Boom
from tests.helpers import MODES, PATIENCE, settle

each_mode = pytest.mark.parametrize("mode", MODES)


async def noted_failures(bus: EventBus) -> list[type[Exception]]:
    """Return a list of the types of all failures that are reported from now on."""
    kinds = list[type[Exception]]()
    await bus.subscribe(
        events.HANDLER_FAILED, "noting", lambda data: kinds.append(data["exception"].__class__)
    )
    return kinds


async def fill(background: Background) -> None:
    """Publish more than a background of one publish at a time and one in its buffer can hold."""
    for _ in range(4):
        await background.publish("x")


class TestTheOpener:
    """Leaving the block waits for its publishes, so they count as called by its opener."""

    @each_mode
    async def test_in_a_limited_handler(self, mode: Any) -> None:
        """B15, V2: A call of the handler that opened the block is refused, as for a publish."""
        bus, seen = EventBus(delivery=mode), list[int]()
        failures = await noted_failures(bus)

        async def handle(number: int) -> None:
            seen.append(number)
            if number:
                async with bus.background() as background:
                    await background.publish("a", number - 1)

        await bus.subscribe("a", "c", handle, limit=1)
        with fail_after(PATIENCE):
            await bus.publish("a", 1)
        assert (seen, failures) == ([1], [LimitDeadlock])

    async def test_in_a_limited_handler_for_another_publisher(self) -> None:
        """B15, V2: Also if the publisher runs outside of that handler."""
        bus, blocks = EventBus(), list[Background]()
        failures = await noted_failures(bus)
        is_open, is_published = anyio.Event(), anyio.Event()

        async def handle(_: object) -> None:
            async with bus.background() as background:
                blocks.append(background)
                is_open.set()
                await is_published.wait()

        await bus.subscribe("a", "c", handle, limit=1)
        with fail_after(PATIENCE):
            async with create_task_group() as tasks:
                tasks.start_soon(bus.publish, "a")
                await is_open.wait()
                await blocks[0].publish("a")
                is_published.set()
        assert failures == [LimitDeadlock]

    async def test_in_an_action_of_a_component(self) -> None:
        """B15, C4: A message to the component that opened the block is deferred."""
        bus, outcomes = EventBus(), list[Outcome]()
        engine = Engine(bus=bus)

        async def publish(message: Any, component: object) -> None:
            async with bus.background() as background:
                await background.publish("a")

        async def send(_: object) -> None:
            outcomes.append(await engine.send("lamp", {"type": "flip"}))

        rows = [Transition("on", "go", None, action=publish), Transition("on", "flip", "off")]
        lamp = Component("lamp", machine=StateMachine("on", rows))
        await engine.register(lamp)
        await bus.subscribe("a", "c", send)
        with fail_after(PATIENCE):
            await engine.send("lamp", {"type": "go"})
        assert (outcomes, lamp.state) == ([Outcome.DEFERRED], "off")

    async def test_in_a_report_of_a_failure(self) -> None:
        """B15, E7: A failure within the report that opened the block is logged alone."""
        bus, reported = EventBus(), list[str]()

        async def fail(_: object) -> None:
            raise Boom

        async def publish(data: Any) -> None:
            reported.append(data["event_name"])
            async with bus.background() as background:
                await background.publish("b")

        await bus.subscribe("a", "c", fail)
        await bus.subscribe("b", "c", fail)
        await bus.subscribe(events.HANDLER_FAILED, "c", publish)
        with fail_after(PATIENCE):
            await bus.publish("a")
        assert reported == ["a"]

    @each_mode
    @pytest.mark.parametrize("buffer", [0, 1])
    async def test_in_the_only_reader_of_a_stream(self, mode: Any, buffer: int) -> None:
        """B15, S3: The stream refuses to wait for it, from the time when it leaves the block."""
        bus = EventBus(delivery=mode)
        failures = await noted_failures(bus)
        with fail_after(PATIENCE):
            async with bus.stream("a", buffer=buffer) as stream:
                async with bus.background() as background:
                    for number in range(3):
                        await background.publish("a", number)
                    await settle()
                    assert not failures
                assert failures == [StreamDeadlock] * (3 - buffer)
                told = stream.statistics()
                assert (told.buffered, told.dropped) == (buffer, 3 - buffer)

    async def test_in_a_reader_that_leaves_by_an_exception(self) -> None:
        """B15, S3: Also if a shield keeps the publish from being cancelled."""
        bus = EventBus()
        failures = await noted_failures(bus)

        async def publish_shielded(_: object) -> None:
            with CancelScope(shield=True):
                await bus.publish("a")

        await bus.subscribe("go", "c", publish_shielded)
        with fail_after(PATIENCE):
            async with bus.stream("a", buffer=0):
                with pytest.raises(Boom):
                    async with bus.background() as background:
                        await background.publish("go")
                        await settle()
                        raise Boom
        assert failures == [StreamDeadlock]

    @each_mode
    async def test_a_reader_reads_inside_the_block(self, mode: Any) -> None:
        """B15, S3: Until it leaves the block, the opener does not wait, and may read."""
        bus, seen = EventBus(delivery=mode), list[int]()
        failures = await noted_failures(bus)
        with fail_after(PATIENCE):
            async with bus.stream("a", buffer=1) as stream, bus.background() as background:
                for number in range(5):
                    await background.publish("a", number)
                await settle()
                seen.extend([(await anext(stream)).data for _ in range(5)])
        assert (sorted(seen), failures) == ([0, 1, 2, 3, 4], [])

    async def test_another_reader_goes_on(self) -> None:
        """B15, S3: Leaving the block waits for events that another task reads."""
        bus, seen = EventBus(), list[int]()
        failures = await noted_failures(bus)

        async def read() -> None:
            await gate.wait()
            async for event in stream:
                seen.append(event.data)
                if len(seen) == 5:
                    break

        gate = anyio.Event()
        with fail_after(PATIENCE):
            async with (
                bus.stream("a", buffer=1) as stream,
                create_task_group() as tasks,
                bus.background() as background,
            ):
                for number in range(5):
                    await background.publish("a", number)
                await settle()
                tasks.start_soon(read)
                gate.set()
        assert (sorted(seen), failures) == ([0, 1, 2, 3, 4], [])

    async def test_a_reader_in_another_event_loop(
        self, anyio_backend_name: str, anyio_backend_options: dict[str, Any]
    ) -> None:
        """B15, S3: Leaving a block leaves the streams of other threads alone."""
        bus = EventBus()

        async def open_and_leave() -> None:
            async with EventBus().background():
                pass

        run = partial(
            anyio.run,
            open_and_leave,
            backend=anyio_backend_name,
            backend_options=anyio_backend_options,
        )
        with fail_after(PATIENCE):
            async with bus.stream("a", buffer=0) as stream, create_task_group() as tasks:
                tasks.start_soon(bus.publish, "a", 1)
                await settle()
                (blocked,) = stream._blocked
                # Nobody waits for this one, so to set it in the other thread breaks nothing.
                woken, blocked.woken = blocked.woken, anyio.Event()
                await to_thread.run_sync(run)
                assert not blocked.woken.is_set()
                blocked.woken = woken
                assert (await anext(stream)).data == 1

    async def test_a_publisher_that_waits_for_the_opener(self) -> None:
        """B15, S3: The consumer that published concurrently waits for a handler's block, too."""
        bus = EventBus(delivery="concurrent")
        failures = await noted_failures(bus)

        async def publish_behind(_: object) -> None:
            async with bus.background() as background:
                await background.publish("a")
                await background.publish("a")

        await bus.subscribe("go", "c", publish_behind)
        with fail_after(PATIENCE):
            async with bus.stream("a", buffer=1):
                await bus.publish("go")
        assert failures == [StreamDeadlock]


class TestThePublisher:
    """A publisher does not wait for the publish, so nothing that it runs in counts."""

    @each_mode
    async def test_in_the_only_reader_of_a_stream(self, mode: Any) -> None:
        """B15, S3: It may publish more than the stream holds, and read afterwards."""
        bus, seen = EventBus(delivery=mode), list[int]()
        failures = await noted_failures(bus)

        async def publish_and_read() -> None:
            async with bus.stream("a", buffer=1) as stream:
                for number in range(5):
                    await background.publish("a", number)
                await settle()
                seen.extend([(await anext(stream)).data for _ in range(5)])

        with fail_after(PATIENCE):
            async with bus.background() as background, create_task_group() as tasks:
                tasks.start_soon(publish_and_read)
        assert (sorted(seen), failures) == ([0, 1, 2, 3, 4], [])

    async def test_in_a_handler_of_another_background(self) -> None:
        """B15: A handler of B waits for room in A, whose handler published to B and ended."""
        bus, seen = EventBus(), list[int]()
        failures = await noted_failures(bus)

        async def pass_on(_: object) -> None:
            await second.publish("inner")
            await gate.wait()

        async def publish_back(_: object) -> None:
            for number in range(3):
                await first.publish("x", number)

        gate = anyio.Event()
        await bus.subscribe("outer", "c", pass_on)
        await bus.subscribe("inner", "c", publish_back)
        await bus.subscribe("x", "c", seen.append)
        with fail_after(PATIENCE):
            async with bus.background() as second, bus.background(limit=1, buffer=1) as first:
                await first.publish("outer")
                await settle()
                assert first.statistics().blocked_publishers == 1
                gate.set()
                await settle()
        assert (seen, failures) == ([0, 1, 2], [])


class TestItself:
    """No handler waits for room that only its own end makes."""

    @pytest.mark.parametrize("depth", [1, 2])
    async def test_through_inner_blocks(self, depth: int) -> None:
        """B15: A handler of a block that a handler of a full block opened is refused."""
        bus = EventBus()
        failures = await noted_failures(bus)

        async def open_another(left: int) -> None:
            async with bus.background() as inner:
                await inner.publish("outer" if left else "inner", left - 1)

        await bus.subscribe("outer", "c", open_another)

        async def fill_it(_: object) -> None:
            await fill(background)

        await bus.subscribe("inner", "c", fill_it)
        with fail_after(PATIENCE):
            async with bus.background(limit=1, buffer=1) as background:
                await background.publish("outer", depth - 1)
        assert failures == [StreamDeadlock]

    @each_mode
    async def test_in_a_task_of_a_concurrent_publish(self, mode: Any) -> None:
        """B15: In whichever task the handler runs."""
        bus = EventBus()
        failures = await noted_failures(bus)

        async def pass_on(_: object) -> None:
            await bus.publish("inner", delivery=mode)

        await bus.subscribe("outer", "c", pass_on)

        async def fill_it(_: object) -> None:
            await fill(background)

        await bus.subscribe("inner", "c", fill_it)
        with fail_after(PATIENCE):
            async with (
                bus.stream("never.read"),
                bus.background(limit=1, buffer=1) as background,
            ):
                await background.publish("outer")
        assert failures == [StreamDeadlock]
