"""Events that wait for their next attempt, at the transport and not in the worker (X12)."""

import logging
from typing import Any

import pytest
from anyio import Event, create_task_group, current_time, move_on_after, sleep

from flexiflow import EventBus
from flexiflow.extras.durable import (
    BridgeStatistics,
    Followed,
    MemoryTransport,
    Postponed,
    open_bridge,
)
from tests.durable.bridge.helpers import (
    GROUP,
    NAME,
    Faulty,
    Handler,
    Refused,
    consuming,
    pending,
    play,
    put,
    until,
)


class Failing:
    """A handler that fails some of its calls.

    Args:
        fails: how many calls of each payload fail.

    Attributes:
        calls: the payloads, and when it was called with them.
    """

    def __init__(self, **fails: int) -> None:
        self.calls: list[tuple[str, float]] = []
        self._fails = fails

    async def __call__(self, data: str) -> None:
        """Handle an event."""
        self.calls.append((data, current_time()))
        if self._fails.get(data, 0) > 0:
            self._fails[data] -= 1
            raise Refused(data)

    @property
    def names(self) -> list[str]:
        """The payloads of the calls, in order."""
        return [name for name, _ in self.calls]


def first(data: str) -> str:
    """Take the key: the first letter."""
    return data[0]


@pytest.mark.unmeasured
def test_restarts_spend_no_attempts(backend: str) -> None:
    """X12: An event that waits is not tried before it is due, however often its worker restarts."""

    async def scenario() -> None:
        transport, handler = MemoryTransport(), Failing(a1=9)
        await put(transport, "a1")
        began = current_time()
        options = {"retry_delay": 60.0, "max_attempts": 2}
        for _ in range(5):
            async with consuming(transport, handler, **options) as bridge:
                await until(lambda: len(handler.calls) == 1)
                await sleep(0.4)
        async with consuming(transport, handler, **options) as bridge:
            await until(lambda: bridge.statistics().waiting == 1)
            await until(lambda: bridge.statistics().dead, 1000)
        assert [round(time - began) for _, time in handler.calls] == [0, 60]

    play(scenario, backend, schedules=3)


@pytest.mark.unmeasured
@pytest.mark.parametrize("partitions", [None, 1])
def test_a_key_keeps_its_order_over_restarts(backend: str, partitions: int | None) -> None:
    """X12: What waits behind a failing event of its key comes after it, in order."""

    async def scenario() -> None:
        transport, handler = MemoryTransport(partitions=partitions), Failing(a1=2)
        await put(transport, "a1", "b1", "a2", "a3", key=first)
        options = {"retry_delay": 5.0, "limit": 1}
        async with consuming(transport, handler, **options) as bridge:
            await until(lambda: bridge.statistics().waiting == 3)
            assert bridge.statistics().held == 0
            acknowledged = bridge.statistics().acknowledged
        await put(transport, "a4", "b2", key=first)
        async with consuming(transport, handler, **options) as bridge:
            await until(lambda: handler.names.count("b2"))
            await put(transport, "a5", key=first)
            await until(lambda: bridge.statistics().acknowledged + acknowledged == 7, 100)
            assert bridge.statistics().dead == 0
        calls = [each for each in handler.names if each[0] == "a"]
        if partitions is None:
            # One log that all share keeps the order of what one worker held.
            calls = [each for each in calls if each in ("a1", "a2", "a3")]
            assert calls == ["a1", "a1", "a1", "a2", "a3"]
        else:
            assert calls == ["a1", "a1", "a1", "a2", "a3", "a4", "a5"]

    play(scenario, backend, schedules=3)


@pytest.mark.unmeasured
def test_a_key_is_free_again_once_nothing_of_it_waits(backend: str) -> None:
    """X12: Its next events are handled where they are, without a way through the transport."""

    async def scenario() -> None:
        transport = MemoryTransport()
        faulty, handler = Faulty(transport), Failing(a1=1)
        await put(transport, "a1", "a2", key=first)
        async with consuming(faulty, handler, retry_delay=1.0) as bridge:
            await until(lambda: bridge.statistics().acknowledged == 2)
            await put(transport, "a3", key=first)
            await until(lambda: bridge.statistics().acknowledged == 3)
        assert handler.names == ["a1", "a1", "a2", "a3"]
        kinds = [type(each).__name__ for each in faulty.outcomes]
        assert kinds == [
            *("Postponed", "Postponed", "Acknowledged", "Followed"),
            *("Acknowledged", "Followed", "Acknowledged"),
        ]

    play(scenario, backend, schedules=3)


