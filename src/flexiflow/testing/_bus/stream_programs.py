"""Programs that claim what the clauses of streams, of waiting and of topics promise."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from flexiflow import BufferFull, StreamDeadlock, Topic
from flexiflow.testing._examiner.kit import (
    Boom,
    claim,
    ignore,
    native_task,
    noting,
    refused,
    types_of,
)

if TYPE_CHECKING:
    from flexiflow import EventBus, EventStream
    from flexiflow._bus import DeliveryMode, ErrorPolicy
    from flexiflow._stream import Overflow

    Heard: TypeAlias = list[Any]


# S1


async def enters_a_stream(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """A stream gives what is published within its block."""
    events = bus.stream("a")
    await bus.publish("a", 0)
    async with events:
        for number in (1, 2):
            await bus.publish("a", number, delivery=delivery)
        with anyio.move_on_after(1):
            async for event in events:
                heard.append((event.name, event.data))
    claim(heard == [("a", 1), ("a", 2)], f"of 1 and 2, published within its block, it gave {heard}")


async def enters_an_expectation(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """An expectation gives the first event that is published within its block."""
    expected = bus.expect("a")
    await bus.publish("a", 0)
    async with expected:
        await bus.publish("a", 1, delivery=delivery)
        with anyio.move_on_after(1):
            event = await expected
            heard.append((event.name, event.data))
    claim(heard == [("a", 1)], f"expecting the first event, published as 1, gave {heard}")


async def shares_among_readers(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """Each event goes to one of several readers."""
    async with bus.stream("a") as events, anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(read_all, events, heard)
        for number in range(5):
            await bus.publish("a", number, delivery=delivery)
        await anyio.sleep(1)
        group.cancel_scope.cancel()
    claim(sorted(heard) == [*range(5)], f"of 0 to 4, three readers together got {heard}")


async def read_all(events: EventStream[Any], heard: Heard) -> None:
    """Read a stream until cancelled."""
    async for event in events:
        heard.append(event.data)


async def leaves_a_stream(bus: EventBus, *, heard: Heard, end: str) -> None:
    """However its block is left, a stream has no subscription any more."""
    async with anyio.create_task_group() as group:
        with suppress(Boom), anyio.CancelScope() as scope:
            async with bus.stream("a", buffer=1, filter=noting(heard)):
                for number in range(3):
                    group.start_soon(bus.publish, "a", number)
                await anyio.sleep(1)
                await leave(end, scope)
    await is_left(bus, heard)


async def leaves_an_expectation(bus: EventBus, *, heard: Heard, end: str) -> None:
    """However its block is left, an expectation has no subscription any more."""
    with suppress(Boom), anyio.CancelScope() as scope:
        async with bus.expect("a", filter=noting(heard)):
            await anyio.sleep(1)
            await leave(end, scope)
    await is_left(bus, heard)


async def leave(end: str, scope: anyio.CancelScope) -> None:
    """Leave a block at its end, by an exception, or by a cancellation."""
    if end == "an exception":
        raise Boom
    if end == "a cancellation":
        scope.cancel()
        await checkpoint()


async def is_left(bus: EventBus, heard: Heard) -> None:
    """Check that a receiver hears nothing any more."""
    heard.clear()
    with anyio.move_on_after(1):
        await bus.publish("a", 3)
    claim(heard == [], "its subscription is still there after its block was left")


ENDS: Final = ("its end", "an exception", "a cancellation")


# S2


async def follows_a_model(
    bus: EventBus,
    *,
    buffer: int,
    overflow: Overflow,
    mode: DeliveryMode,
    steps: tuple[tuple[str, tuple[Any, ...]], ...],
) -> None:
    """After each step, a stream has received, delivered, dropped and kept what it should.

    Each step is followed by what is expected then, when nothing is going on any more: how many
    events were received, delivered, dropped and buffered, how many publishes failed, and which
    events were read.
    """
    heard: Heard = []
    readers, publishers = list[anyio.CancelScope](), list[anyio.CancelScope]()
    failed: Heard = []

    async def publish(number: int) -> None:
        with anyio.CancelScope() as scope:
            publishers.append(scope)
            failed.extend(await bus.publish("a", number, delivery=mode, on_error="continue"))

    async def read() -> None:
        with anyio.CancelScope() as scope:
            readers.append(scope)
            heard.append((await anext(events)).data)

    def do(step: str) -> None:
        if step == "publish":
            group.start_soon(publish, len(publishers))
        elif step == "read":
            group.start_soon(read)
        for scope in {"readers give up": readers, "publishers give up": publishers}.get(step, ()):
            scope.cancel()

    stream = bus.stream("a", buffer=buffer, overflow=overflow)
    async with stream as events, anyio.create_task_group() as group:
        for step, expected in steps:
            do(step)
            await anyio.sleep(1)
            it = events.statistics()
            counted = it.received, it.delivered, it.dropped, it.buffered, len(failed), heard
            told = "received, delivered, dropped, buffered, failures, read"
            claim(counted == expected, f"{told}: {counted}, not {expected}")
            are_full = all(isinstance(each.exception, BufferFull) for each in failed)
            claim(are_full, f"failures: {failed}")
        group.cancel_scope.cancel()


async def has_read_only_statistics(bus: EventBus) -> None:
    """Statistics can't be changed."""
    async with bus.stream("a") as events:
        counted: Any = events.statistics()
    with refused(AttributeError, "what statistics() gives can be changed"):
        counted.received = 1


