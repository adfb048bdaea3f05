"""The clause of publishing in the background, with its programs (B15)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from flexiflow import BufferFull, LimitDeadlock, PublishRefused, ReceiverClosed, StreamDeadlock
from flexiflow.events import HANDLER_FAILED
from flexiflow.testing._examiner.clause import Clause, programs
from flexiflow.testing._examiner.kit import (
    Boom,
    Watch,
    claim,
    fail,
    ignore,
    log_kept,
    mark,
    refused,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from flexiflow import Event, EventBus

    Heard: TypeAlias = list[Any]


async def goes_on(bus: EventBus, *, heard: Heard, limit: int) -> None:
    """A publisher does not wait; at most `limit` run at once, in order, and all have an end."""
    running, most = list[int](), list[int]()

    async def handler(data: int) -> None:
        heard.append(data)
        running.append(data)
        most.append(len(running))
        await anyio.sleep(1)
        running.remove(data)

    await bus.subscribe("a", "c", handler)
    begin = anyio.current_time()
    async with bus.background(limit=limit) as background:
        for number in range(5):
            await background.publish("a", number)
        claim(anyio.current_time() == begin, "a publisher waited for the handlers")
    claim(heard == [*range(5)], f"published from 0 to 4, they began in the order {heard}")
    claim(max(most) == limit, f"limited to {limit} at once, {max(most)} publishes ran")
    claim(not running, f"at the end of the block {running} still ran")


async def is_left(bus: EventBus, *, heard: Heard, end: str) -> None:
    """Left by an exception or a cancellation, it cancels what runs, and begins nothing more."""
    ended, begin = list[float](), anyio.current_time()

    async def handler(data: object) -> None:
        heard.append(data)
        try:
            await anyio.sleep(1)
        finally:
            ended.append(anyio.current_time() - begin)

    await bus.subscribe("a", "c", handler)
    background = bus.background(limit=2)
    with suppress(Boom), anyio.CancelScope() as scope:
        async with background:
            for number in range(4):
                await background.publish("a", number)
            await anyio.sleep(0.5)
            if end == "an exception":
                raise Boom
            scope.cancel()
            await checkpoint()
    claim(heard == [0, 1], f"of 0 to 3, two at once, left by {end} it began {heard}")
    claim(max(ended) < 1, f"left by {end} after 0.5 s, what ran went on until {max(ended)} s")
    counts = background.statistics()
    claim(counts.abandoned == 2, f"2 events were not begun, and {counts.abandoned} are counted")


async def reports_failures(bus: EventBus, *, heard: Heard) -> None:
    """Failures are reported, and stop nothing."""
    await bus.subscribe(HANDLER_FAILED, "c", heard.append)
    await bus.subscribe("a", "c", fail)
    async with bus.background(limit=1) as background:
        for _ in range(2):
            await background.publish("a")
    failed: list[type] = [type(each["exception"]) for each in heard]
    claim(failed == [Boom, Boom], f"of two failures in the background, {failed} were reported")


async def copies_the_context(bus: EventBus, *, heard: Heard) -> None:
    """Handlers run in a copy of the publisher's context, as it was at the call."""

    async def handler(_: object) -> None:
        heard.append(mark.get())
        mark.set("the handler's")

    await bus.subscribe("a", "c", handler)
    async with bus.background(limit=1) as background:
        for number in range(2):
            mark.set(number)
            await background.publish("a")
        mark.set("later")
    claim(heard == [0, 1], f"published in the contexts 0 and 1, handlers saw {heard}")
    claim(mark.get() == "later", f"a handler changed the publisher's context: {mark.get()}")


async def leaves_its_limit(bus: EventBus, *, heard: Heard) -> None:
    """A limited handler that publishes its event in the background does not wait for itself."""

    async def handler(data: int) -> None:
        heard.append(data)
        if data:
            await background.publish("a", data - 1)
        await anyio.sleep(1)

    await bus.subscribe("a", "c", handler, limit=1)
    with anyio.move_on_after(9):
        async with bus.background(limit=3) as background:
            await background.publish("a", 2)
    claim(heard == [2, 1, 0], f"each publishes the next one in the background: {heard}")


async def counts_for_its_opener(bus: EventBus, *, heard: Heard) -> None:
    """A limited handler that opens a block does not wait for a call of itself there."""

    async def handler(data: int) -> None:
        heard.append(data)
        async with bus.background() as background:
            for number in range(data):
                await background.publish("a", number)

    def note(data: Any) -> None:
        heard.append(type(data["exception"]))

    await bus.subscribe(HANDLER_FAILED, "c", note)
    await bus.subscribe("a", "c", handler, limit=1)
    with anyio.move_on_after(9) as scope:
        await bus.publish("a", 1)
    claim(not scope.cancelled_caught, "the end of a block waits for the handler that opened it")
    told = f"a limited handler was to be called while it waits, which went {heard}"
    claim(heard == [1, LimitDeadlock], told)


async def leaves_its_announcement(bus: EventBus, *, heard: Heard) -> None:
    """A failure in the background of a failure's handler is published, too."""

    async def handler(data: Any) -> None:
        heard.append(data["event_name"])
        if data["event_name"] == "a":
            await background.publish("b")
            # Until b has failed, and this was told.
            await anyio.sleep(1)

    await bus.subscribe(HANDLER_FAILED, "c", handler)
    for event in ("a", "b"):
        await bus.subscribe(event, "c", fail)
    async with bus.background() as background:
        await bus.publish("a", on_error="continue")
    told = f"handlers of a and, in the background of that failure, of b failed; told were {heard}"
    claim(heard == ["a", "b"], told)