def test_what_comes_while_a_line_ends_waits_in_it(backend: str) -> None:
    """X12: A key is free only where nothing of it is on its way to the transport."""

    async def scenario() -> None:
        transport = MemoryTransport()
        faulty, handler = Faulty(transport), Failing(a1=1)
        await put(transport, "a1", key=first)
        async with consuming(faulty, handler, retry_delay=10.0) as bridge:
            await until(lambda: bridge.statistics().waiting)
            hold = faulty.hold("settle", is_late=True)
            await hold.reached.wait()
            assert isinstance(faulty.outcomes[-1], Followed)
            # The line is over at the transport, and the worker does not know it yet.
            await put(transport, "a2", "a3", key=first)
            await until(lambda: bridge.statistics().held == 3, 50)
            hold.open.set()
            await until(lambda: bridge.statistics().acknowledged == 3)
        assert handler.names == ["a1", "a1", "a2", "a3"]
        behind = [each for each in faulty.outcomes if isinstance(each, Postponed)][1:]
        assert [(each.delay, each.key) for each in behind] == [(None, "a"), (None, "a")]

    play(scenario, backend, schedules=3)


async def test_failing_events_hold_up_no_healthy_ones() -> None:
    """X12: An event that waits has no place of those that are held."""
    transport, handler = MemoryTransport(), Handler()
    bus = EventBus()

    def fail(data: int) -> None:
        if data < 100:
            raise Refused(data)

    await bus.subscribe(NAME, "c", fail)
    await bus.subscribe(NAME, "d", handler)
    await put(transport, *range(150))
    logging.disable(logging.CRITICAL)
    try:
        async with open_bridge(
            bus, transport, incoming=[NAME], group=GROUP, prefetch=10, limit=2, retry_delay=30.0
        ) as bridge:
            await until(lambda: bridge.statistics().acknowledged == 50)
            await until(lambda: bridge.statistics().held == 0)
            assert bridge.statistics().failed == 100
    finally:
        logging.disable(logging.NOTSET)


async def test_what_waits_holds_no_place_of_the_log() -> None:
    """X12: A log of two records takes more while two wait."""
    transport, handler = MemoryTransport(max_length=2), Failing(a=9, b=9)
    await put(transport, "a", "b")
    async with consuming(transport, handler, retry_delay=30.0) as bridge:
        await until(lambda: bridge.statistics().failed == 2)
        await until(lambda: bridge.statistics().held == 0)
        await put(transport, "c", "d")
        await until(lambda: bridge.statistics().acknowledged == 2)