async def survives_a_cancelled_reader(
    bus: EventBus, *, heard: Heard, turns: int, buffer: int, cancels: str
) -> None:
    """A reader that is cancelled loses no event."""
    scope, tasks, cancelled = anyio.CancelScope(), list[Any](), list[bool]()

    async def read() -> None:
        tasks.append(native_task())
        try:
            with scope:
                await read_all(events, heard)
        except anyio.get_cancelled_exc_class():
            if not cancelled:
                raise

    async def cancel() -> None:
        for _ in range(turns):
            await checkpoint()
        # There is no native task on trio, nor before it runs.
        native = [each for each in tasks if each and cancels == "native"]
        cancelled.extend(each.cancel() for each in native)
        if cancels == "scope":
            scope.cancel()

    async with bus.stream("a", buffer=buffer) as events, anyio.create_task_group() as group:
        group.start_soon(read)
        group.start_soon(read_all, events, heard)
        group.start_soon(publish_three, bus)
        group.start_soon(cancel)
        await anyio.sleep(1)
        group.cancel_scope.cancel()
    claim(sorted(heard) == [0, 1, 2], f"of 0 to 2, with one of two readers cancelled, came {heard}")


async def publish_three(bus: EventBus) -> None:
    """Publish the numbers 0 to 2."""
    for number in range(3):
        await bus.publish("a", number)


# S3


