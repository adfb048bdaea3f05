"""Payloads with schemas, on their way through a bridge: Y1."""

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import pytest
from anyio import Event, current_time

from flexiflow import EventBus, Topic
from flexiflow.extras.durable import (
    MemoryTransport,
    NotEncodable,
    Schema,
    current_delivery,
    open_bridge,
)
from tests.durable.bridge.helpers import (
    GROUP,
    NAME,
    Handler,
    Refused,
    consuming,
    die_with,
    pending,
    play,
    put,
    until,
)


@dataclass(frozen=True)
class Order:
    """What version 2 of the code knows of an order."""

    id: str
    currency: str = "EUR"


ORDER = Topic[Order](NAME)


def euros(old: dict[str, Any]) -> dict[str, Any]:
    """Upcast version 1, which knew one currency only."""
    return {**old, "currency": "EUR"}


FIRST = Schema[Any](NAME, encode=lambda data: data, decode=lambda data: data)
SECOND = Schema.of(ORDER, version=2, upcast={1: euros})


async def publish(transport: MemoryTransport, *payloads: Any, **options: Any) -> None:
    """Publish events as another process would."""
    bus = EventBus()
    async with open_bridge(bus, transport, outgoing=[NAME], **options):
        for each in payloads:
            assert await bus.publish(NAME, each) == ()


def always(data: object) -> str:
    """Make the key of all but one."""
    return "k"


def other(data: object) -> str:
    """Make another key."""
    return "other"


def bodies(transport: MemoryTransport) -> list[bytes]:
    """Return what is in the log."""
    return [record.body for record in transport._state.logs[0].records.values()]


async def test_handlers_are_given_what_decode_makes() -> None:
    """Y1: Written by `encode`, handed on as `decode` makes it, and that very object to all."""
    transport, handler, second = MemoryTransport(), Handler(), Handler()
    await publish(transport, Order("a", "CHF"), schemas=[SECOND])
    bus = EventBus()
    await bus.subscribe(ORDER, "c", handler)
    await bus.subscribe("order.*", "d", second)
    async with open_bridge(bus, transport, incoming=[NAME], group=GROUP, schemas=[SECOND]):
        await until(lambda: handler.done and second.done)
    assert handler.done == [Order("a", "CHF")]
    assert handler.done[0] is second.done[0]


@pytest.mark.parametrize("schemas", [[], [FIRST]])
async def test_later_code_reads_what_earlier_code_has_stored(schemas: list[Schema[Any]]) -> None:
    """Y1: Older versions are upcast; what was stored without a schema is of version 1."""
    transport, handler = MemoryTransport(), Handler()
    await publish(transport, {"id": "a"}, schemas=schemas)
    await publish(transport, Order("b", "CHF"), schemas=[SECOND])
    async with consuming(transport, handler, schemas=[SECOND]):
        await until(lambda: len(handler.done) == 2)
    assert handler.done == [Order("a", "EUR"), Order("b", "CHF")]


async def test_a_payload_of_another_type_fails_its_publish() -> None:
    """Y1: Nothing is stored of it."""
    transport, bus = MemoryTransport(), EventBus()
    async with open_bridge(bus, transport, outgoing=[NAME], schemas=[SECOND]):
        (failure,) = await bus.publish(NAME, {"id": "a"})
    assert isinstance(failure.exception, NotEncodable)
    assert str(failure.exception) == (
        "the payload of 'order.placed' can't be stored: TypeError: it must be of the type Order, "
        "not {'id': 'a'}"
    )
    assert bodies(transport) == []


