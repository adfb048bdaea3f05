"""Workers that come, go, fall silent, and share partitions: X1, X4, X6."""

import logging
from functools import partial
from typing import Any

import anyio
import pytest
from anyio import CancelScope, Event, create_task_group, fail_after, sleep
from anyio.lowlevel import checkpoint

from flexiflow import EventBus
from flexiflow.extras.durable import (
    LeaseLost,
    Member,
    MemoryTransport,
    TransportUnusable,
    open_bridge,
)
from tests.durable.bridge.helpers import (
    GROUP,
    NAME,
    Call,
    Faulty,
    Handler,
    consuming,
    is_free_of_traces,
    pending,
    play,
    put,
    unavailable,
    until,
)
from tests.helpers import PATIENCE, settle

pytestmark = pytest.mark.same_everywhere


def lost() -> LeaseLost:
    """Make what a worker is told whose lease has run out."""
    return LeaseLost("me", GROUP, 0)


LATER: tuple[Call, ...] = ("receive", "settle")
late = partial(until, seconds=100)


class TestLosing:
    """A lease that was lost."""

    @pytest.mark.unmeasured
    @pytest.mark.parametrize("call", ["receive", "renew", "settle"])
    def test_what_is_held_is_dropped_and_given_anew(self, call: Call, backend: str) -> None:
        """X4: What runs is cancelled, what waits is dropped, and a new lease is acquired."""

        async def scenario() -> None:
            transport, gate, other_gate = MemoryTransport(partitions=1), Event(), Event()
            faulty, bus = Faulty(transport), EventBus()
            blocked, quick = Handler(gate=gate), Handler(gate=other_gate)

            async def handler(data: Any) -> None:
                await (blocked if data else quick)(data)

            await bus.subscribe(NAME, "c", handler)
            await put(transport, 1, 0, 2)
            others: list[Call] = [each for each in LATER if each != call]
            async with open_bridge(bus, faulty, incoming=[NAME], group=GROUP, limit=2) as bridge:
                await until(lambda: blocked.begun and quick.begun)
                # As if this worker had been silent.
                (reading,) = transport._state.groups[GROUP].readings
                (token,) = reading.leases
                reading.leases.clear()
                with faulty.away(*others):
                    other_gate.set()
                    await late(lambda: faulty.calls["acquire"] == 2)
                await late(lambda: blocked.begun.count(1) == 2)
                # Nobody can tell that this worker had not died: they go one at a time now.
                assert (blocked.running, blocked.done) == (1, [])
                assert min(reading.leases) > token
                gate.set()
                await late(lambda: not pending(transport))
                assert bridge.statistics().held == 0
            assert blocked.done == [1, 2]
            # It had ended, which the transport was told of (X11).
            assert quick.done == ([0] if call == "settle" else [0, 0])
            assert is_free_of_traces(transport)

        play(scenario, backend, schedules=5)

    def test_one_of_a_key_is_not_begun_before_the_other_has_ended(self, backend: str) -> None:
        """X4: An attempt that is cancelled ends, before anything is taken in anew."""

        async def scenario() -> None:
            transport, bus, running = MemoryTransport(), EventBus(), [0]
            first, done = Event(), Event()

            async def handler(data: object) -> None:
                running[0] += 1
                assert running == [1]
                try:
                    if not first.is_set():
                        first.set()
                        await sleep(1000)
                finally:
                    with CancelScope(shield=True):
                        await sleep(50)
                    running[0] -= 1
                done.set()

            await bus.subscribe(NAME, "c", handler)
            await put(transport, 1, key=lambda _: "k")
            faulty = Faulty(transport)
            async with open_bridge(bus, faulty, incoming=[NAME], group=GROUP):
                await first.wait()
                transport._state.groups[GROUP].readings[0].leases.clear()
                with fail_after(500):
                    await done.wait()

        play(scenario, backend, schedules=3)

    def test_a_writer_that_finds_out_late_does_not_hurry_it(self, backend: str) -> None:
        """X4: When a writer learns of a lost lease, its attempts end before others begin."""

        async def scenario() -> None:
            transport = MemoryTransport()
            first, done, running = Event(), Event(), [0]

            async def handler(data: int) -> None:
                if data == 0:
                    return
                running[0] += 1
                assert running == [1]
                if first.is_set():
                    done.set()
                first.set()
                with CancelScope(shield=True):
                    await sleep(50)
                running[0] -= 1
                await checkpoint()

            await put(transport, 0, 1)
            faulty = Faulty(transport)
            hold = faulty.hold("settle")
            async with consuming(faulty, handler):
                await first.wait()
                await hold.reached.wait()
                transport._state.groups[GROUP].readings[0].leases.clear()
                await sleep(20)
                hold.open.set()
                with fail_after(500):
                    await done.wait()

        play(scenario, backend, schedules=3)

    def test_what_ends_after_its_lease_is_told_to_have_ended(self, backend: str) -> None:
        """X11: What saw nothing of its cancellation was handled, and is not handled again."""

        async def scenario() -> None:
            transport, bus, done = MemoryTransport(), EventBus(), list[object]()

            async def handler(data: object) -> None:
                with CancelScope(shield=True):
                    await sleep(5)
                done.append(data)

            await bus.subscribe(NAME, "c", handler)
            await put(transport, 1)
            async with open_bridge(bus, transport, incoming=[NAME], group=GROUP) as bridge:
                await until(lambda: bridge.statistics().delivered)
                transport._state.groups[GROUP].readings[0].leases.clear()
                await late(lambda: not pending(transport))
            assert (done, is_free_of_traces(transport)) == ([1], True)

        play(scenario, backend, schedules=3)

    def test_what_ends_as_its_bridge_is_cancelled_is_told_too(self, backend: str) -> None:
        """X11: Nobody handles again what was handled by a lease that was lost before."""

        async def scenario() -> None:
            transport, done, second = MemoryTransport(), list[object](), Handler()

            async def handler(data: object) -> None:
                with CancelScope(shield=True):
                    await sleep(50)
                done.append(data)

            await put(transport, 1)
            with CancelScope() as scope:
                async with consuming(transport, handler) as bridge:
                    await until(lambda: bridge.statistics().delivered)
                    transport._state.groups[GROUP].readings[0].leases.clear()
                    await sleep(20)
                    scope.cancel()
            async with consuming(transport, second):
                await sleep(60)
            assert (done, second.begun, pending(transport)) == ([1], [], {})

        play(scenario, backend, schedules=3)

    @pytest.mark.unmeasured
    def test_what_waits_is_given_by_the_next_lease(self, backend: str) -> None:
        """X12: When its time has come, and no sooner, though the lease it waited by is lost."""

        async def scenario() -> None:
            transport, handler = MemoryTransport(), Handler(fails=1)
            await put(transport, 1)
            async with consuming(transport, handler, retry_delay=20.0) as bridge:
                await until(lambda: bridge.statistics().failed)
                transport._state.groups[GROUP].readings[0].leases.clear()
                await late(lambda: bridge.statistics().acknowledged)
                assert anyio.current_time() >= 20
            assert handler.begun == [1, 1]

        play(scenario, backend, schedules=3)

    def test_one_that_is_lost_while_it_is_given_back(self, backend: str) -> None:
        """X4: Nothing more is to be done, and the bridge is left."""

        async def scenario() -> None:
            transport, handler = MemoryTransport(), Handler(gate=Event())
            await put(transport, 1, 2)
            with fail_after(PATIENCE):
                async with consuming(transport, handler, limit=1, grace=1000.0):
                    await until(lambda: handler.begun)
                    transport._state.groups[GROUP].readings[0].leases.clear()
            assert handler.running == 0

        play(scenario, backend)

    def test_a_suspect_does_not_begin_that_is_another_s_by_then(self, backend: str) -> None:
        """X3: An attempt whose beginning could not be written down is not made."""

        async def scenario() -> None:
            transport, handler = MemoryTransport(), Handler()
            faulty = Faulty(transport)
            await put(transport, 1)
            begun = Handler(gate=Event())
            with CancelScope() as scope, faulty.away("settle", "release", "leave"):
                async with consuming(faulty, begun):
                    await until(lambda: begun.begun)
                    scope.cancel()
            hold = faulty.hold("settle")
            faulty.fail("settle", lost())
            async with consuming(faulty, handler):
                with fail_after(60):
                    await hold.reached.wait()
                transport._state.groups[GROUP].readings[0].leases.clear()
                hold.open.set()
                await late(lambda: handler.done)
            assert handler.begun == [1]

        play(scenario, backend, schedules=5)

    def test_no_other_lease_waits_for_what_was_dropped(self, backend: str) -> None:
        """X5: More is taken in by them at once, as nothing else waits to be handled."""

        async def scenario() -> None:
            transport, gate = MemoryTransport(partitions=2), Event()
            faulty, handler = Faulty(transport), Handler(gate=gate)
            # The keys "a" and "b" share the one partition, "d" and "e" the other.
            await put(transport, "a1", "a2", "a3", key=_first_letter)
            async with consuming(faulty, handler, limit=2, prefetch=4, grace=0) as bridge:
                await until(lambda: handler.begun)
                await put(transport, "d", "e", key=_first_letter)
                await until(lambda: bridge.statistics().held == 5)
                with faulty.away("acquire"):
                    transport._state.groups[GROUP].readings[0].leases.clear()
                    await late(lambda: bridge.statistics().held == 3)
                    await put(transport, "b", key=_first_letter)
                    await late(lambda: "b" in handler.begun)
            assert handler.begun == ["a1", "d", "b"]

        play(scenario, backend, schedules=1)


