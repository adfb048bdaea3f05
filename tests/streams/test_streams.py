"""Streams: what they receive, when they end, and what becomes of each event: S1, S2, S4."""

import gc
import weakref
from contextlib import suppress
from dataclasses import FrozenInstanceError
from functools import partial
from typing import Any

import pytest
from anyio import ClosedResourceError, Event, create_task_group

from flexiflow import BufferFull, EventBus, ReceiverClosed
from flexiflow._receiver import blocking_streams
from flexiflow._stream import Overflow
from tests.conftest import Backend
from tests.helpers import MODES, accept, refuse, run_at_once, settle
from tests.hosting import Victim, stepping, styles
from tests.streams.streaming import (
    EVENT,
    books,
    has_receivers,
    meanwhile,
    publisher,
    read,
    reader,
    waiting,
)

OVERFLOWS: tuple[Overflow, ...] = ("block", "drop_oldest", "drop_newest", "error")
each_overflow = pytest.mark.parametrize("overflow", OVERFLOWS)
each_mode = pytest.mark.parametrize("mode", MODES)


class Order:
    """A payload that can be watched."""


class TestBlock:
    """What an `async with` block has to do with it."""

    @each_overflow
    async def test_what_is_published_within_is_received(self, overflow: Overflow) -> None:
        """S1: No event after entry is missed, none before it is seen, and none after exit."""
        bus = EventBus()
        events = bus.stream(EVENT, overflow=overflow)
        await bus.publish(EVENT, "before")
        async with events:
            for data in range(3):
                await bus.publish(EVENT, data)
            assert books(events) == (3, 0, 0, 3)
            assert await read(events, 2) == [0, 1]
        await bus.publish(EVENT, "after")
        assert books(events) == (3, 2, 1, 0)

    @each_overflow
    async def test_to_leave_again_changes_nothing(self, overflow: Overflow) -> None:
        """S1: As an exit stack and a block of its own would leave it."""
        bus = EventBus()
        async with bus.stream(EVENT, overflow=overflow) as events, bus.expect(EVENT) as expected:
            await bus.publish(EVENT, 1)
        for each in (events, expected):
            await each.__aexit__(None, None, None)
        assert books(events) == (1, 0, 1, 0)
        assert list(bus.subscriptions()) == []

    @each_overflow
    async def test_entry_and_exit_do_not_wait(self, overflow: Overflow) -> None:
        """S1: Nothing else runs as a block begins or ends."""
        bus = EventBus()
        events = bus.stream(EVENT, overflow=overflow)
        run_at_once(events.__aenter__())
        assert has_receivers(bus)
        run_at_once(events.__aexit__(None, None, None))
        assert not has_receivers(bus)

    @pytest.mark.parametrize("end", ["return", "failure", "scope", "native"])
    async def test_any_exit_unsubscribes_and_lets_all_go(
        self, end: str, anyio_backend: Backend
    ) -> None:
        """S1: However the block ends, blocked publishers go on, and readers are told."""
        if end == "native" and end not in styles(anyio_backend):
            pytest.skip("only asyncio has a cancellation of its own")
        bus, victim, ended = EventBus(), Victim("native" if end == "native" else "scope"), [0]
        events, leave = bus.stream(EVENT, buffer=1), Event()

        async def hold() -> None:
            async with events:
                await leave.wait()
                if end == "failure":
                    raise ZeroDivisionError

        steps = [publisher(bus, data, ended) for data in (1, 2, 3)]
        async with meanwhile(partial(victim.run, hold), *steps):
            assert waiting(events) == (2, 0)
            if end in ("scope", "native"):
                victim.cancel()
            else:
                leave.set()
        assert (victim.was_cancelled, victim.error is not None) == (
            end in ("scope", "native"),
            end == "failure",
        )
        assert (sorted(ended), waiting(events)) == ([0, 1, 2, 3], (0, 0))
        assert books(events) == (1, 0, 1, 0)
        assert not has_receivers(bus)
        assert events not in blocking_streams

    async def test_each_event_goes_to_one_of_several_readers(self) -> None:
        """S1: Tasks that read one stream share its events."""
        bus, seen = EventBus(), list[Any]()
        async with bus.stream(EVENT) as events:
            async with meanwhile(*[reader(events, seen)] * 3):
                assert waiting(events) == (0, 3)
                for data in range(3):
                    await bus.publish(EVENT, data)
            assert sorted(seen) == [0, 1, 2]
            assert books(events) == (3, 3, 0, 0)

    async def test_a_stream_is_read_by_a_loop_that_may_be_left(self) -> None:
        """S1: `async for` gives each event, and what it has not come to is there for the next."""
        bus = EventBus()
        async with bus.stream(EVENT) as events:
            for data in range(4):
                await bus.publish(EVENT, data)
            async for event in events:
                if event.data == 2:
                    break
            assert books(events) == (4, 3, 0, 1)
            assert await read(events) == [3]

    async def test_a_stream_has_a_pattern_a_filter_and_a_priority(self) -> None:
        """S1: It is subscribed like a handler, and gives names and payloads."""
        bus, seen = EventBus(), list[int]()

        def is_odd(event_name: str, data: int) -> bool:
            seen.append(data)
            return data % 2 == 1

        async with bus.stream("order.*", priority=1, filter=is_odd) as events:
            (subscription,) = bus.subscriptions()
            for data in range(4):
                await bus.publish(f"order.n{data}", data)
            assert [await anext(events), await anext(events)] == [("order.n1", 1), ("order.n3", 3)]
        assert seen == [0, 1, 2, 3]
        assert (subscription.component_name, subscription.priority) == ("<receiver>", 1)
        assert not subscription.active

    async def test_a_filter_that_raises_is_a_failure_of_the_subscription(self) -> None:
        """S1: As with any handler, the publisher is told."""
        bus = EventBus()
        async with bus.stream(EVENT, filter=refuse) as events:
            (failure,) = await bus.publish(EVENT)
            assert failure.component_name == "<receiver>"
            assert books(events) == (0, 0, 0, 0)

    async def test_a_stream_is_read_in_its_block_only(self) -> None:
        """S1: Read before or after, or entered twice, it says what is wrong."""
        bus, told = EventBus(), list[str]()
        events = bus.stream(EVENT)

        async def refused(use: Any) -> None:
            with pytest.raises(ReceiverClosed) as caught:
                await use()
            assert isinstance(caught.value, ClosedResourceError)
            told.append(caught.value.state)

        await refused(events.__anext__)
        async with events:
            await refused(events.__aenter__)
            await bus.publish(EVENT)
        await refused(events.__anext__)
        await refused(events.__aenter__)
        assert told == ["was not entered", "was entered before", "has ended", "was entered before"]
        assert not has_receivers(bus)

    async def test_reading_outside_the_block_yields(self) -> None:
        """S1, D6: A loop that reads until the block is entered lets other tasks run."""
        events, gate = EventBus().stream(EVENT), Event()

        async def open_gate() -> None:
            gate.set()

        async with create_task_group() as tasks:
            tasks.start_soon(open_gate)
            for _ in range(1000):
                with suppress(ReceiverClosed):
                    await anext(events)
            assert gate.is_set()

    async def test_readers_who_wait_are_told_that_the_block_ends(self) -> None:
        """S1: None of them waits for ever, and the message names the stream."""
        bus, told = EventBus(), list[str]()
        events = bus.stream(EVENT)

        async def wait() -> None:
            with pytest.raises(ReceiverClosed) as caught:
                await anext(events)
            told.append(str(caught.value))

        await events.__aenter__()
        async with meanwhile(wait, wait):
            await events.__aexit__(None, None, None)
        assert (
            told
            == [f"the block of the stream of '{EVENT}' has ended; use it inside its 'async with'"]
            * 2
        )

    async def test_nothing_of_a_stream_stays(self) -> None:
        """S1: Neither its events nor its filter are kept once it has been left."""
        bus = EventBus()

        async def use(overflow: Overflow) -> list["weakref.ref[Any]"]:
            def admit(event_name: str, data: object) -> bool:
                return True

            order = Order()
            async with bus.stream(EVENT, buffer=1, overflow=overflow, filter=admit) as events:
                await bus.publish(EVENT, order)
                await bus.publish("other", order)
            assert books(events) == (1, 0, 1, 0)
            return [weakref.ref(order), weakref.ref(admit)]

        kept = [each for overflow in OVERFLOWS for each in await use(overflow)]
        gc.collect()
        assert [each() for each in kept] == [None] * len(kept)