def _break(old: dict[str, Any]) -> dict[str, Any]:
    raise LookupError(old["id"])


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (Schema.of(ORDER, version=2), "no upcast leads from version 1"),
        (Schema.of(ORDER, version=2, upcast={1: _break}), "raised LookupError: a"),
        (Schema.of(Topic[Order]("order.paid")), None),
        (Schema.of(ORDER, version=2, upcast={1: lambda old: [old]}), "must be an object"),
    ],
)
async def test_what_can_not_be_read_is_a_dead_letter_at_once(
    schema: Schema[Any], reason: str | None
) -> None:
    """Y1: Raw bytes are kept, no attempt is made; redriven it is as it was, and may be read."""
    transport, handler = MemoryTransport(), Handler()
    await publish(transport, {"id": "a"})
    async with consuming(transport, handler, schemas=[schema]) as bridge:
        await until(lambda: bridge.statistics().dead or handler.done)
        letters = await bridge.dead_letters()
        assert bridge.statistics().delivered == len(handler.begun)
    if reason is None:
        assert (handler.done, letters) == ([{"id": "a"}], [])
        return
    (letter,) = letters
    assert (letter.body, letter.attempts) == (bodies(transport)[0], 0)
    assert letter.failure.type == "flexiflow.extras.durable._errors.NotDecodable"
    assert reason in letter.failure.message
    assert handler.begun == []
    async with consuming(transport, handler, schemas=[SECOND]) as bridge:
        assert await bridge.redrive(letter.id) == 1
        await until(lambda: handler.done)
    assert handler.done == [Order("a", "EUR")]
    assert bodies(transport)[-1] == letter.body


def test_one_that_can_not_be_read_delays_no_other_of_its_key(backend: str) -> None:
    """Y1: The next one of its key is handled, in order."""

    async def scenario() -> None:
        transport, handler = MemoryTransport(), Handler()
        await publish(transport, {"id": "a"}, {"id": None}, {"id": "c"}, key=always)
        async with consuming(transport, handler, schemas=[SECOND]) as bridge:
            await until(lambda: len(handler.done) == 2)
            assert bridge.statistics().dead == 1
        assert handler.done == [Order("a"), Order("c")]
        assert pending(transport) == {}

    play(scenario, backend)


