"""Programs about tasks that wait for a stream, or for room in it (S1 to S3)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from flexiflow import ReceiverClosed, StreamDeadlock
from flexiflow.testing._examiner.kit import Boom, claim, settle, types_of

if TYPE_CHECKING:
    from flexiflow import EventBus
    from flexiflow._bus import DeliveryMode

    Heard: TypeAlias = list[Any]


# S3


async def knows_its_consumer(
    bus: EventBus,
    *,
    heard: Heard,
    readers: tuple[int, ...],
    publisher: int,
    way: str,
    delivery: DeliveryMode,
) -> None:
    """The task that entered a stream is its consumer, or the only one that has read, or nobody.

    Task 0 has entered it.
    """
    turns = [anyio.Event() for _ in range(len(readers) + 2)]
    stream = bus.stream("a", buffer=1)
    consumers = {*readers} or {0}
    expected = [StreamDeadlock] * (consumers == {publisher})
    told = f"entered by task 0, read by {readers}, and published to by {publisher} in the end"

    async def publish(_: object = None) -> None:
        heard.extend(await bus.publish("a", delivery=delivery, on_error="continue"))

    async def take_turns(number: int) -> None:
        for turn, each in enumerate((*readers, publisher)):
            await turns[turn].wait()
            if number == each:
                await publish()
                if turn < len(readers):
                    await anext(stream)
                elif way == "itself":
                    await publish()
                else:
                    await bus.publish("b", delivery=delivery)
                turns[turn + 1].set()

    await bus.subscribe("b", "c", publish)
    async with stream, anyio.create_task_group() as group:
        for number in (1, 2):
            group.start_soon(take_turns, number)
        turns[0].set()
        with anyio.move_on_after(5):
            await take_turns(0)
            await turns[-1].wait()
        it = stream.statistics()
        claim(types_of(heard) == expected, f"{told}, of a full stream came {types_of(heard)}")
        claim(it.dropped == len(expected), f"{told}, a full stream counts {it}")
        group.cancel_scope.cancel()


async def refuses_each_handler(
    bus: EventBus, *, heard: Heard, handlers: int, delivery: DeliveryMode
) -> None:
    """However many handlers that its only reader waits for publish to a stream, all are refused."""

    async def publish(_: object) -> None:
        heard.extend(await bus.publish("a", 1, on_error="continue"))

    for _ in range(handlers):
        await bus.subscribe("b", "c", publish)
    with anyio.move_on_after(9) as scope:
        async with bus.stream("a", buffer=1):
            await bus.publish("a", 0)
            await bus.publish("b", delivery=delivery)
    claim(not scope.cancelled_caught, "the reader of a full stream waits for its publishers")
    failed = types_of(heard)
    told = f"{handlers} handlers, which its reader waits for, publish to a full stream:"
    claim(failed == [StreamDeadlock] * handlers, f"{told} {failed}")


async def gives_a_reader_its_turn(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """A task that has entered a stream may fill it if another reader was just started."""

    async def read() -> None:
        async for event in stream:
            heard.append(event.data)

    async with bus.stream("a", buffer=1) as stream, anyio.create_task_group() as group:
        group.start_soon(read)
        for number in range(4):
            await bus.publish("a", number, delivery=delivery, on_error="raise")
        await settle()
        group.cancel_scope.cancel()
    claim(heard == [*range(4)], f"of 0 to 3, published beside a new reader, came {heard}")


# S1


async def leave(by: str, scope: anyio.CancelScope) -> None:
    """Leave a block at its end, by an exception, or by a cancellation."""
    if by == "an exception":
        raise Boom
    if by == "a cancellation":
        scope.cancel()
        await anyio.sleep_forever()


async def lets_publishers_go(
    bus: EventBus,
    *,
    heard: Heard,
    buffer: int,
    publishers: int,
    left_by: str,
    delivery: DeliveryMode,
) -> None:
    """When a stream is left, publishers that wait for room go on, to their later handlers."""
    stream = bus.stream("a", buffer=buffer)
    ended: Heard = []

    async def publish(number: int) -> None:
        ended.extend(await bus.publish("a", number, delivery=delivery, on_error="continue"))
        ended.append(number)

    await bus.subscribe("a", "c", heard.append, priority=5)
    with anyio.move_on_after(9):
        async with anyio.create_task_group() as group:
            with suppress(Boom), anyio.CancelScope() as scope:
                async with stream:
                    for number in range(publishers):
                        group.start_soon(publish, number)
                        await settle()
                    await leave(left_by, scope)
    everybody = [*range(publishers)]
    told = f"left by {left_by}, a stream of {buffer} with {publishers} publishers:"
    claim(sorted(ended, key=str) == everybody, f"{told} went on {ended}, not {everybody}")
    claim(sorted(heard) == everybody, f"{told} later handlers had {heard}")
    it, most = stream.statistics(), min(publishers, buffer)
    claim((it.received, it.dropped) == (most, most), f"{told} it counts {it}")


async def tells_its_readers(bus: EventBus, *, heard: Heard, buffer: int, left_by: str) -> None:
    """When a stream is left, readers that wait are told."""
    stream = bus.stream("a", buffer=buffer)

    async def read() -> None:
        try:
            await anext(stream)
        except ReceiverClosed:
            heard.append("closed")

    with anyio.move_on_after(9):
        async with anyio.create_task_group() as group:
            with suppress(Boom), anyio.CancelScope() as scope:
                async with stream:
                    group.start_soon(read)
                    group.start_soon(read)
                    await settle()
                    await leave(left_by, scope)
    claim(heard == ["closed"] * 2, f"left by {left_by}, a stream told two readers {heard}")


async def yields_as_it_is_read(bus: EventBus, *, heard: Heard, readers: int) -> None:
    """At least one in 61 reads lets others run, though there are events enough."""
    longest = 0

    async def clear() -> None:
        while True:
            heard.clear()
            await checkpoint()

    async with bus.stream("a", buffer=70 * readers) as events:
        for number in range(70 * readers):
            await bus.publish("a", number)
        async with anyio.create_task_group() as group:
            group.start_soon(clear)
            await checkpoint()
            for _ in range(70 * readers):
                heard.append((await anext(events)).data)
                longest = max(longest, len(heard))
            group.cancel_scope.cancel()
    claim(longest <= 61, f"{longest} events were read in a row, and another task had no turn")


# S2


async def wakes_another(
    bus: EventBus, *, heard: Heard, acts: tuple[str, ...], readers: int, delivery: DeliveryMode
) -> None:
    """No event is lost, nor waits beside a reader, whatever happens to readers in one step.

    The acts are publishes, and the numbers of the readers that are cancelled.
    """
    scopes = [anyio.CancelScope() for _ in range(readers)]
    told = f"of {readers} readers, in one step {acts};"

    async def read(number: int) -> None:
        with scopes[number]:
            heard.append((await anext(events)).data)

    async with bus.stream("a", buffer=3) as events, anyio.create_task_group() as group:
        for number in range(readers):
            group.start_soon(read, number)
            await settle()
        for place, act in enumerate(acts):
            if act == "publish":
                await bus.publish("a", place, delivery=delivery)
            else:
                scopes[int(act)].cancel()
        await settle()
        it = events.statistics()
        left = [number for number in range(readers) if str(number) not in acts]
        least = min(len(left), acts.count("publish"))
        claim(len(heard) >= least, f"{told} it was read {len(heard)} times")
        claim(it.received == it.delivered + it.buffered, f"{told} it counts {it}")
        while events.statistics().buffered:
            heard.append((await anext(events)).data)
        group.cancel_scope.cancel()
    expected = [place for place, act in enumerate(acts) if act == "publish"]
    claim(sorted(heard) == expected, f"{told} it gave {heard}, not {expected}")