class TestFull:
    """What a publish does to a full buffer."""

    @pytest.mark.parametrize(
        ("overflow", "kept", "failed"),
        [("drop_oldest", [3, 4], 0), ("drop_newest", [0, 1], 0), ("error", [0, 1], 3)],
    )
    async def test_an_event_is_lost_and_counted(
        self, overflow: Overflow, kept: list[int], failed: int
    ) -> None:
        """S2: The oldest or the newest, as the policy says."""
        bus = EventBus()
        async with bus.stream(EVENT, buffer=2, overflow=overflow) as events:
            failures = [each for data in range(5) for each in await bus.publish(EVENT, data)]
            assert books(events) == (5, 0, 3, 2)
            assert await read(events, 2) == kept
            await bus.publish(EVENT, 5)
            assert books(events) == (6, 2, 3, 1)
        assert [type(each.exception) for each in failures] == [BufferFull] * failed

    @each_mode
    async def test_a_full_buffer_is_a_failure_of_that_subscription(self, mode: Any) -> None:
        """S2: Under `error` other handlers run, and under `raise` it leaves publish."""
        bus, seen = EventBus(delivery=mode), list[Any]()
        await bus.subscribe(EVENT, "c", seen.append, priority=5)
        async with bus.stream(EVENT, buffer=1, overflow="error") as events:
            assert await bus.publish(EVENT, 0) == ()
            (failure,) = await bus.publish(EVENT, 1)
            with pytest.raises(BufferFull, match="is full with 1 event; this one is lost") as left:
                await bus.publish(EVENT, 2, on_error="raise")
            assert books(events) == (3, 0, 2, 1)
        assert (left.value.stream, left.value.buffer) == (EVENT, 1)
        assert isinstance(failure.exception, BufferFull)
        assert seen[:2] == [0, 1]

    @each_mode
    async def test_a_publisher_waits_for_room(self, mode: Any) -> None:
        """S2: Under `block` no event is lost, and publishers go on first come, first served."""
        bus, ended, seen = EventBus(delivery=mode), list[Any](), list[Any]()
        async with bus.stream(EVENT, buffer=2) as events:
            async with meanwhile(*[publisher(bus, data, ended) for data in range(5)]):
                assert ended == [0, 1]
                assert (books(events), waiting(events)) == ((2, 0, 0, 2), (3, 0))
                for number in range(1, 4):
                    seen += await read(events)
                    assert books(events) == (2 + number, number, 0, 2)
                    await settle()
                    assert ended == [*range(2 + number)]
            seen += await read(events, 2)
            assert (seen, books(events)) == ([0, 1, 2, 3, 4], (5, 5, 0, 0))

    async def test_a_publisher_that_is_cancelled_leaves_nothing(
        self, anyio_backend: Backend
    ) -> None:
        """S2: Its event was not received, and the others keep their places."""
        for style in styles(anyio_backend):
            bus, ended, victim = EventBus(), list[Any](), Victim(style)
            publish = [publisher(bus, data, ended) for data in range(4)]
            async with bus.stream(EVENT, buffer=1) as events:
                steps = [*publish[:2], victim.running(publish[2]), publish[3]]
                async with meanwhile(*steps):
                    victim.cancel()
                    await settle()
                    assert (books(events), waiting(events)) == ((1, 0, 0, 1), (2, 0))
                    assert await read(events, 3) == [0, 1, 3]
                assert victim.was_cancelled
                assert (sorted(ended), books(events)) == ([0, 1, 3], (3, 3, 0, 0))

    async def test_a_publisher_cancelled_as_its_event_is_taken(
        self, anyio_backend: Backend
    ) -> None:
        """S2: What was received stays received, and the books are balanced."""
        for style in styles(anyio_backend):
            bus, victim = EventBus(), Victim(style)
            async with bus.stream(EVENT, buffer=0) as events:
                async with meanwhile(victim.running(publisher(bus, 0, []))):
                    assert await read(events) == [0]
                    victim.cancel()
                assert (books(events), waiting(events)) == ((1, 1, 0, 0), (0, 0))

    @pytest.mark.parametrize("reads_first", [True, False])
    async def test_without_a_buffer_publisher_and_reader_meet(self, *, reads_first: bool) -> None:
        """S2: The publisher goes on when a reader has taken its event."""
        bus, ended, seen = EventBus(), list[Any](), list[Any]()
        async with bus.stream(EVENT, buffer=0) as events:
            first, second = reader(events, seen), publisher(bus, 0, ended)
            async with meanwhile(first if reads_first else second):
                assert (ended, seen) == ([], [])
                assert waiting(events) == ((0, 1) if reads_first else (1, 0))
                await (second if reads_first else first)()
            assert (ended, seen) == ([0], [0])
            assert (books(events), waiting(events)) == ((1, 1, 0, 0), (0, 0))

    async def test_statistics_can_not_be_changed(self) -> None:
        """S2: They are a record of one moment."""
        bus: Any = EventBus()
        async with bus.stream(EVENT) as events:
            before = events.statistics()
            await bus.publish(EVENT)
            with pytest.raises(FrozenInstanceError):
                before.received = 1
            assert (before.received, events.statistics().received) == (0, 1)