async def fills_its_own_stream(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """A task that publishes more into its own stream than that holds gets a failure."""
    async with bus.stream("a", buffer=1) as events:
        for number in range(2):
            heard.extend(await bus.publish("a", number, delivery=delivery, on_error="continue"))
        it = events.statistics()
        counted = it.received, it.delivered, it.dropped, it.buffered
    failed = types_of(heard)
    claim(failed == [StreamDeadlock], f"published twice into its own stream of 1, it got {failed}")
    claim(counted == (2, 0, 1, 1), f"received, delivered, dropped, buffered are {counted}")


async def publishes_as_it_reads(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """A task that publishes between two events that it reads gets a failure, too."""
    async with bus.stream("a", buffer=1) as events:
        await bus.publish("a", 0)
        async for _ in events:
            if heard:
                break
            for number in range(2):
                heard.extend(await bus.publish("a", number, delivery=delivery, on_error="continue"))
    failed = types_of(heard)
    claim(failed == [StreamDeadlock], f"the task that reads published into its stream: {failed}")


async def waits_for_a_handler(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """A handler that the reader waits for gets a failure when it publishes more than fits."""

    async def handler(data: object) -> None:
        heard.extend(await bus.publish("a", data, on_error="continue"))

    await bus.subscribe("b", "c", handler)
    async with bus.stream("a", buffer=1):
        for number in range(2):
            await bus.publish("b", number, delivery=delivery)
    failed = types_of(heard)
    claim(failed == [StreamDeadlock], f"a handler that its consumer waits for got {failed}")


async def no_longer_reads(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """A task that does not read may publish all it wants, while another one reads."""
    async with bus.stream("a", buffer=1) as events, anyio.create_task_group() as group:
        group.start_soon(read_all, events, heard)
        await anyio.sleep(1)
        for number in range(4):
            await bus.publish("a", number, delivery=delivery, on_error="raise")
        await anyio.sleep(1)
        group.cancel_scope.cancel()
    claim(heard == [*range(4)], f"of 0 to 3, published by a task that reads no more, came {heard}")


DEADLOCKS: Final = (
    fills_its_own_stream,
    publishes_as_it_reads,
    waits_for_a_handler,
    no_longer_reads,
)


# S4


async def gives_events_in_order(
    bus: EventBus, *, heard: Heard, buffer: int, delivery: DeliveryMode
) -> None:
    """A stream gives events in the order in which they reached it."""
    reached: Heard = []

    async def publish(name: str) -> None:
        for number in range(3):
            await bus.publish("a", f"{name}{number}", delivery=delivery)

    stream = bus.stream("a", buffer=buffer, filter=noting(reached))
    async with anyio.create_task_group() as group, stream as events:
        for name in "xyz":
            group.start_soon(publish, name)
        async for event in events:
            heard.append(event.data)
            if len(heard) == 9:
                break
            await checkpoint()
    claim(heard == reached, f"publishes reached it as {reached}, but it gave {heard}")


def is_more_than_one(_: str, data: int) -> bool:
    """Return whether it is."""
    return data > 1


async def expects_the_first(bus: EventBus, *, delivery: DeliveryMode) -> None:
    """An expectation gives the first event that its filter accepts."""
    async with bus.expect("a", filter=is_more_than_one) as expected:
        for number in range(4):
            await bus.publish("a", number, delivery=delivery)
        event = await expected
    claim(event.data == 2, f"the first of 0 to 3 that is more than 1 was {event.data}")


async def waits_for_the_first(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """`wait_for` gives the first event that its filter accepts."""

    async def wait() -> None:
        with anyio.move_on_after(9):
            heard.append((await bus.wait_for("a", filter=is_more_than_one)).data)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(1)
        for number in range(4):
            await bus.publish("a", number, delivery=delivery)
    claim(heard == [2], f"waiting for the first of 0 to 3 that is more than 1 gave {heard}")


async def raises_at_the_waiter(
    bus: EventBus, *, delivery: DeliveryMode, policy: ErrorPolicy
) -> None:
    """What the filter of a waiter raises is raised to the waiter, and is no failure of publish."""

    def fail(_: str, __: object) -> bool:
        raise Boom

    async with bus.expect("a", filter=fail) as expected:
        failures = await bus.publish("a", delivery=delivery, on_error=policy)
        with refused(Boom, "what the filter raised does not raise at the waiter"):
            await expected
    claim(not failures, f"what the filter of a waiter raised is a failure of publish: {failures}")


async def gives_up_waiting(bus: EventBus, *, heard: Heard) -> None:
    """A waiter that gives up leaves no subscription."""
    with anyio.move_on_after(1):
        await bus.wait_for("a", filter=noting(heard, accepts=False))
    await bus.publish("a", 0)
    claim(heard == [], "a waiter that gave up left its subscription behind")


async def asks_no_more(bus: EventBus, *, heard: Heard) -> None:
    """An expectation that has its event asks its filter no more."""
    async with bus.expect("a", filter=noting(heard)) as expected:
        for number in range(3):
            await bus.publish("a", number)
        await expected
    claim(heard == [0], f"it had its event, and the filter was asked for {heard}")


WAITING: Final = (
    expects_the_first,
    waits_for_the_first,
    raises_at_the_waiter,
    gives_up_waiting,
    asks_no_more,
)


# T1


async def takes_topics(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """A topic is a name, or a pattern, like any other."""
    topic: Topic[int] = Topic("a.b")
    claim(isinstance(topic, str), "a topic is no str")
    s = await bus.subscribe(topic, "c", heard.append)
    await bus.subscribe(Topic[int]("a.*"), "c", heard.append)
    named = getattr(s, "event_name", topic)
    claim(named == "a.b", f"subscribed to the topic a.b, it is to {named!r}")
    await bus.publish("a.b", 1, delivery=delivery)
    await bus.publish(topic, 2, delivery=delivery)
    claim(heard == [1, 1, 2, 2], f"a topic and a pattern, of 1 and 2 each, heard {heard}")


async def takes_a_topic(bus: EventBus, *, heard: Heard) -> None:
    """It is, too, for a bus that has no patterns and one delivery."""
    topic: Topic[int] = Topic("a")
    await bus.subscribe(topic, "c", heard.append)
    await bus.publish("a", 1)
    await bus.publish(topic, 2)
    claim(heard == [1, 2], f"the topic of 1 and 2 heard {heard}")


async def tells_filters_its_name(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """A filter is given the name of a topic."""

    def note(event: str, _: object) -> bool:
        heard.append(event)
        return False

    await bus.subscribe("a", "c", ignore, filter=note)
    await bus.publish(Topic[None]("a"), None, delivery=delivery)
    claim(heard == ["a"], f"of what was published to the topic a, the filter was told {heard}")


async def streams_a_topic(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """A stream may be of a topic, if the bus has streams."""
    if hasattr(bus, "stream"):
        async with bus.stream(Topic[int]("a")) as events:
            await bus.publish(Topic[int]("a"), 1, delivery=delivery)
            heard.append(tuple(await anext(events)))
        claim(heard == [("a", 1)], f"the stream of a topic gave {heard}")


async def expects_a_topic(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """A topic may be expected, if the bus has expectations."""
    if hasattr(bus, "expect"):
        async with bus.expect(Topic[int]("a")) as expected:
            await bus.publish(Topic[int]("a"), 1, delivery=delivery)
            heard.append(tuple(await expected))
        claim(heard == [("a", 1)], f"expecting a topic gave {heard}")


TOPICS: Final = (
    takes_a_topic,
    takes_topics,
    tells_filters_its_name,
    streams_a_topic,
    expects_a_topic,
)