@pytest.mark.unmeasured
def test_with_too_many_that_wait_none_is_received(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """X12: Until one of them is through; that is told, once."""

    async def scenario() -> None:
        caplog.clear()
        transport, handler = MemoryTransport(), Failing(a=1, b=1)
        await put(transport, "a", "b", "c")
        async with consuming(
            transport, handler, retry_delay=20.0, max_waiting=2, prefetch=1, limit=1, lease=6.0
        ) as bridge:
            await until(lambda: bridge.statistics().waiting == 2)
            with move_on_after(10):
                await until(lambda: bridge.statistics().acknowledged, 1000)
            assert handler.names == ["a", "b"]
            assert bridge.statistics().lag == 1
            await until(lambda: bridge.statistics().acknowledged == 3, 1000)
        told = [each.getMessage() for each in caplog.records if "max_waiting" in each.msg]
        told_once = "a partition of which 2 wait receives no new ones, since max_waiting is 2"
        assert told == [f"2 events of the group 'billing' wait for their next attempt: {told_once}"]

    play(scenario, backend, schedules=2)


def test_a_partition_may_have_its_share_of_what_waits(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """X12: One that has it receives nothing new, which is told; the others go on."""

    async def scenario() -> None:
        caplog.clear()
        transport, handler = MemoryTransport(partitions=2), Failing(a=9, b=9)
        await put(transport, "a", "b", "c", key=lambda _: "same")
        await put(transport, *"de", key=lambda data: "other" if data == "d" else "another one")
        async with consuming(
            transport, handler, retry_delay=1000.0, max_waiting=4, prefetch=1, lease=6.0
        ) as bridge:
            await until(lambda: bridge.statistics().waiting == 2, 1000)
            await sleep(60)
            assert "c" not in handler.names
        told = [each.getMessage() for each in caplog.records if "max_waiting" in each.msg]
        [line] = told
        assert line.endswith("of which 2 wait receives no new ones, since max_waiting is 4")

    play(scenario, backend, schedules=2)


@pytest.mark.unmeasured
def test_the_default_retries_last_for_ten_minutes(backend: str) -> None:
    """X12: So an outage of something else buries nothing."""

    async def scenario() -> None:
        transport, times = MemoryTransport(), list[float]()

        def handler(data: object) -> None:
            times.append(current_time())
            raise Refused

        bus = EventBus()
        await bus.subscribe(NAME, "c", handler)
        await put(transport, 1)
        async with open_bridge(bus, transport, incoming=[NAME], group=GROUP) as bridge:
            await until(lambda: bridge.statistics().dead, 10_000)
        assert len(times) == 30
        assert times[-1] - times[0] >= 600

    logging.disable(logging.CRITICAL)
    try:
        play(scenario, backend, schedules=1)
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.unmeasured
def test_another_worker_goes_on_with_a_dead_ones_line(backend: str) -> None:
    """X12: It is given what waits when that is due, and then the rest of its key, in order."""

    async def scenario() -> None:
        transport, handler = MemoryTransport(), Failing(a1=1)
        faulty = Faulty(transport)
        await put(transport, "a1", "a2", "a3", key=first)
        async with create_task_group() as group:

            async def die() -> None:
                async with consuming(faulty, handler, retry_delay=30.0, lease=3.0) as bridge:
                    await until(lambda: bridge.statistics().waiting == 3)
                    # From here on it can't be told of anything.
                    with faulty.away("renew", "settle", "receive", "release", "join", "leave"):
                        await sleep(100)

            group.start_soon(die)
            await until(lambda: handler.calls)
            await sleep(5)
            other = Failing()
            async with consuming(transport, other, retry_delay=30.0, lease=3.0) as bridge:
                await until(lambda: bridge.statistics().acknowledged == 3, 100)
            assert other.names == ["a1", "a2", "a3"]
            group.cancel_scope.cancel()

    play(scenario, backend, schedules=2)


def shown(statistics: BridgeStatistics) -> dict[str, Any]:
    """Return what differs from nothing."""
    fields = {name: getattr(statistics, name) for name in BridgeStatistics.__slots__}
    return {name: value for name, value in fields.items() if value}


async def test_statistics_tell_what_waits() -> None:
    """X12: As of the last look at the group."""
    transport = MemoryTransport()
    await put(transport, "a")
    handler = Failing(a=1)
    async with consuming(transport, handler, retry_delay=30.0) as bridge:
        await until(lambda: bridge.statistics().failed)
        await until(lambda: not bridge.statistics().held)
    async with consuming(transport, handler) as bridge:
        await until(lambda: shown(bridge.statistics()) == {"waiting": 1})


def test_what_has_waited_takes_half_of_the_places(backend: str) -> None:
    """X12: A healthy event finds one, though handlers of those that failed before take long."""

    async def scenario() -> None:
        transport, gate, failed, done = MemoryTransport(), Event(), set[int](), list[int]()

        async def handler(data: int) -> None:
            if data < 8:
                if data not in failed:
                    failed.add(data)
                    raise Refused(data)
                await gate.wait()
            done.append(data)

        await put(transport, *range(8))
        async with consuming(transport, handler, prefetch=4, limit=4) as bridge:
            await until(lambda: len(failed) == 8)
            await sleep(60)
            assert bridge.statistics().held == 2
            await put(transport, 8, 9)
            await until(lambda: done == [8, 9], 1000)
            gate.set()
            await until(lambda: bridge.statistics().acknowledged == 10, 1000)
        assert pending(transport) == {}

    play(scenario, backend, schedules=3)


def test_with_room_for_one_what_has_waited_is_not_kept_waiting(backend: str) -> None:
    """X12: Where there is nothing else, it is given as soon as it is due."""

    async def scenario() -> None:
        transport, names = MemoryTransport(), "abcdefgh"
        handler = Failing(**dict.fromkeys(names, 1))
        await put(transport, *names)
        async with consuming(
            transport, handler, prefetch=1, limit=1, retry_delay=0.01, lease=300.0
        ) as bridge:
            begun = current_time()
            await until(lambda: bridge.statistics().acknowledged == len(names))
            # It would wait for something new for a second each time.
            assert current_time() - begun < 0.5

    play(scenario, backend, schedules=2)