class TestReader:
    """Readers that are cancelled, and readers that never wait."""

    @pytest.mark.unmeasured
    @pytest.mark.parametrize("buffer", [0, 1, 5])
    @pytest.mark.parametrize("cancel_first", [True, False])
    @pytest.mark.parametrize("others", [0, 1, 2])
    async def test_a_reader_cancelled_as_an_event_comes_loses_none(
        self, buffer: int, others: int, *, cancel_first: bool, anyio_backend: Backend
    ) -> None:
        """S2: It has taken the event or left it, and its wake-up passes to the next reader."""
        for style in styles(anyio_backend):
            await self.cancel_as_an_event_comes(style, buffer, others, cancel_first=cancel_first)

    async def cancel_as_an_event_comes(
        self, style: str, buffer: int, others: int, *, cancel_first: bool
    ) -> None:
        """Cancel the first of some readers in the very step in which an event comes."""
        bus, victim = EventBus(), Victim(style)
        taken, seen, ended = list[Any](), list[Any](), list[Any]()

        async def publish() -> None:
            await stepping(publisher(bus, 0, ended)(), victim.cancel)
            victim.cancel()

        def admit(event_name: str, data: object) -> bool:
            # Asked just before the event comes; the publisher may wait just after.
            if cancel_first:
                victim.cancel()
            return True

        async with bus.stream(EVENT, buffer=buffer, filter=admit) as events:
            more = [reader(events, seen)] * others
            async with meanwhile(victim.running(reader(events, taken)), *more, publish):
                assert victim.was_cancelled == (not taken)
                if not (taken or others):
                    assert await read(events) == [0]
                assert len([*taken, *seen]) == bool(taken or others)
                assert books(events) == (1, 1, 0, 0)
                await settle()
                for data in range(waiting(events)[1]):
                    await bus.publish(EVENT, data)
        assert ended == [0]

    @pytest.mark.measured
    async def test_a_reader_cancelled_as_another_takes_its_event(
        self, anyio_backend: Backend
    ) -> None:
        """S2: It has nothing to pass on, and the others wait on."""
        for style in styles(anyio_backend):
            bus, victim, seen = EventBus(), Victim(style), list[Any]()
            async with bus.stream(EVENT) as events:
                steps = victim.running(reader(events, [])), reader(events, seen)
                async with meanwhile(*steps):
                    run_at_once(bus.publish(EVENT, 0))
                    assert await read(events) == [0]
                    victim.cancel()
                    await settle()
                    assert (victim.was_cancelled, waiting(events)) == (True, (0, 1))
                    await bus.publish(EVENT, 1)
                assert seen == [1]

    async def test_a_reader_that_is_cancelled_waits_no_more(self, anyio_backend: Backend) -> None:
        """S2: The next event wakes one who still waits."""
        for style in styles(anyio_backend):
            bus, victim, seen = EventBus(), Victim(style), list[Any]()
            async with bus.stream(EVENT) as events:
                steps = victim.running(reader(events, [])), reader(events, seen)
                async with meanwhile(*steps):
                    victim.cancel()
                    await settle()
                    assert waiting(events) == (0, 1)
                    await bus.publish(EVENT, 0)
                assert seen == [0]

    @pytest.mark.unmeasured
    @pytest.mark.parametrize("yield_every", [1, 3, 61])
    @each_overflow
    async def test_a_reader_that_finds_events_yields_now_and_then(
        self, yield_every: int, overflow: Overflow
    ) -> None:
        """S1: At least one in `yield_every` reads is a checkpoint, and with 1 each is one."""
        bus, waits = EventBus(yield_every=yield_every), list[int]()
        async with bus.stream(EVENT, buffer=130, overflow=overflow) as events:
            for data in range(130):
                await bus.publish(EVENT, data)
            for number in range(1, 131):
                event = events.__anext__()
                assert (await stepping(event, partial(waits.append, number))).data == number - 1
        # A checkpoint may take trio two steps.
        assert sorted(set(waits)) == [*range(yield_every, 131, yield_every)]

    async def test_a_stream_that_ends_as_its_reader_yields(self) -> None:
        """S1: A reader that comes back from its checkpoint is told."""
        bus = EventBus(yield_every=1)
        events = bus.stream(EVENT)
        await events.__aenter__()
        await bus.publish(EVENT)

        def leave() -> None:
            run_at_once(events.__aexit__(None, None, None))

        with pytest.raises(ReceiverClosed, match="has ended"):
            await stepping(events.__anext__(), leave)
        assert books(events) == (1, 0, 1, 0)


class TestOrder:
    """In which order events come."""

    @pytest.mark.parametrize("buffer", [0, 1, 2, 100])
    @each_mode
    async def test_events_come_in_the_order_of_publishing(self, buffer: int, mode: Any) -> None:
        """S4: What one task publishes is read in that order."""
        bus, seen = EventBus(delivery=mode), list[Any]()

        async def publish() -> None:
            for data in range(10):
                await bus.publish(EVENT, data)

        async with bus.stream(EVENT, buffer=buffer, filter=accept) as events, meanwhile(publish):
            seen += await read(events, 10)
        assert seen == [*range(10)]

    async def test_publishes_that_overlap_come_as_they_reach_the_stream(self) -> None:
        """S4: A publish that began before, but is held up by a handler, comes after."""
        bus, ended, gate = EventBus(), list[Any](), Event()

        async def hold(data: object) -> None:
            if data == "held up":
                await gate.wait()

        await bus.subscribe(EVENT, "c", hold, priority=1)
        async with bus.stream(EVENT) as events:
            async with meanwhile(publisher(bus, "held up", ended), publisher(bus, "free", ended)):
                gate.set()
            assert await read(events, 2) == ["free", "held up"]
