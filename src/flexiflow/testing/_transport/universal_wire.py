"""The universal suite: how events are written (X7), and that none is sent back (X8)."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from anyio.lowlevel import checkpoint

from flexiflow._bus import EventBus
from flexiflow.extras.durable import Batch, NotEncodable, Record, current_delivery
from flexiflow.testing._transport.universal import GROUP, Noted, claim, dead_letters, universal

if TYPE_CHECKING:
    from flexiflow.extras.durable import CurrentDelivery
    from flexiflow.testing._transport.universal import Stage


@universal("X7")
async def is_written_as_cloudevents(stage: Stage) -> None:
    """What is stored has the attributes of CloudEvents 1.0, and an id of its own."""
    count = stage.some(20)
    async with stage.transport.connect() as connection:
        _, after = await connection.tail(None, 1, 0)
        await stage.publish(range(count))
        stored, _ = await connection.tail(after, 1_000, 0)
    events = [json.loads(each.body) for each in stored]
    told = sorted((each.get("data"), each.get("specversion"), each.get("type")) for each in events)
    claim(told == [(n, "1.0", "n.e") for n in range(count)], f"what is stored is {told}")
    ids = {(each.get("source"), each.get("id")) for each in events}
    claim(len(ids) == count, f"{count} events have {len(ids)} ids")


@universal("X7")
async def arrives_intact(stage: Stage) -> None:
    """100 events arrive as they were published."""
    numbers = range(stage.some(100))
    payloads: list[dict[str, Any]] = [
        {"n": n, "text": "ä\n" * (n % 7), "deep": [None, n / 7, {}]} for n in numbers
    ]
    noted = Noted(len(payloads))
    await stage.publish(payloads)
    async with stage.worker(lambda data: noted(json.dumps(data))):
        await noted.complete()
    noted.check(map(json.dumps, payloads))


@universal("X7")
async def knows_its_delivery(stage: Stage) -> None:
    """Each handler sees the delivery of its own event, while others run beside it."""
    numbers, changed = range(stage.some(100)), list[int]()
    seen: list[CurrentDelivery | None] = []
    noted = Noted(len(numbers))

    async def handle(data: int) -> None:
        before = current_delivery()
        await checkpoint()
        changed.extend([data] if before != current_delivery() else [])
        seen.append(before)
        noted(data)

    await stage.publish(numbers)
    async with stage.worker(handle):
        await noted.complete()
    claim(not changed, f"the handlers of {changed} saw the deliveries of others")
    told = {each.id for each in seen if each is not None and each.name == "n.e"}
    claim(len(told) == len(numbers), f"of {len(numbers)} events {len(told)} told what they are")


@universal("X7")
async def refuses_what_it_can_not_write_or_read(stage: Stage) -> None:
    """What can't be encoded fails at `publish`; what can't be decoded becomes a dead letter."""
    bus, noted = EventBus(), Noted(1)
    async with stage.bridge(bus, outgoing=["n.*"]):
        [failure] = await bus.publish("n.e", object())
    claim(isinstance(failure.exception, NotEncodable), f"{failure.exception!r} was raised")
    async with stage.transport.connect() as connection:
        await connection.store(Batch("else", 1, (Record(b"no event"),)))
    await stage.publish([1])
    async with stage.worker(noted) as bridge:
        await noted.complete()
        [letter] = await dead_letters(bridge)
    claim(letter.body == b"no event", f"{letter.body!r} is a dead letter")


@universal("X8")
async def sends_nothing_back(stage: Stage) -> None:
    """An event that came in is not sent out again; what its handler publishes is."""
    bus, count = EventBus(), stage.some(100)
    noted, answers = Noted(count), Noted(count)

    async def handle(data: int) -> None:
        await bus.publish("n.answer", data)
        noted(data)

    await bus.subscribe("n.question", "worker", handle)
    await bus.subscribe("n.answer", "worker", answers)
    async with stage.transport.connect() as connection:
        _, after = await connection.tail(None, 1, 0)
        async with (
            stage.bridge(bus, outgoing=["n.*"]),
            stage.bridge(bus, incoming=["n.question"], group=GROUP),
        ):
            await stage.publish(range(count), lambda _: "n.question")
            await noted.complete()
        stored, _ = await connection.tail(after, 10 * count, 0)
    types = Counter(json.loads(each.body)["type"] for each in stored)
    claim(types == {"n.question": count, "n.answer": count}, f"stored were {dict(types)}")
