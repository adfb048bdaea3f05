"""Programs about lines of limited calls, which some leave (A1, V2), and about cleanups (E4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from flexiflow import DuplicateAnswer, NoAnswer
from flexiflow.testing._bus.telling_programs import publish_to_cleanups
from flexiflow.testing._examiner.kit import claim, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow import EventBus, Subscription
    from flexiflow._bus import DeliveryMode, ErrorPolicy

    Heard: TypeAlias = list[Any]


async def limit_to(bus: EventBus, way: str, handler: Callable[[Any], Any], limit: int) -> Any:
    """Subscribe a limited handler, or answer a query by it."""
    if way == "publish":
        return await bus.subscribe("a", "c", handler, limit=limit)
    return await bus.answer("q", "c", handler, limit=limit)


async def call_by(bus: EventBus, way: str, number: int, delivery: DeliveryMode) -> None:
    """Call the handler by a publish, or by a question."""
    if way == "publish":
        await bus.publish("a", number, delivery=delivery)
    else:
        await bus.ask("q", number)


class Line:
    """The calls of a limited handler, of which some leave while they wait.

    Args:
        leaving: which ones leave.
        moment: when they do.
    """

    def __init__(self, leaving: tuple[int, ...], moment: str) -> None:
        self.leaving, self.moment = leaving, moment
        self.scopes = [anyio.CancelScope() for _ in range(6)]
        self.go = anyio.Event()
        self.heard: list[int] = []
        self.running = self.most = 0

    def leave(self, when: str) -> None:
        """Cancel those that leave at this moment."""
        for each in self.leaving if self.moment == when else ():
            self.scopes[each].cancel()

    async def handle(self, data: int) -> None:
        """Handle a call; the first two wait until they are let go."""
        self.heard.append(data)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await (self.go.wait() if data < 2 else checkpoint())
        finally:
            self.running -= 1
        if data == 1:
            self.leave("as a call ends")


async def passes_the_slot_on(
    bus: EventBus,
    *,
    limit: int,
    leaving: tuple[int, ...],
    moment: str,
    way: str,
    delivery: DeliveryMode,
) -> None:
    """If calls leave the line, at any time, the others go on in order.

    The calls 2 to 4 wait for a slot, of which the calls before have all.
    """
    line = Line(leaving, moment)

    async def call(number: int) -> None:
        with line.scopes[number]:
            await call_by(bus, way, number, delivery)
        if number == 1:
            line.leave("after a call")

    await limit_to(bus, way, line.handle, limit)
    first = range(2 - limit, 5)
    with anyio.move_on_after(9) as scope:
        async with anyio.create_task_group() as group:
            for number in first:
                group.start_soon(call, number)
                await settle()
            line.leave("in line")
            line.go.set()
            await settle()
            # A later call gets a slot, too.
            await call(5)
    told = f"of calls {[*first]}, and 5 in the end, {leaving} left {moment}:"
    claim(not scope.cancelled_caught, f"{told} others wait for ever")
    # Those that leave as they are called may have begun.
    given = [each for each in line.heard if each not in leaving]
    claim(given == [*(each for each in first if each not in leaving), 5], f"{told} {line.heard}")
    claim(line.most <= limit, f"{told} {line.most} ran at once, and may {limit}")
    late = [each for each in leaving if moment == "in line" and each in line.heard]
    claim(not late, f"{told} {late} were called after that")


async def ends_a_line(
    bus: EventBus,
    *,
    heard: Heard,
    way: str,
    how: Callable[[EventBus, Subscription], None],
    delivery: DeliveryMode,
) -> None:
    """Nobody that waits is called when what it waits for has been unsubscribed."""
    left: Heard = []
    go = anyio.Event()

    async def handler(data: object) -> None:
        heard.append(data)
        await go.wait()

    async def call(number: int) -> None:
        try:
            await call_by(bus, way, number, delivery)
            left.append(number)
        except NoAnswer:
            left.append(f"no answer to {number}")

    made = await limit_to(bus, way, handler, 1)
    with anyio.move_on_after(9):
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(call, number)
                await settle()
            how(bus, made)
            go.set()
    claim(heard == [0], f"0 runs, 1 and 2 wait, and it is unsubscribed: called were {heard}")
    others = [1, 2] if way == "publish" else ["no answer to 1", "no answer to 2"]
    claim(sorted(left, key=str) == sorted([0, *others], key=str), f"after that came {left}")


async def answers_at_once(bus: EventBus, *, heard: Heard, number: int) -> None:
    """Of several that begin to answer a query at once, one does."""
    refused: Heard = []

    async def answer(which: int) -> None:
        async def handler(_: object) -> int:
            return which

        try:
            await bus.answer("q", f"c{which}", handler)
            heard.append(which)
        except DuplicateAnswer:
            refused.append(which)

    async with anyio.create_task_group() as group:
        for each in range(number):
            group.start_soon(answer, each)
    claim(len(heard) == 1, f"of {number} that answer one query, {len(heard)} could")
    claim(len(refused) == number - 1, f"of {number} that answer one query, refused were {refused}")
    given = await bus.ask("q")
    claim([given] == heard, f"{heard} answers a query, and it was answered by {given}")


async def announces_each_cleanup(
    bus: EventBus,
    *,
    heard: Heard,
    first: str,
    cleanups: tuple[str, ...],
    delivery: DeliveryMode,
    policy: ErrorPolicy,
) -> None:
    """What handlers raise in their cleanup is logged and published, unless it is raised."""
    told: Heard = []
    await bus.subscribe("event.handler.failed", "o", told.append)
    logged, left = await publish_to_cleanups(bus, heard, first, cleanups, delivery, policy)
    # In a publish that is cancelled nothing is published any more.
    is_over = first == "is cancelled" or (first, policy) == ("fails", "continue")
    shown = [each["exception"] for each in told]
    for each in heard:
        times = logged.count(each), shown.count(each), left.count(each)
        expected = [(0, 0, 1), (1, int(not is_over), 0)]
        what = f"a sibling {first}; a failure in a cleanup was logged, published and raised"
        claim(times in expected, f"{what} {times} times")
