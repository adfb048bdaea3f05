"""Events on the wire: X7."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flexiflow import EventBus
from flexiflow.extras.durable import JSON, MemoryTransport, NotEncodable, open_bridge
from flexiflow.extras.durable._bridge.cloudevents import Encoder, decode
from tests.durable.bridge.helpers import (
    GROUP,
    NAME,
    Handler,
    Pickle,
    consuming,
    put,
    put_bodies,
    until,
)

EVENT = {"specversion": "1.0", "id": "1", "source": "shop", "type": NAME}


def encoder() -> Encoder:
    """Make one that writes JSON."""
    return Encoder("shop", "p", JSON)


def test_an_event_has_the_names_of_cloudevents() -> None:
    """X7: The attributes of CloudEvents 1.0, in its JSON format, and nothing else."""
    event = json.loads(encoder().encode(NAME, {"id": 3}, None))
    moment = datetime.fromisoformat(event.pop("time"))
    assert abs(datetime.now(UTC) - moment) < timedelta(minutes=1)
    assert event == EVENT | {
        "id": "p-1",
        "datacontenttype": "application/json",
        "depth": 1,
        "data": {"id": 3},
    }


def test_no_two_events_have_an_id_in_common() -> None:
    """X7: A source and an id tell an event from all others."""
    write = encoder()
    ids = {json.loads(write.encode(NAME, 1, None))["id"] for _ in range(3)}
    assert ids == {"p-1", "p-2", "p-3"}


@pytest.mark.parametrize(
    "data",
    [None, True, 3, -0.5, 'Zürich 😀 \ud83d "\\', [], {}, {"a": [{"b": None}]}, 2**70],
    ids=repr,
)
def test_json_comes_back_as_it_was(data: Any) -> None:
    """X7: What JSON can hold, each payload alike."""
    name, key = "größe.order", 'k\n"'
    event = decode(Encoder('a "b"', "p", JSON).encode(name, data, key), JSON)
    assert (event.name, event.key, event.source, event.data) == (name, key, 'a "b"', data)
    assert JSON.decode(JSON.encode(data)) == data


def _endless() -> list[Any]:
    endless: list[Any] = []
    endless.append([endless])
    return endless


def _deep() -> list[Any]:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (float("nan"), "ValueError: Out of range"),
        ([float("inf")], "ValueError: Out of range"),
        ({3: "x"}, "TypeError: a key must be a str, not 3"),
        ([({"a": {None: 1}},)], "TypeError: a key must be a str, not None"),
        ({"a": b"x"}, "TypeError: Object of type bytes"),
        (_endless(), "ValueError: Circular"),
        (_deep(), "RecursionError"),
    ],
    ids=["nan", "inf", "int key", "deep None key", "bytes", "circular", "deep"],
)
def test_json_refuses_what_it_would_change(data: Any, reason: str) -> None:
    """X7: Nothing is stored that would not come back as it was."""
    with pytest.raises(NotEncodable, match=reason):
        encoder().encode(NAME, data, None)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "Expecting value"),
        (b"\xff", "codec can't decode"),
        (b"[]", r"JSON object, not \[\]"),
        (b'{"specversion": NaN}', "NaN is no JSON"),
        (b'{"data": [-1e999]}', "-1e999 is more than a float holds"),
        (b"[" * 100_000, "recursion"),
        ({"specversion": "0.3"}, "specversion must be '1.0', not '0.3'"),
        ({"id": ""}, "id must be a non-empty str, not ''"),
        ({"id": 3}, "id must be a non-empty str, not 3"),
        ({"source": None}, "source must be a non-empty str, not None"),
        ({"source": ""}, "source must be a non-empty str"),
        ({"type": ["a"]}, "type must be a non-empty str"),
        ({"time": 3}, "time must be a non-empty str, not 3"),
        ({"partitionkey": 3}, "partitionkey must be a non-empty str of text, not 3"),
        ({"partitionkey": ""}, "partitionkey must be a non-empty str of text, not ''"),
        ({"partitionkey": "\ud800"}, r"partitionkey must be a non-empty str of text, not '.ud800'"),
        ({"data_base64": "%"}, "base64"),
        ({"data_base64": 3}, "bytes-like"),
    ],
    ids=str,
)
def test_what_is_no_event_can_not_be_decoded(body: Any, reason: str) -> None:
    """X7: The message tells the first thing that is wrong."""
    if isinstance(body, dict):
        body = json.dumps(EVENT | body).encode()
    with pytest.raises(Exception, match=f"(?i){reason}"):
        decode(body, JSON)


def test_optional_attributes_may_be_missing() -> None:
    """X7: An event that another program wrote need not have a time, a key or a payload."""
    attributes = EVENT | {"extension": 3}
    event = decode(json.dumps(attributes).encode(), JSON)
    assert event == ("1", "shop", NAME, None, None, None, 1, attributes)


def test_there_may_be_spaces_around() -> None:
    """X7: As JSON allows, but nothing else."""
    body = json.dumps(EVENT, indent=1).encode()
    for each in (b"\n" + body, body + b" \n"):
        assert decode(each, JSON).name == NAME
    with pytest.raises(ValueError, match="Extra data"):
        decode(body + b"x", JSON)


def test_a_source_may_be_as_another_program_wrote_it() -> None:
    """X7: A payload in base64 is read by the codec."""
    event = decode(json.dumps(EVENT | {"data_base64": "eyJhIjoxfQ=="}).encode(), JSON)
    assert event.data == {"a": 1}


async def test_another_codec_writes_what_json_can_not_hold() -> None:
    """X7: Its payloads go in base64, with its own content type."""
    transport, handler, codec = MemoryTransport(), Handler(), Pickle()
    bus = EventBus()
    async with open_bridge(bus, transport, outgoing=[NAME], codec=codec):
        assert await bus.publish(NAME, {3, 4}) == ()
        (failed,) = await bus.publish(NAME, lambda: None)
        assert isinstance(failed.exception, NotEncodable)
    (record,) = transport._state.logs[0].records.values()
    assert json.loads(record.body)["datacontenttype"] == "application/x-pickle"
    async with consuming(transport, handler, codec=codec):
        await until(lambda: handler.done)
    assert handler.done == [{3, 4}]


async def test_a_codec_whose_failure_can_not_be_shown_is_a_failure() -> None:
    """X7: That the payload can't be encoded is told all the same."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    class Failing:
        content_type = "text/plain"

        def encode(self, data: object) -> bytes:
            raise Mute

        def decode(self, body: bytes) -> object:
            return body

    with pytest.raises(NotEncodable, match="not to be shown: ZeroDivisionError"):
        Encoder("a", "p", Failing()).encode(NAME, 1, None)


