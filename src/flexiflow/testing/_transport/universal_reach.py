"""The universal suite: every event reaches its handlers (X1), or becomes a dead letter (X3)."""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from flexiflow._bus import EventBus
from flexiflow.testing._transport.universal import Noted, claim, dead_letters, universal

if TYPE_CHECKING:
    from flexiflow.testing._transport.universal import Stage

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
