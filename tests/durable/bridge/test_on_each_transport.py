"""Schemas, depth, schedules and starts through bridges, on each transport: Y1 to Y3, and Y5."""

import json
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from flexiflow import EventBus, Topic
from flexiflow.extras.durable import Schema, Transport, current_delivery, open_bridge
from tests.durable.bridge.helpers import GROUP, NAME, Handler, consuming, put, put_bodies, until
from tests.durable.transports import each_transport


@dataclass(frozen=True)
class Order:
    """An order as version 2 knows it."""

    id: str
    currency: str


ORDER = Topic[Order](NAME)
FIRST = Schema[Any](NAME, encode=dict, decode=dict)
SECOND = Schema.of(ORDER, version=2, upcast={1: lambda old: {**old, "currency": "EUR"}})
BROKEN = Schema.of(ORDER, version=2)


@pytest.fixture(params=each_transport())
def transport(request: pytest.FixtureRequest) -> Generator[Transport]:
    """Give a test a transport of each kind."""
    with request.param() as tried:
        yield tried.factory()


async def publish(transport: Transport, data: Any, *schemas: Schema[Any]) -> None:
    """Publish an event as another process would."""
    bus = EventBus(on_error="raise")
    async with open_bridge(bus, transport, outgoing=[NAME], schemas=schemas):
        await bus.publish(NAME, data)


async def test_later_code_reads_what_earlier_code_has_stored(transport: Transport) -> None:
    """Y1: What it can't read is a dead letter, which is read once the code is mended."""
    handler = Handler()
    await publish(transport, {"id": "a"}, FIRST)
    await publish(transport, Order("b", "CHF"), SECOND)
    async with consuming(transport, handler, schemas=[BROKEN]) as bridge:
        await until(lambda: bridge.statistics().dead == bridge.statistics().acknowledged == 1)
        (letter,) = await bridge.dead_letters()
    assert "no upcast leads from version 1" in letter.failure.message
    async with consuming(transport, handler, schemas=[SECOND]) as bridge:
        assert await bridge.redrive(letter.id) == 1
        await until(lambda: bridge.statistics().acknowledged)
    assert handler.done == [Order("b", "CHF"), Order("a", "EUR")]


async def test_a_newer_version_waits_for_newer_code(
    transport: Transport, caplog: pytest.LogCaptureFixture
) -> None:
    """Y1: Without an attempt being counted."""
    old, attempts = Handler(), list[tuple[Any, int]]()
    await publish(transport, Order("a", "CHF"), SECOND)
    async with consuming(transport, old, schemas=[FIRST], retry_delay=0.01) as bridge:
        await until(lambda: "until then it is tried again" in caplog.text)
        assert bridge.statistics().delivered == 0

    def note(data: object) -> None:
        delivery = current_delivery()
        assert delivery is not None
        attempts.append((data, delivery.attempt))

    async with consuming(transport, note, schemas=[SECOND]):
        await until(lambda: attempts)
    assert (old.begun, attempts) == ([], [(Order("a", "CHF"), 1)])


async def test_a_loop_ends(transport: Transport) -> None:
    """Y2: An event that is too deep is dead on arrival."""
    bus = EventBus(on_error="raise")
    await bus.subscribe("ping", "c", lambda data: bus.publish("pong"))
    other = EventBus(on_error="raise")
    await other.subscribe("pong", "c", lambda data: other.publish("ping"))
    ways: dict[str, Any] = {"incoming": ["ping"], "outgoing": ["pong"], "group": "a"}
    back: dict[str, Any] = {"incoming": ["pong"], "outgoing": ["ping"], "group": "b"}
    async with (
        open_bridge(bus, transport, max_depth=4, **ways) as first,
        open_bridge(other, transport, max_depth=4, **back) as second,
    ):
        await put(transport, 1, name="ping")
        await until(lambda: first.statistics().dead)
        (letter,) = await first.dead_letters()
        assert (first.statistics().delivered, second.statistics().delivered) == (2, 2)
    assert "'ping' is event 5 of a chain" in letter.failure.message


async def test_what_is_scheduled_is_handed_out_unless_it_is_cancelled(
    transport: Transport,
) -> None:
    """Y3: When its time has come, by any bridge of the transport."""
    handler = Handler()
    async with (
        consuming(transport, handler, limit=1) as bridge,
        open_bridge(EventBus(), transport, outgoing=["other"]) as other,
    ):
        late = await bridge.schedule(NAME, 1, delay=1000, key="k")
        await other.schedule(NAME, 3, delay=0.1, key="k")
        await bridge.schedule(NAME, 2, at=datetime.now(UTC), key="k")
        gone = await other.schedule(NAME, 4, delay=1000, key="k")
        assert await bridge.cancel(gone)
        await until(lambda: bridge.statistics().acknowledged == 2)
        assert [await other.cancel(gone), await other.cancel(late)] == [True, True]
        ticket = await other.schedule(NAME, 5, delay=0, key="k")
        await until(lambda: bridge.statistics().acknowledged == 3)
        assert not await bridge.cancel(ticket)
    # On a slow machine, 3 may be due before 2 is scheduled.
    assert sorted(handler.done) == [2, 3, 5]


async def test_a_group_begins_where_it_is_told_and_begins_again(transport: Transport) -> None:
    """Y5: With what is new, and then with all that is kept."""
    handler = Handler()
    await put(transport, 1)
    async with consuming(transport, handler, start="new", limit=1) as bridge:
        await put(transport, 2)
        await until(lambda: bridge.statistics().acknowledged == 1)
        assert handler.done == [2]
        assert (await bridge.replay(GROUP, since="oldest")).is_complete
        await until(lambda: len(handler.done) == 3)
    assert handler.done == [2, 1, 2]


async def test_a_stranger_s_key_that_is_no_text_is_a_dead_letter(transport: Transport) -> None:
    """X7: No transport is asked to keep it; an event that fails meanwhile is tried again."""
    handler = Handler(fails=1)
    event = {"specversion": "1.0", "id": "1", "source": "stranger", "type": NAME}
    await put_bodies(transport, json.dumps({**event, "partitionkey": "\ud800"}).encode())
    await put(transport, 1)
    async with consuming(transport, handler) as bridge:
        await until(lambda: bridge.statistics().acknowledged)
        (letter,) = await bridge.dead_letters()
    assert "partitionkey must be a non-empty str of text" in letter.failure.message
    assert handler.done == [1]
