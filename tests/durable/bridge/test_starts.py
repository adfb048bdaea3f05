"""Where a group begins, and how it begins again: Y5."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from anyio import Event, sleep

from flexiflow import EventBus, ReceiverClosed
from flexiflow.extras.durable import (
    Bridge,
    MemoryTransport,
    StartTrimmed,
    Transport,
    current_delivery,
    open_bridge,
)
from tests.durable.bridge.helpers import (
    GROUP,
    NAME,
    Handler,
    Refused,
    consuming,
    pending,
    play,
    put,
    until,
)


async def clock(transport: Transport) -> datetime:
    """Return the time by the transport's clock."""
    async with transport.connect() as connection:
        return datetime.fromtimestamp((await connection.survey()).now, UTC)


async def place(transport: Transport) -> Sequence[str]:
    """Return the position behind the last event of each partition."""
    async with transport.connect() as connection:
        _, found = await connection.tail(None, 1, 0)
        return found


async def _handle_five(transport: Transport, bridge: Bridge) -> None:
    """Let a bridge acknowledge five events, one after the other, so that the first are deleted."""
    for number in range(5):
        await put(transport, number)
        await until(partial(_has_acknowledged, bridge, number + 1))


def _has_acknowledged(bridge: Bridge, number: int) -> bool:
    return bridge.statistics().acknowledged == number


@pytest.mark.parametrize(
    ("start", "given"),
    [
        ("oldest", [1, 2, 3]),
        ("new", [3]),
        ("time", [2, 3]),
        ("position", [2, 3]),
        ("positions", [2, 3]),
    ],
)
def test_a_group_begins_where_its_first_bridge_says(
    backend: str, start: str, given: list[int]
) -> None:
    """Y5: The oldest by default; and there it stays, whatever later ones say."""

    async def scenario() -> None:
        transport, handler = MemoryTransport(), Handler()
        await put(transport, 1)
        await sleep(10)
        places: dict[str, Any] = {
            "time": await clock(transport) - timedelta(seconds=5),
            "position": (await place(transport))[0],
            "positions": await place(transport),
        }
        await put(transport, 2)
        options = {} if start == "oldest" else {"start": places.get(start, start)}
        async with consuming(transport, handler, limit=1, **options):
            await put(transport, 3)
            await until(lambda: handler.done == given)
        await put(transport, 4)
        async with consuming(transport, handler, start="new"):
            await until(lambda: handler.done == [*given, 4])

    play(scenario, backend, schedules=2)


async def test_a_start_is_fixed_for_all_partitions() -> None:
    """Y5: With a position for each of them."""
    transport, handler = MemoryTransport(partitions=3), Handler()
    await put(transport, *range(9), key=str)
    places = await place(transport)
    await put(transport, *range(9, 18), key=str)
    async with consuming(transport, handler, start=places):
        await until(lambda: len(handler.done) == 9)
    assert sorted(handler.done) == [*range(9, 18)]


@pytest.mark.parametrize("start", ["-1", "7", ["1", "1"]])
async def test_a_start_that_is_no_position_is_refused_on_entering(start: Any) -> None:
    """Y5: Nothing has changed then: the bridge has no place, and there is no group."""
    transport, bus = MemoryTransport(), EventBus()
    await put(transport, 1)
    ways: dict[str, Any] = {"incoming": [NAME], "outgoing": ["paid"], "group": GROUP}
    with pytest.raises(ValueError, match="position"):
        async with open_bridge(bus, transport, start=start, **ways):
            pass
    assert bus.subscriptions() == ()
    async with transport.connect() as connection:
        assert await connection.groups() == []


async def test_a_start_that_was_trimmed_is_refused_on_entering() -> None:
    """Y5: The message says which position would be right."""
    transport, handler = MemoryTransport(max_length=2), Handler()
    async with consuming(transport, handler) as bridge:
        await _handle_five(transport, bridge)
    ways: dict[str, Any] = {"incoming": [NAME], "group": "other", "start": "1"}
    with pytest.raises(StartTrimmed, match="'oldest' is always right"):
        async with open_bridge(EventBus(), transport, **ways):
            pass