async def takes_its_snapshot_late(bus: EventBus, *, heard: Heard) -> None:
    """The handlers are those that are subscribed when the publish begins."""

    async def handler(_: object) -> None:
        await anyio.sleep(1)

    await bus.subscribe("a", "c", handler)
    async with bus.background(limit=1) as background:
        await background.publish("a", 0)
        await background.publish("a", 1)
        await anyio.sleep(0.5)
        await bus.subscribe("a", "c", heard.append)
    claim(heard == [1], f"subscribed after 0 and before 1 began, a handler was called with {heard}")


async def logs_a_refusal(bus: EventBus, *, heard: Heard) -> None:
    """An instrument that refuses a publish stops that one alone, and this is logged."""

    class Refuses(Watch):
        def publishing(self, event: Event[Any], /) -> AbstractContextManager[object]:
            if event.data == "refused":
                raise PublishRefused
            return super().publishing(event)

    bus.add_instrument(Refuses("1", []))
    await bus.subscribe("a", "c", heard.append)
    with log_kept() as records:
        async with bus.background(limit=1) as background:
            for data in ("refused", "goes on"):
                await background.publish("a", data)
    claim(heard == ["goes on"], f"the first of two publishes was refused, and handlers got {heard}")
    claim(records, "a publish in the background was refused, and this was not logged")


async def takes_a_burst(bus: EventBus, *, heard: Heard, overflow: str, limit: int) -> None:
    """What begins at once takes no room in the buffer, also if it is published in one step."""

    async def handler(data: object) -> None:
        heard.append(data)
        await anyio.sleep(1)

    await bus.subscribe("a", "c", handler)
    options: dict[str, Any] = {"overflow": overflow}
    begin = anyio.current_time()
    async with bus.background(limit=limit, buffer=2, **options) as background:
        for number in range(limit + 2):
            await background.publish("a", number)
        claim(anyio.current_time() == begin, "a publisher waited while there was room")
    expected = [*range(limit + 2)]
    claim(heard == expected, f"of {expected}, for which there was room, it handled {heard}")


async def waits_for_room(bus: EventBus, *, heard: Heard, overflow: str) -> None:
    """A full buffer makes publishers wait, or drops by its policy."""

    async def handler(data: object) -> None:
        heard.append(data)
        await anyio.sleep(1)

    await bus.subscribe("a", "c", handler)
    options: dict[str, Any] = {"overflow": overflow}
    async with bus.background(limit=1, buffer=1, **options) as background:
        for number in range(4):
            try:
                await background.publish("a", number)
            except BufferFull:
                heard.append(f"{number} refused")
            await anyio.sleep(0.1)
    expected = {
        "block": [0, 1, 2, 3],
        "drop_oldest": [0, 3],
        "drop_newest": [0, 1],
        "error": [0, "2 refused", "3 refused", 1],
    }[overflow]
    claim(heard == expected, f"of 0 to 3 with {overflow!r}, it handled {heard}")


async def never_waits_for_itself(bus: EventBus, *, heard: Heard) -> None:
    """A handler that publishes to its own full background is refused."""

    async def handler(data: int) -> None:
        if data == 0:
            await background.publish("a", 1)
            try:
                await background.publish("a", 2)
            except StreamDeadlock:
                heard.append("refused")

    await bus.subscribe("a", "c", handler)
    with anyio.move_on_after(9) as scope:
        async with bus.background(limit=1, buffer=1) as background:
            await background.publish("a", 0)
    claim(not scope.cancelled_caught, "a handler waits for itself for ever")
    claim(heard == ["refused"], "a handler that would wait for itself was not refused")


async def is_closed(bus: EventBus, *, when: str) -> None:
    """Before and after its block nothing can be published there; bad names never."""
    await bus.subscribe("a", "c", ignore)
    background = bus.background()
    if when == "after":
        async with background:
            with refused(ValueError, "a pattern was published in the background"):
                await background.publish("a.*")
    with refused(ReceiverClosed, f"{when} its block, something was published in the background"):
        await background.publish("a")


B15 = Clause(
    "B15",
    "publishing in the background",
    "`background.publish` returns when the event has its place; at most `limit` publishes run at "
    "once, begun in order, in copies of their publishers' contexts and outside their limits; "
    "failures are reported; leaving the block waits for all, and by an exception or a cancellation "
    "cancels them; a full buffer blocks or drops, and a handler never waits for itself.",
    programs(
        goes_on,
        is_left,
        reports_failures,
        copies_the_context,
        leaves_its_limit,
        counts_for_its_opener,
        leaves_its_announcement,
        takes_its_snapshot_late,
        logs_a_refusal,
        takes_a_burst,
        waits_for_room,
        never_waits_for_itself,
        is_closed,
        limit=(1, 2),
        end=("an exception", "a cancellation"),
        overflow=("block", "drop_oldest", "drop_newest", "error"),
        when=("before", "after"),
    ),
    needs=("background", "subscribe(limit=)", "add_instrument"),
    share=0.6,
)
