"""The universal suite: the wire (X7), no loops (X8), delivery to all (X1), dead letters (X3)."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

from anyio.lowlevel import checkpoint

from flexiflow._bus import EventBus
from flexiflow.extras.durable import Batch, NotEncodable, Record, current_delivery
from flexiflow.testing._examiner.kit import claim
from flexiflow.testing._transport.universal import GROUP, Noted, dead_letters, universal

if TYPE_CHECKING:
    from flexiflow.extras.durable import CurrentDelivery
    from flexiflow.testing._transport.universal import Stage


@universal("X7")
async def is_written_as_cloudevents(stage: Stage) -> None:
    """A stored event has the attributes of CloudEvents 1.0, and an id of its own."""
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


_WORKERS: Final = 50
_TOPICS: Final = 20
_ATTEMPTS: Final = 3


@universal("X1")
async def shares_among_workers(stage: Stage) -> None:
    """50 workers of a group share 5,000 events."""
    numbers = range(stage.some(5_000))
    noted = Noted(len(numbers))
    async with AsyncExitStack() as workers:
        for _ in range(stage.some(_WORKERS)):
            await workers.enter_async_context(stage.worker(noted))
        await stage.publish(numbers)
        await noted.complete()
    noted.check(numbers)
    await stage.check_settled()


@universal("X1")
async def keeps_topics_apart(stage: Stage) -> None:
    """20 topics each reach their own handler, and no other."""
    each = stage.some(100)
    bus, noted = EventBus(), [Noted(each) for _ in range(_TOPICS)]
    for topic, handler in enumerate(noted):
        await bus.subscribe(f"n.{topic}", "worker", handler)
    numbers = range(each * _TOPICS)
    await stage.publish(numbers, lambda number: f"n.{number % _TOPICS}")
    async with stage.bridge(bus, incoming=["n.*"]):
        for handler in noted:
            await handler.complete()
    for topic, handler in enumerate(noted):
        handler.check(numbers[topic::_TOPICS])


@universal("X1")
async def isolates_patterns(stage: Stage) -> None:
    """A group is given only events that it takes; the others hold nothing up."""
    numbers = range(stage.some(200, 4))
    noted = Noted(len(numbers[1::2]))
    await stage.publish(numbers, lambda number: f"n.{('other', 'mine')[number % 2]}")
    async with stage.worker(noted, "n.mine"):
        await noted.complete()
    noted.check(numbers[1::2])


@universal("X1")
async def shows_what_was_before(stage: Stage) -> None:
    """A new group is given what was published before it."""
    numbers = range(stage.some(100))
    await stage.publish(numbers)
    for group in ("first", "second"):
        noted = Noted(len(numbers))
        async with stage.worker(noted, group=group):
            await noted.complete()
        noted.check(numbers)
        await stage.check_settled(group)


@universal("X1")
async def gives_all_to_each_group(stage: Stage) -> None:
    """Two groups, with two workers each, are each given all of 1,000 events."""
    numbers = range(stage.some(1_000))
    noted = {group: Noted(len(numbers)) for group in "gh"}
    async with AsyncExitStack() as workers:
        for group, handler in [*noted.items()] * 2:
            await workers.enter_async_context(stage.worker(handler, group=group))
        await stage.publish(numbers)
        for handler in noted.values():
            await handler.complete()
    for group, handler in noted.items():
        handler.check(numbers)
        await stage.check_settled(group)


@universal("X1")
async def goes_on_after_a_worker_has_left(stage: Stage) -> None:
    """5,000 events are handled in 5 batches, by one worker after another."""
    numbers = range(stage.some(5_000, 10))
    await stage.publish(numbers)
    seen = Noted(len(numbers))
    while not seen.is_complete:
        noted = Noted(len(numbers) // 5)

        def handle(data: int, noted: Noted = noted) -> None:
            seen(data)
            noted(data)
            if seen.is_complete:
                noted.finish()

        async with stage.worker(handle):
            await noted.complete()
    seen.check(numbers)
    await stage.check_settled()


@universal("X3")
async def gives_again_what_was_refused(stage: Stage) -> None:
    """Each of 100 events is refused once, and then handled."""
    await _refuse(stage, stage.some(100), times=1)


@universal("X3")
async def survives_many_refusals(stage: Stage) -> None:
    """50 events are refused 300 times in all."""
    await _refuse(stage, stage.some(50), times=6)


async def _refuse(stage: Stage, count: int, times: int) -> None:
    numbers, tried, noted = range(count), Counter[int](), Noted(count)

    def handle(data: int) -> None:
        tried[data] += 1
        if tried[data] <= times:
            raise OSError(data)
        noted(data)

    await stage.publish(numbers)
    async with stage.worker(handle, max_attempts=times + 1):
        await noted.complete()
    noted.check(numbers)
    await stage.check_settled()


@universal("X3")
async def buries_what_always_fails(stage: Stage) -> None:
    """An event that always fails is a dead letter, once, until redriven; the others are handled."""
    numbers, is_well = range(stage.some(50, 10)), False
    noted, healed, tried = Noted(len(numbers[1:])), Noted(1), Counter[int]()

    def handle(data: int) -> None:
        tried[data] += 1
        if data == 0 and not is_well:
            raise OSError(data)
        (noted if data else healed)(data)

    await stage.publish(numbers)
    async with stage.worker(handle, max_attempts=_ATTEMPTS) as bridge:
        await noted.complete()
        [letter] = await dead_letters(bridge)
        told = f"{tried[0]} of {_ATTEMPTS} attempts were made, {letter.attempts} are told"
        claim(letter.attempts == tried[0] == _ATTEMPTS, told)
        claim("OSError" in letter.failure.type, f"the failure is told as {letter.failure.type}")
        is_well = True
        count = await bridge.redrive(letter.id)
        claim(count == 1, f"redriving one dead letter counts {count}")
        await healed.complete()
    await stage.check_settled()