def test_a_newer_version_waits_for_newer_code(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Y1: It is tried again without counting attempts, and those of its key wait behind it."""
    caplog.set_level(logging.WARNING)

    async def scenario() -> None:
        caplog.clear()
        transport, old, new = MemoryTransport(), Handler(), Handler()
        await publish(transport, Order("a"), schemas=[SECOND], key=always)
        await publish(transport, {"id": "b"}, key=always)
        await publish(transport, {"id": "c"}, key=other)
        attempts = list[int]()

        def note(data: object) -> None:
            delivery = current_delivery()
            assert delivery is not None
            attempts.append(delivery.attempt)

        async with consuming(transport, old, schemas=[FIRST], retry_delay=1.0) as bridge:
            until_then = current_time() + 60.0
            await until(lambda: current_time() > until_then, 1000)
            assert bridge.statistics().failed == bridge.statistics().dead == 0
        assert old.done == [{"id": "c"}]
        (told,) = caplog.records
        assert told.getMessage() == (
            "the payload of 'order.placed' is of version 2, and this worker's schema reads up to "
            "version 1: a worker with the newer schema must be given it before all retries are "
            "over, by default after eleven minutes; until then it is tried again"
        )
        bus = EventBus()
        await bus.subscribe(NAME, "note", note)
        await bus.subscribe(NAME, "c", new)
        async with open_bridge(bus, transport, incoming=[NAME], group=GROUP, schemas=[SECOND]):
            await until(lambda: len(new.done) == 2, 1000)
        assert (new.done, attempts) == ([Order("a"), Order("b")], [1, 1])
        assert pending(transport) == {}

    play(scenario, backend, schedules=3)


@pytest.mark.parametrize("attempts", [1, 2, 30])
def test_a_newer_version_is_dead_only_after_the_whole_time_of_retries(
    backend: str, attempts: int
) -> None:
    """Y1: As late as an event whose handler fails each time, and with no attempt counted."""

    async def scenario() -> None:
        times = list[float]()
        letters = list[Any]()

        async def fail(data: object) -> None:
            raise Refused

        for schemas in ([FIRST], [SECOND]):
            transport = MemoryTransport()
            await publish(transport, Order("a"), schemas=[SECOND])
            begun = current_time()
            options: dict[str, Any] = {"retry_delay": 0.1, "max_attempts": attempts}
            async with consuming(transport, fail, schemas=schemas, **options) as bridge:
                await until(lambda: bridge.statistics().dead, 10_000)
                times.append(current_time() - begun)
                letters += await bridge.dead_letters()
        newer, failed = times
        assert newer == pytest.approx(failed, rel=0.2, abs=11)
        assert [each.attempts for each in letters] == [0, attempts]
        assert letters[0].failure.type.endswith("NewerVersion")
        assert attempts < 30 or newer > 600

    play(scenario, backend, schedules=1)


async def test_a_payload_that_kills_who_reads_it_is_dead_in_the_end() -> None:
    """Y1, X3: It is read only after its worker's possible death was counted."""
    transport, seen = MemoryTransport(), list[Any]()
    await publish(transport, {"id": "a"})
    await die_with(transport)

    def read(data: Any) -> Any:
        seen.append(pending(transport))
        return data

    schema = Schema[Any](NAME, encode=lambda data: data, decode=read)
    handler = Handler()
    async with consuming(transport, handler, schemas=[schema]):
        await until(lambda: handler.done)
    assert seen == [{1: (0, 2, True)}]


async def test_a_payload_is_read_as_its_turn_comes() -> None:
    """Y1: Not all that are held at once."""
    transport, gate, read = MemoryTransport(), Event(), list[Any]()
    await publish(transport, 1, 2, 3)

    def note(data: Any) -> Any:
        read.append(data)
        return data

    schema = Schema[Any](NAME, encode=lambda data: data, decode=note)
    handler = Handler(gate=gate)
    async with consuming(transport, handler, schemas=[schema], limit=1) as bridge:
        await until(lambda: handler.begun and bridge.statistics().held == 3)
        assert read == [1]
        gate.set()
        await until(lambda: len(handler.done) == 3)


async def test_an_interrupt_in_decode_leaves_the_bridge() -> None:
    """Y1, X5: As one that leaves a handler does."""
    transport = MemoryTransport()
    await publish(transport, 1)

    def interrupt(data: Any) -> Any:
        raise KeyboardInterrupt

    schema = Schema[Any](NAME, encode=lambda data: data, decode=interrupt)
    with pytest.raises(KeyboardInterrupt):
        async with consuming(transport, Handler(), schemas=[schema]):
            await until(lambda: False)
    assert pending(transport) == {1: (0, 0, False)}


@pytest.mark.parametrize(
    ("schemas", "exception", "message"),
    [
        (SECOND, TypeError, "must be an iterable of Schema, not <Schema of"),
        ([SECOND, Order], TypeError, "schemas must be an iterable of Schema, and one is <class"),
        ([SECOND, FIRST], ValueError, "two schemas are of 'order.placed'"),
    ],
)
def test_wrong_schemas_are_refused(
    schemas: Iterable[Any], exception: type[Exception], message: str
) -> None:
    """Y1: An event has one schema; before anything is opened."""
    with pytest.raises(exception, match=message):
        open_bridge(EventBus(), MemoryTransport(), outgoing=[NAME], schemas=schemas)


async def test_encode_may_be_that_of_the_standard_library() -> None:
    """Y1: A `Schema` of one's own functions, as in the contract."""
    transport, handler = MemoryTransport(), Handler()
    schema = Schema(ORDER, encode=asdict, decode=lambda each: Order(**each))
    await publish(transport, Order("a", "CHF"), schemas=[schema])
    async with consuming(transport, handler, schemas=[schema]):
        await until(lambda: handler.done)
    assert handler.done == [Order("a", "CHF")]


async def test_without_the_schema_it_is_what_the_codec_reads() -> None:
    """Y1: Other code may look at it without knowing the type."""
    transport, handler = MemoryTransport(), Handler()
    await publish(transport, Order("a"), schemas=[SECOND])
    await put(transport, 3, name="order.paid")
    async with consuming(transport, handler):
        await until(lambda: len(handler.done) == 2)
    assert handler.done == [{"id": "a", "currency": "EUR"}, 3]
