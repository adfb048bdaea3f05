"""Events that cause each other across processes, and how deep they go: Y2."""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from anyio import Event, create_task_group

from flexiflow import EventBus
from flexiflow.extras.durable import (
    Bridge,
    CurrentDelivery,
    MemoryTransport,
    current_delivery,
    open_bridge,
)
from tests.durable.bridge.helpers import (
    GROUP,
    NAME,
    Handler,
    Refused,
    consuming,
    put,
    put_bodies,
    until,
)

EVENT = {"specversion": "1.0", "id": "1", "source": "shop", "type": NAME}


def depths(transport: MemoryTransport) -> list[tuple[str, int]]:
    """Return the names of the stored events, and how deep each says that it is."""
    events = [json.loads(record.body) for record in transport._state.logs[0].records.values()]
    return [(event["type"], event["depth"]) for event in events]


@asynccontextmanager
async def answering(
    transport: MemoryTransport,
    taken: str,
    stored: str,
    how: Callable[[EventBus, str], Any] | None = None,
    **options: Any,
) -> AsyncGenerator[Bridge]:
    """Be a process that publishes an event for each one that it is given."""
    bus = EventBus(on_error="raise")

    async def answer(data: object) -> None:
        await (bus.publish(stored) if how is None else how(bus, stored))

    await bus.subscribe(taken, "c", answer)
    ways: dict[str, Any] = {"incoming": [taken], "outgoing": [stored], "group": f"of-{taken}"}
    async with open_bridge(bus, transport, **(ways | options)) as bridge:
        yield bridge


async def test_a_loop_across_processes_ends() -> None:
    """Y2: Each event is one deeper than what caused it; one too deep is dead on arrival."""
    transport = MemoryTransport()
    async with (
        answering(transport, "ping", "pong", max_depth=5) as left,
        answering(transport, "pong", "ping", max_depth=5) as right,
    ):
        await put(transport, 1, name="ping")
        await until(lambda: right.statistics().dead)
        assert (left.statistics().delivered, right.statistics().delivered) == (3, 2)
        (letter,) = await right.dead_letters()
        assert (letter.attempts, letter.failure.type) == (
            0,
            "flexiflow.extras.durable._errors.TooDeep",
        )
        assert letter.failure.message == (
            "'pong' is event 6 of a chain in which each was published while the one before was "
            "handled, and max_depth is 5: end the loop, or redrive it with a higher max_depth"
        )
    assert depths(transport) == [
        *(("ping", 1), ("pong", 2), ("ping", 3), ("pong", 4), ("ping", 5), ("pong", 6))
    ]


async def test_one_that_was_too_deep_may_be_redriven_with_a_greater_depth() -> None:
    """Y2: It is as it was, and the chain goes on from it."""
    transport = MemoryTransport()
    await put_bodies(transport, json.dumps(EVENT | {"depth": 7}).encode())
    handler = Handler()
    async with consuming(transport, handler, max_depth=6) as bridge:
        await until(lambda: bridge.statistics().dead)
        (letter,) = await bridge.dead_letters()
    async with answering(transport, NAME, "paid", group=GROUP, max_depth=7) as bridge:
        assert await bridge.redrive(letter.id) == 1
        await until(lambda: bridge.statistics().acknowledged)
    assert depths(transport)[1:] == [(NAME, 7), ("paid", 8)]


async def _in_a_task(bus: EventBus, name: str) -> None:
    async with create_task_group() as group:
        group.start_soon(bus.publish, name)


async def _in_the_background(bus: EventBus, name: str) -> None:
    async with bus.background() as background:
        await background.publish(name)


async def _within_another(bus: EventBus, name: str) -> None:
    async def publish(data: object) -> None:
        await bus.publish(name)

    with await bus.subscribe("inner", "d", publish):
        await bus.publish("inner")


async def _on_another_bus(bus: EventBus, name: str) -> None:
    other = EventBus(on_error="raise")
    await other.subscribe("*", "d", lambda data: bus.publish(name))
    await other.publish("elsewhere")


@pytest.mark.parametrize("how", [_in_a_task, _in_the_background, _within_another, _on_another_bus])
async def test_the_cause_is_the_event_for_which_the_publisher_runs(
    how: Callable[[EventBus, str], Any],
) -> None:
    """Y2: Also in tasks that a handler starts; events that are not stored do not count."""
    transport = MemoryTransport()
    await put(transport, 1)
    async with answering(transport, NAME, "paid", how) as bridge:
        await until(lambda: bridge.statistics().acknowledged)
    assert depths(transport) == [(NAME, 1), ("paid", 2)]


async def test_what_is_tried_again_is_no_deeper() -> None:
    """Y2: Nor is what other events cause that the same task handles after it."""
    transport, fails = MemoryTransport(), [2]

    async def publish(bus: EventBus, name: str) -> None:
        await bus.publish(name)
        if fails[0]:
            fails[0] -= 1
            raise Refused

    await put(transport, 1, 2)
    async with answering(transport, NAME, "paid", publish, retry_delay=0, limit=1) as bridge:
        await until(lambda: bridge.statistics().acknowledged == 2)
    assert {*depths(transport)} == {(NAME, 1), ("paid", 2)}


async def test_a_task_that_outlives_its_handler_still_has_the_cause() -> None:
    """Y2: As `current_event` tells it to be (I4)."""
    transport, bus, done = MemoryTransport(), EventBus(on_error="raise"), Event()
    await put(transport, 1)
    async with create_task_group() as group:

        async def later() -> None:
            await done.wait()
            await bus.publish("paid")

        def begin(data: object) -> None:
            group.start_soon(later)

        await bus.subscribe(NAME, "c", begin)
        ways: dict[str, Any] = {"incoming": [NAME], "outgoing": ["paid"], "group": GROUP}
        async with open_bridge(bus, transport, **ways) as bridge:
            await until(lambda: bridge.statistics().acknowledged)
            done.set()
            await until(lambda: bridge.statistics().stored)
    assert depths(transport) == [(NAME, 1), ("paid", 2)]


@pytest.mark.parametrize("depth", [None, "7", 7.0, 0, -3, True, [], "absent"])
async def test_one_whose_depth_nobody_knows_is_the_first(depth: object) -> None:
    """Y2: Other software may write none, or something else by that name."""
    transport, seen = MemoryTransport(), list[CurrentDelivery | None]()
    given = {} if depth == "absent" else {"depth": depth}
    await put_bodies(transport, json.dumps(EVENT | given).encode())
    async with consuming(transport, lambda _: seen.append(current_delivery())):
        await until(lambda: seen)
    assert [each and each.depth for each in seen] == [1]


async def test_a_handler_sees_the_depth_the_group_and_the_replay() -> None:
    """Y2, Y5: `current_delivery` shows them; the number of the replay has grown."""
    transport, seen = MemoryTransport(), list[CurrentDelivery | None]()
    await put_bodies(transport, json.dumps(EVENT | {"depth": 3}).encode())
    async with consuming(transport, lambda _: seen.append(current_delivery())) as bridge:
        await until(lambda: bridge.statistics().acknowledged)
        await bridge.replay(GROUP, since="oldest")
        await until(lambda: bridge.statistics().acknowledged == 2)
    first, second = seen
    assert first is not None
    assert second is not None
    assert (first.depth, first.group) == (second.depth, second.group) == (3, GROUP)
    assert first.replay < second.replay
