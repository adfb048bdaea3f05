"""Events that one worker can't read and another can: Y1."""

from typing import Any

import pytest
from anyio import create_task_group, current_time

from flexiflow import EventBus
from flexiflow.extras.durable import (
    LeaseLost,
    MemoryTransport,
    Postponed,
    Returned,
    Schema,
    open_bridge,
)
from flexiflow.extras.durable._bridge.resting import Resting
from flexiflow.extras.durable._bridge.worker import Worker
from tests.durable.bridge.helpers import (
    GROUP,
    NAME,
    Faulty,
    Handler,
    consuming,
    pending,
    play,
    until,
)

OLD = Schema[object](NAME, encode=lambda data: data, decode=lambda data: data)
NEW = Schema[object](NAME, encode=lambda data: data, decode=lambda data: data, version=2)


async def publish(transport: MemoryTransport, *payloads: object) -> None:
    """Publish events as a process with the newer code does."""
    bus = EventBus(on_error="raise")
    async with open_bridge(bus, transport, outgoing=[NAME], schemas=[NEW]):
        for each in payloads:
            await bus.publish(NAME, each)


def test_another_worker_is_given_what_one_can_not_read(backend: str) -> None:
    """Y1: Each time that it has waited; meanwhile it is pending, and no suspect."""

    async def scenario() -> None:
        transport, old, new = MemoryTransport(), Handler(), Handler()
        faulty = Faulty(transport)
        await publish(transport, 1, 2, 3)
        async with consuming(faulty, old, schemas=[OLD], retry_delay=10.0) as bridge:
            await until(lambda: {*pending(transport).values()} == {(0, 0, True)})
            assert bridge.statistics().held == 3
            async with consuming(transport, new, schemas=[NEW]):
                await until(lambda: len(new.done) == 3, 1000)
            assert bridge.statistics().dead == 0
        assert not any(isinstance(each, Postponed) for each in faulty.outcomes)
        assert (sorted(new.done), old.begun, pending(transport)) == ([1, 2, 3], [], {})

    play(scenario, backend, schedules=3)


async def test_a_worker_keeps_no_more_than_may_wait() -> None:
    """Y1, X12: The others wait at the transport."""
    transport = MemoryTransport()
    faulty = Faulty(transport)
    await publish(transport, 1, 2, 3)
    options: dict[str, Any] = {"schemas": [OLD], "retry_delay": 1000.0, "max_waiting": 2}
    async with consuming(faulty, Handler(), **options) as bridge:
        await until(lambda: any(isinstance(each, Postponed) for each in faulty.outcomes))
        await until(lambda: bridge.statistics().held == 2)
        worker = bridge._worker
        assert isinstance(worker, Worker)
        assert len(worker._intakes[0]._unread) == 2


@pytest.mark.parametrize("is_lost", [False, True])
async def test_what_rests_is_given_back_in_the_end(is_lost: bool) -> None:
    """Y1, X5: Also where the lease is lost; it counts as no attempt, and as no death."""
    transport = MemoryTransport()
    faulty = Faulty(transport)
    await publish(transport, 1)
    options: dict[str, Any] = {"schemas": [OLD], "retry_delay": 1000.0}
    async with consuming(faulty, Handler(), **options):
        await until(lambda: pending(transport) == {1: (0, 0, True)})
        if is_lost:
            faulty.fail("receive", LeaseLost("me", GROUP, 0))
            await publish(transport, 2)
            await until(lambda: Returned("1", 0, 0) in faulty.outcomes)
    assert pending(transport)[1] == (0, 0, False)
    assert Returned("1", 0, 0) in faulty.outcomes


def test_an_event_rests_until_its_time_and_not_if_it_was_dropped(backend: str) -> None:
    """Y1: The one that is due first comes first; one that was given anew rests anew."""

    async def scenario() -> None:
        begun, given = current_time(), list[tuple[str, float]]()
        resting = Resting(lambda each: given.append((each.position, current_time() - begun)))
        async with create_task_group() as group:
            group.start_soon(resting.run)
            resting.add("1", 0, 10.0)
            resting.add("2", 0, 30.0)
            await until(lambda: current_time() - begun >= 5)
            resting.drop("1")
            resting.add("1", 0, 10.0)
            resting.add("3", 0, 1.0)
            assert len(resting) == 3
            await until(lambda: len(given) == 3, 100)
            assert len(resting) == 0
            group.cancel_scope.cancel()
        assert [each for each, _ in given] == ["3", "1", "2"]
        assert [time for _, time in given] == pytest.approx([6, 15, 30], abs=0.2)

    play(scenario, backend, schedules=2)
