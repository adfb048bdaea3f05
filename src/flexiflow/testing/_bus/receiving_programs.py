"""Programs about streams, backgrounds, and turns for others (B15, D6, S1 to S4)."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from flexiflow import BufferFull
from flexiflow.testing._examiner.kit import (
    Boom,
    claim,
    fail,
    ignore,
    settle,
    types_of,
)

if TYPE_CHECKING:
    from flexiflow import EventBus
    from flexiflow._bus import DeliveryMode, ErrorPolicy
    from flexiflow._stream import Overflow

    Heard: TypeAlias = list[Any]


def leave(by: str) -> None:
    """Leave a block by an exception, if that is how."""
    if by == "an exception":
        raise Boom


async def counts_as_it_is_left(
    bus: EventBus, *, read: int, overflow: Overflow, left_by: str, delivery: DeliveryMode
) -> None:
    """Events that are still buffered when a stream is left are counted."""
    stream = bus.stream("a", buffer=3, overflow=overflow)
    with suppress(Boom):
        async with stream as events:
            for number in range(3):
                await bus.publish("a", number, delivery=delivery)
            for _ in range(read):
                await anext(events)
            leave(left_by)
    it = stream.statistics()
    counted = it.received, it.delivered, it.dropped + it.buffered
    told = f"left with {3 - read} of 3 in its buffer, received, delivered, dropped or buffered"
    claim(counted == (3, read, 3 - read), f"{told} are {counted}")


async def has_its_priority(
    bus: EventBus, *, heard: Heard, priorities: tuple[int, int], delivery: DeliveryMode
) -> None:
    """A stream has its event before the handlers that come after it, and not before others."""
    of_stream, of_handler = priorities

    async with bus.stream("a", priority=of_stream) as events:

        def handler(_: object) -> None:
            heard.append(events.statistics().received)

        await bus.subscribe("a", "c", handler, priority=of_handler)
        await bus.publish("a", delivery=delivery)
    expected = int(of_stream <= of_handler)
    told = f"a stream of priority {of_stream} had, as a handler of {of_handler} was called,"
    claim(heard == [expected], f"{told} {heard} events, not {expected}")


async def has_several_readers(
    bus: EventBus, *, heard: Heard, readers: int, last: int, delivery: DeliveryMode
) -> None:
    """None of several tasks that have read is a stream's only consumer."""
    turn = [anyio.Event() for _ in range(readers + 1)]

    async def reader(number: int) -> None:
        await turn[number].wait()
        await anext(events)
        if number == last % readers:
            await turn[readers].wait()
            for each in range(2):
                heard.extend(await bus.publish("a", each, delivery=delivery, on_error="continue"))

    with anyio.move_on_after(9) as scope:
        async with bus.stream("a", buffer=1) as events, anyio.create_task_group() as group:
            for number in range(readers):
                group.start_soon(reader, number)
                turn[number].set()
                await settle()
                await bus.publish("a", number, delivery=delivery)
                await settle()
            turn[readers].set()
            await settle()
            await anext(events)
            await settle()
            group.cancel_scope.cancel()
    claim(not scope.cancelled_caught, "publishing to a stream that is read did not end")
    claim(not heard, f"one of {readers} readers publishes, which failed: {types_of(heard)}")


async def fails_by_its_filter(
    bus: EventBus, *, heard: Heard, delivery: DeliveryMode, policy: ErrorPolicy
) -> None:
    """What the filter of a stream raises is a failure of the publish."""

    def boom(_: str, data: object) -> bool:
        if data == 0:
            raise Boom
        return True

    async with bus.stream("a", filter=boom) as events:
        await bus.subscribe("a", "c", heard.append)
        try:
            failures = await bus.publish("a", 0, delivery=delivery, on_error=policy)
            claim(types_of(failures) == [Boom], f"a stream's filter raised, and failed: {failures}")
        except Boom:
            claim(policy == "raise", "a stream's filter raised, and so did publish")
        await bus.publish("a", 1, delivery=delivery, on_error=policy)
        it = events.statistics()
    counted = it.received, it.buffered
    claim(counted == (1, 1), f"its filter raises for one of two; received, buffered are {counted}")
    claim(heard[-1] == 1, f"beside a stream whose filter raises, a handler heard {heard}")


def places(limit: int, buffer: int, overflow: str, number: int) -> tuple[list[int], list[int]]:
    """Return which of so many events begin in a background, in order, and which are refused."""
    begun, waiting, refused = list[int](), deque[int](), list[int]()
    for each in range(number):
        if len(begun) < limit:
            begun.append(each)
        elif len(waiting) < buffer:
            waiting.append(each)
        elif overflow == "drop_oldest":
            waiting.popleft()
            waiting.append(each)
        elif overflow == "error":
            refused.append(each)
    return [*begun, *waiting], refused


async def keeps_its_places(
    bus: EventBus, *, heard: Heard, limit: int, buffer: int, overflow: Overflow, number: int
) -> None:
    """Which events begin, and in which order, is what a model of the buffer says."""

    async def handler(data: object) -> None:
        heard.append(data)
        await anyio.sleep(9)

    await bus.subscribe("a", "c", handler)
    begun, refused = places(limit, buffer, overflow, number)
    given: list[int] = []
    async with bus.background(limit=limit, buffer=buffer, overflow=overflow) as background:
        for each in range(number):
            try:
                await background.publish("a", each)
            except BufferFull:
                given.append(each)
            await settle()
    claim(heard == begun, f"with {overflow!r}, of 0 to {number - 1} began {heard}, not {begun}")
    claim(given == refused, f"with {overflow!r}, were refused {given}, not {refused}")


async def clear(heard: list[int]) -> None:
    """Clear a list at each turn."""
    while True:
        heard.clear()
        await checkpoint()


async def yields_whatever_is_done(bus: EventBus, *, acts: tuple[str, ...]) -> None:
    """Of any acts that count as publishes, one in 61 lets others run."""
    longest, heard = 0, list[int]()

    async def answer(_: object) -> None: ...

    for event, handler in (("heard", answer), ("fails", fail)):
        await bus.subscribe(event, "c", handler)
    if hasattr(bus, "answer"):
        for query, answerer in (("asked", answer), ("asked sync", ignore)):
            await bus.answer(query, "c", answerer)
    async with anyio.create_task_group() as group:
        group.start_soon(clear, heard)
        for number in range(70):
            act = acts[number % len(acts)]
            heard.append(number)
            if act.startswith("asked") and hasattr(bus, "ask"):
                await bus.ask(act)
            else:
                await bus.publish(act, on_error="continue")
            longest = max(longest, len(heard))
        group.cancel_scope.cancel()
    claim(longest < 61, f"{longest} of {acts} in a row, and another task had no turn")


ACTS: Final = ("heard", "unheard", "fails", "asked", "asked sync", "state.changed")