def test_replay_hands_events_out_again(backend: str) -> None:
    """Y5: What was handled, waits for an attempt, or is dead; what runs of it is cancelled."""

    async def scenario() -> None:
        transport, replays, gate = MemoryTransport(), list[tuple[Any, int]](), Event()
        await put(transport, *range(5))
        begun, numbers = Event(), set[int]()

        async def handle(data: int) -> None:
            delivery = current_delivery()
            assert delivery is not None
            numbers.add(delivery.replay)
            if delivery.replay > min(numbers):
                replays.append((data, delivery.attempt))
            elif data == 1:
                raise Refused
            elif data == 4:
                begun.set()
                await gate.wait()

        ways: dict[str, Any] = {"retry_delay": 1000.0, "lease": 9.0}
        async with consuming(transport, handle, **ways) as bridge:
            await begun.wait()
            await until(lambda: bridge.statistics().acknowledged == 3)
            async with open_bridge(EventBus(), transport, outgoing=["other"]) as other:
                replayed = await other.replay(GROUP, since="oldest")
            assert replayed.is_complete
            await until(lambda: len(replays) == 5, 1000)
            await until(lambda: bridge.statistics().held == 0, 1000)
        assert sorted(replays) == [(number, 1) for number in range(5)]
        assert pending(transport) == {}

    play(scenario, backend, schedules=2)


@pytest.mark.parametrize("since", ["new", "time", "position"])
def test_replay_goes_on_from_a_later_place(backend: str, since: str) -> None:
    """Y5: What comes before and was not handed out is passed over, and not missed."""

    async def scenario() -> None:
        transport, handler = MemoryTransport(), Handler()
        async with consuming(transport, handler):
            pass
        await put(transport, 1)
        await sleep(10)
        places: dict[str, Any] = {
            "time": await clock(transport),
            "position": await place(transport),
        }
        async with open_bridge(EventBus(), transport) as bridge:
            await bridge.replay(GROUP, since=places.get(since, since))
        await put(transport, 2)
        async with consuming(transport, handler) as bridge:
            await until(lambda: handler.done)
            assert bridge.statistics().missed == 0
        assert handler.done == [2]

    play(scenario, backend, schedules=1)


async def test_replay_tells_that_some_events_are_gone(caplog: pytest.LogCaptureFixture) -> None:
    """Y5: They were deleted; that is told, and is no loss."""
    transport, handler = MemoryTransport(max_length=2), Handler()
    begun = datetime.now(UTC) - timedelta(hours=1)
    async with consuming(transport, handler) as bridge:
        await _handle_five(transport, bridge)
        caplog.set_level(logging.WARNING)
        replayed = await bridge.replay(GROUP, since=begun)
        assert not replayed.is_complete
        await until(lambda: len(handler.done) > 5)
        assert bridge.statistics().missed == 0
    (told,) = caplog.records
    assert told.getMessage() == (
        "the group 'billing' begins again with the oldest events that are kept: some since "
        f"{begun} were deleted"
    )


@pytest.mark.parametrize(
    ("group", "since", "exception", "message"),
    [
        (3, "new", TypeError, "group must be a str, not 3"),
        ("a b", "new", ValueError, "group must be of letters"),
        (GROUP, datetime(2030, 1, 1), ValueError, "since must have a time zone"),  # noqa: DTZ001
        (GROUP, 3.0, TypeError, "since must be 'oldest', 'new', a datetime, a position"),
        (GROUP, "newest", ValueError, "since must be 'oldest', 'new', a datetime, a position"),
        (GROUP, "7", ValueError, "position"),
        ("nobody", "new", ValueError, "nobody"),
    ],
)
async def test_a_wrong_replay_changes_nothing(
    group: Any, since: Any, exception: type[Exception], message: str
) -> None:
    """Y5: The message says what would be right."""
    transport, handler = MemoryTransport(), Handler()
    await put(transport, 1)
    async with consuming(transport, handler) as bridge:
        await until(lambda: bridge.statistics().acknowledged)
        with pytest.raises(exception, match=message):
            await bridge.replay(group, since=since)
        await put(transport, 2)
        await until(lambda: bridge.statistics().acknowledged == 2)
    assert handler.done == [1, 2]
    with pytest.raises(ReceiverClosed, match="the bridge is over"):
        await bridge.replay(GROUP, since="new")