def _first_letter(data: str) -> str:
    return data[0]


async def _give_up_the_other(transport: MemoryTransport, taken: Any) -> None:
    """Have a worker lose each lease but one."""
    for reading in transport._state.groups[GROUP].readings:
        if reading is not taken:
            reading.leases.clear()
    await sleep(2)


class TestSilence:
    """Workers that can't reach the transport, or don't come back."""

    @pytest.mark.unmeasured
    def test_a_worker_that_waits_keeps_its_lease(self, backend: str) -> None:
        """X1: However long a handler takes, the event is nobody else's as long as it renews."""

        async def scenario() -> None:
            transport, gate = MemoryTransport(), Event()
            handler, other = Handler(gate=gate), Handler()
            await put(transport, 1)
            async with consuming(transport, handler, lease=3.0) as bridge:
                await until(lambda: handler.begun)
                async with consuming(transport, other, lease=3.0):
                    await sleep(100)
                gate.set()
                await until(lambda: bridge.statistics().acknowledged)
            assert other.begun == []

        play(scenario, backend, schedules=2)

    @pytest.mark.parametrize("call", ["join", "acquire", "standing"])
    def test_what_can_be_reached_is_held(self, call: Any, backend: str) -> None:
        """X6: A lease is renewed though something of other partitions is away meanwhile."""

        async def scenario() -> None:
            transport, gate = MemoryTransport(partitions=2), Event()
            faulty, handler = Faulty(transport), Handler(gate=gate)
            await put(transport, 1)
            async with consuming(faulty, handler, lease=3.0) as bridge:
                await until(lambda: handler.begun)
                (taken,) = (
                    each for each in transport._state.groups[GROUP].readings if each.pending
                )
                with faulty.away(call):
                    if call == "acquire":
                        await _give_up_the_other(transport, taken)
                    await sleep(20)
                gate.set()
                await until(lambda: bridge.statistics().acknowledged)
            assert handler.begun == [1]

        play(scenario, backend, schedules=1)

    def test_one_that_can_not_be_reached_holds_nothing_up(self, backend: str) -> None:
        """X6: The other partitions are leased meanwhile, and the worker stays a member."""

        async def scenario() -> None:
            faulty, handler = Faulty(MemoryTransport(partitions=2)), Handler()
            hold = faulty.hold("acquire")
            async with consuming(faulty, handler, lease=3.0):
                await hold.reached.wait()
                # Without keys they take turns.
                await put(faulty, 1, 2, 3, 4)
                await late(lambda: len(handler.done) == 2 and faulty.calls["join"] > 3)
                hold.open.set()
                await late(lambda: len(handler.done) == 4)

        play(scenario, backend, schedules=3)

    def test_one_that_comes_while_the_bridge_is_left_is_given_back(self, backend: str) -> None:
        """X5: A lease whose answer comes late is kept by nobody."""

        async def scenario() -> None:
            transport = MemoryTransport()
            faulty = Faulty(transport)
            hold = faulty.hold("acquire")

            async def open_late() -> None:
                await sleep(0.5)
                hold.open.set()

            async with create_task_group() as group, consuming(faulty, Handler()):
                await hold.reached.wait()
                group.start_soon(open_late)
            assert is_free_of_traces(transport)

        play(scenario, backend, schedules=3)

    def test_one_that_is_another_s_by_then_is_left_alone(self, backend: str) -> None:
        """X4: What could not be leased is not tried again once it is another's share."""

        async def scenario() -> None:
            transport = MemoryTransport(partitions=2)
            faulty, other = Faulty(transport), Member(GROUP, "b", "b", ("order.*",), 1000)
            async with consuming(faulty, Handler(), consumer="a", lease=3.0):
                readings = transport._state.groups[GROUP].readings
                await late(lambda: all(each.leases for each in readings))
                with faulty.away("acquire"):
                    for reading in readings:
                        reading.leases.clear()
                    await late(lambda: faulty.calls["acquire"] > 4)
                    async with transport.connect() as connection:
                        await connection.join(other)
                    await sleep(10)
                await late(lambda: readings[0].leases)
                await sleep(10)
                # Two at first, and one now.
                assert next(transport._state.tokens) == 4

        play(scenario, backend, schedules=1)

    def test_what_a_silent_worker_held_is_another_s(self, backend: str) -> None:
        """X1: When its lease has run out; the silent one is told, and lets go."""

        async def scenario() -> None:
            transport = MemoryTransport()
            faulty = Faulty(transport)
            handler, other = Handler(gate=Event()), Handler()
            await put(transport, 1)
            async with consuming(faulty, handler, lease=3.0, grace=0) as bridge:
                await until(lambda: handler.begun)
                async with consuming(transport, other, lease=3.0) as another:
                    with faulty.away("join", "renew", "receive", "standing"):
                        await late(lambda: another.statistics().acknowledged)
                    assert other.done == [1]
                    await late(lambda: not bridge.statistics().held)
                    assert handler.running == 0
                assert bridge.statistics().reconnects == 1

        play(scenario, backend, schedules=3)

    @pytest.mark.unmeasured
    @pytest.mark.parametrize(
        "call", ["join", "acquire", "receive", "settle", "renew", "standing", "release", "leave"]
    )
    def test_each_call_is_made_again(
        self, call: Any, backend: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """X6: Whatever fails for a while, events are handled once, and the outage is told once."""
        caplog.set_level(logging.INFO, "flexiflow")

        async def scenario() -> None:
            transport, handler = MemoryTransport(), Handler()
            faulty = Faulty(transport)
            if call == "join":
                faulty.succeed("join")
            faulty.fail(call, times=3)
            await put(transport, 1, 2)
            async with consuming(faulty, handler) as bridge:
                await until(lambda: bridge.statistics().acknowledged == 2)
                await sleep(20)
            assert bridge.statistics().reconnects == 1
            assert sorted(handler.begun) == [1, 2]
            assert is_free_of_traces(transport)

        play(scenario, backend, schedules=1)
        told = [(each.levelname, each.getMessage()) for each in caplog.records]
        assert told == [
            ("WARNING", f"{unavailable()}; trying until it is"),
            ("INFO", "nowhere is available again"),
        ]

    def test_outages_of_several_calls_are_one(
        self, backend: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """X6: It begins with the first that fails, and is over with the last."""
        caplog.set_level(logging.INFO, "flexiflow")

        async def scenario() -> None:
            faulty, handler = Faulty(MemoryTransport()), Handler()
            async with consuming(faulty, handler) as bridge:
                await sleep(1)
                with faulty.away("receive", "join", "settle"):
                    await sleep(20)
                await sleep(20)
                assert bridge.statistics().reconnects == 1

        play(scenario, backend, schedules=1)
        assert [each.levelname for each in caplog.records] == ["WARNING", "INFO"]

    @pytest.mark.parametrize("call", ["connect", "join"])
    async def test_one_that_is_away_at_first_is_told(self, call: Any) -> None:
        """X6: Entering the block does not wait for a transport that is not there."""
        faulty, bus = Faulty(MemoryTransport()), EventBus()
        faulty.fail(call, problem := unavailable())
        with pytest.raises(type(problem)) as caught:
            async with open_bridge(bus, faulty, outgoing=["a"], incoming=[NAME], group=GROUP):
                pytest.fail("entered")
        assert caught.value is problem


class TestPartitions:
    """Partitions that are leased to one worker at a time."""

    @pytest.mark.unmeasured
    def test_workers_share_the_partitions(self, backend: str) -> None:
        """X4: Each has its part, gives up what is another's, and takes over from one that left."""

        async def scenario() -> None:
            transport = MemoryTransport(partitions=4)

            def leased() -> list[int]:
                return [len(each.leases) for each in transport._state.groups[GROUP].readings]

            def tokens() -> list[int]:
                return [next(iter(each.leases)) for each in transport._state.groups[GROUP].readings]

            one, two = Handler(), Handler()
            async with consuming(transport, one, consumer="a") as first:
                await sleep(10)
                assert leased() == [1, 1, 1, 1]
                before = tokens()
                async with consuming(transport, two, consumer="b") as second:
                    await sleep(20)
                    assert leased() == [1, 1, 1, 1]
                    between = tokens()
                    assert [a < b for a, b in zip(before, between, strict=True)] == [
                        False,
                        True,
                        False,
                        True,
                    ]
                    await put(transport, *range(16), key=str)
                    await until(lambda: len(one.done) + len(two.done) == 16)
                    assert one.done
                    assert two.done
                    await until(
                        lambda: (
                            first.statistics().acknowledged == len(one.done)
                            and second.statistics().acknowledged == len(two.done)
                        )
                    )
                await sleep(20)
                assert leased() == [1, 1, 1, 1]
                await put(transport, *range(16), key=str)
                await until(lambda: len(one.done) + len(two.done) == 32)
            assert is_free_of_traces(transport)

        play(scenario, backend, schedules=3)

    def test_a_partition_is_passed_on_with_nothing_in_flight(self, backend: str) -> None:
        """X4: What runs ends before the next worker has the partition; what waits it is given."""

        async def scenario() -> None:
            transport, gate = MemoryTransport(partitions=2), Event()
            one, two = Handler(gate=gate), Handler()
            await put(transport, *range(8), key=str)
            async with consuming(transport, one, consumer="a", limit=8, grace=1000.0):
                await until(lambda: len(one.begun) == 8)
                async with consuming(transport, two, consumer="b"):
                    await sleep(30)
                    assert two.begun == []
                    gate.set()
                    await sleep(30)
            assert sorted(one.done) == [*range(8)]
            assert two.begun == []
            assert is_free_of_traces(transport)

        play(scenario, backend, schedules=3)


class TestMissing:
    """What others deleted."""

    def test_what_was_deleted_is_counted_and_told(
        self, backend: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """X6: As an error, with the number, once."""

        async def scenario() -> None:
            transport, handler = MemoryTransport(), Handler()
            async with consuming(transport, handler):
                pass
            await put(transport, *range(5))
            for position in (1, 2, 4):
                del transport._state.logs[0].records[position]
            async with consuming(transport, handler) as bridge:
                await until(lambda: bridge.statistics().acknowledged == 2)
            # As late as that, where nothing was renewed in between.
            assert bridge.statistics().missed == 3
            async with consuming(transport, handler) as bridge:
                await sleep(20)
                assert bridge.statistics().missed == 3

        play(scenario, backend, schedules=1)
        assert [each.getMessage() for each in caplog.records] == [
            "the group 'billing' missed 3 events, lost or deleted before they were settled"
        ]

    def test_statistics_tell_of_the_group(self, backend: str) -> None:
        """X6: As of the last renewal: what is pending, and what is still to come."""

        async def scenario() -> None:
            transport, gate = MemoryTransport(), Event()
            handler = Handler(gate=gate)
            await put(transport, *range(10))
            async with consuming(transport, handler, prefetch=4) as bridge:
                await until(lambda: handler.begun)
                await sleep(20)
                assert (bridge.statistics().pending, bridge.statistics().lag) == (4, 6)
                gate.set()
                await until(lambda: bridge.statistics().acknowledged == 10)
                await sleep(20)
                assert (bridge.statistics().pending, bridge.statistics().lag) == (0, 0)

        play(scenario, backend, schedules=1)


async def test_a_transport_that_is_unusable_ends_a_worker() -> None:
    """X6: Whichever call finds out; the block is left by it."""
    faulty, problem = Faulty(MemoryTransport()), TransportUnusable("nowhere", "a text")
    faulty.fail("receive", problem)
    with fail_after(PATIENCE), pytest.raises(TransportUnusable) as caught:
        async with consuming(faulty, Handler()), create_task_group():
            await settle()
            await Event().wait()
    assert caught.value is problem
