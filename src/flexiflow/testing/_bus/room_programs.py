"""Programs about backgrounds that are left, and about who waits for room in them (B15)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from flexiflow import ReceiverClosed, StreamDeadlock
from flexiflow.testing._bus.receiving_programs import leave
from flexiflow.testing._examiner.kit import Boom, Exit, claim, refused, settle, types_of

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from flexiflow import EventBus
    from flexiflow._background import Background
    from flexiflow._bus import DeliveryMode

    Heard: TypeAlias = list[Any]


class Publishers:
    """Several tasks that publish in a background.

    Args:
        background: the background.
        number: how many they are.
    """

    def __init__(self, background: Background, number: int) -> None:
        self.background = background
        self.scopes = [anyio.CancelScope() for _ in range(number)]
        self.refused: list[int] = []
        self.begin = anyio.current_time()
        self.placed: list[float] = []

    async def publish(self, number: int) -> None:
        """Publish an event; note if that is refused."""
        try:
            with self.scopes[number]:
                await self.background.publish("a", number)
                self.placed.append(anyio.current_time() - self.begin)
        except ReceiverClosed:
            self.refused.append(number)

    async def start(self, group: TaskGroup, *, last_leaves: bool) -> None:
        """Let all of them publish, in order, and perhaps cancel the last one."""
        for number in range(len(self.scopes)):
            group.start_soon(self.publish, number)
            await settle()
        if last_leaves:
            self.scopes[-1].cancel()
            await settle()


async def waits_for_all(
    bus: EventBus,
    *,
    heard: Heard,
    limit: int,
    buffer: int,
    publishers: int,
    left_by: str,
    gives_up: bool,
) -> None:
    """When a background is left, those that wait for room get it, or are told."""
    background = bus.background(limit=limit, buffer=buffer)
    tasks = Publishers(background, publishers)

    async def handler(data: object) -> None:
        heard.append(data)
        await anyio.sleep(1)

    await bus.subscribe("a", "c", handler)
    async with anyio.create_task_group() as group:
        with suppress(Boom):
            async with background:
                await tasks.start(group, last_leaves=gives_up)
                leave(left_by)
    everybody = [*range(publishers - (gives_up and limit + buffer < publishers))]
    begun = everybody if left_by == "its end" else everybody[:limit]
    told = f"{publishers} publish, {limit} at once, {buffer} wait, left by {left_by}:"
    claim(heard == begun, f"{told} it began {heard}, not {begun}")
    expected = [] if left_by == "its end" else everybody[limit + buffer :]
    claim(sorted(tasks.refused) == expected, f"{told} were refused {tasks.refused}")
    abandoned = background.statistics().abandoned
    rest = len(everybody) - len(begun) - len(expected)
    claim(abandoned == rest, f"{told} {abandoned} were abandoned, not {rest}")
    # Each second so many end as may run at once, and as many of those that wait get their place.
    times = [max(0, -(-(each - limit - buffer + 1) // limit)) for each in everybody]
    is_right = left_by != "its end" or tasks.placed == times
    claim(is_right, f"{told} their events had places after {tasks.placed}, not {times} s")


async def lets_exits_out(bus: EventBus, *, heard: Heard, waits: bool, limit: int) -> None:
    """A `BaseException` leaves the block bare, after everything that runs was cancelled."""
    leaving = Exit()

    async def handler(data: int) -> None:
        heard.append(data)
        try:
            await anyio.sleep(1 if data == 0 else 9)
        finally:
            heard.append(f"{data} ends")
        raise leaving

    await bus.subscribe("a", "c", handler)
    background = bus.background(limit=limit)
    begin = anyio.current_time()
    left: list[BaseException] = []
    try:
        async with background:
            for number in range(3):
                await background.publish("a", number)
            if waits:
                await anyio.sleep_forever()
    except Exit as error:
        left.append(error)
    took = anyio.current_time() - begin
    claim(left == [leaving], f"a handler in the background exits, and its block was left by {left}")
    claim(took == 1, f"a handler in the background exits after 1 s, and the block after {took:g} s")
    begun = [*range(limit)]
    ended = sorted(each for each in heard if isinstance(each, str))
    claim(heard[:limit] == begun, f"limited to {limit}, it began {heard}")
    claim(ended == [f"{each} ends" for each in begun], f"of {begun} in the background: {ended}")


async def refuses_to_wait_for_its_opener(
    bus: EventBus, *, heard: Heard, limit: int, late: bool, delivery: DeliveryMode
) -> None:
    """A stream whose only reader waits for a background does not let that wait for room.

    The background waits for room after that, or before.
    """

    async def handler(_: object) -> None:
        await anyio.sleep(int(late))
        for number in range(2):
            failures = await bus.publish("b", number, delivery=delivery, on_error="continue")
            heard.extend(types_of(failures))

    await bus.subscribe("a", "c", handler)
    with anyio.move_on_after(9) as scope:
        async with bus.stream("b", buffer=1), bus.background(limit=limit) as background:
            await background.publish("a")
            await anyio.sleep(0.5)
    claim(not scope.cancelled_caught, "a reader waits for a background, which waits for it")
    told = "the reader of a full stream waits for a background that publishes to it:"
    claim(heard == [StreamDeadlock], f"{told} {heard}")


async def is_entered_once(bus: EventBus, *, when: str) -> None:
    """A background is not entered again, neither within its block nor later."""
    background = bus.background()
    async with background:
        if when == "within":
            with refused(ReceiverClosed, "a background was entered within its own block"):
                await background.__aenter__()
    if when == "later":
        with refused(ReceiverClosed, "a background was entered a second time"):
            await background.__aenter__()