BAD_BODIES = (b"no JSON", b"{}", json.dumps(EVENT | {"type": "a..b"}).encode())


async def test_what_can_not_be_decoded_goes_to_the_dead_letters() -> None:
    """X7: At once, never tried again, with the reason; what comes after it is handled."""
    transport, handler = MemoryTransport(), Handler()
    await put_bodies(transport, *BAD_BODIES)
    await put(transport, 1)
    async with consuming(transport, handler) as bridge:
        await until(lambda: bridge.statistics().acknowledged)
        letters = await bridge.dead_letters()
        assert bridge.statistics().dead == 3
    assert [letter.body for letter in letters] == [*BAD_BODIES]
    assert [(letter.attempts, letter.failure.type) for letter in letters] == [
        (0, "json.decoder.JSONDecodeError"),
        (0, "builtins.ValueError"),
        (0, "builtins.ValueError"),
    ]
    assert "malformed event name 'a..b'" in letters[2].failure.message
    assert handler.begun == [1]
    assert transport._state.groups[GROUP].readings[0].pending == 0


async def test_a_source_names_who_publishes() -> None:
    """X7: What is given, or else the group, or else FlexiFlow."""
    transport = MemoryTransport()
    options: list[dict[str, Any]] = [{"source": "/shop", "group": "g"}, {"group": "g"}, {}]
    for each in options:
        bus = EventBus()
        async with open_bridge(bus, transport, outgoing=[NAME], **each):
            await bus.publish(NAME)
    sources = [
        json.loads(each.body)["source"] for each in transport._state.logs[0].records.values()
    ]
    assert sources == ["/shop", "g", "flexiflow"]
