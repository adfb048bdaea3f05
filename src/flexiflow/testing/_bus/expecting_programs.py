"""Programs about several that wait for one event (S1, S4), and about odd instruments (I1, I3)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from flexiflow import ReceiverClosed
from flexiflow.testing._bus.ending_programs import failures_in
from flexiflow.testing._bus.waiting_programs import leave
from flexiflow.testing._examiner.kit import (
    Boom,
    Watch,
    claim,
    ignore,
    kept_cancellation,
    log_kept,
    settle,
)

if TYPE_CHECKING:
    from flexiflow import EventBus
    from flexiflow._bus import DeliveryMode

    Heard: TypeAlias = list[Any]


async def gives_all_the_same(
    bus: EventBus, *, heard: Heard, waiters: int, late: bool, fails: bool, delivery: DeliveryMode
) -> None:
    """All tasks that wait for an event get the same one, or the same exception of the filter."""
    boom = Boom()

    def accepts(_: str, data: object) -> bool:
        if fails and data:
            raise boom
        return bool(data)

    async def wait() -> None:
        try:
            heard.append((await expected).data)
        except Boom as error:
            heard.append(error)

    with anyio.move_on_after(9):
        async with bus.expect("a", filter=accepts) as expected, anyio.create_task_group() as group:
            for number in range(waiters):
                if not late:
                    group.start_soon(wait)
                    await settle()
                await bus.publish("a", number * (number == waiters - 1), delivery=delivery)
            for _ in range(waiters * late):
                group.start_soon(wait)
            await settle()
    outcomes = [boom if fails else waiters - 1] * waiters
    claim(heard == outcomes, f"{waiters} wait for one event, and got {heard}")


async def tells_its_waiters(bus: EventBus, *, heard: Heard, comes: bool, left_by: str) -> None:
    """When an expectation is left, those that wait are told, unless the event has come."""
    expected = bus.expect("a")

    async def wait() -> None:
        try:
            heard.append((await expected).data)
        except ReceiverClosed:
            heard.append("closed")

    with anyio.move_on_after(9):
        async with anyio.create_task_group() as group:
            with suppress(Boom), anyio.CancelScope() as scope:
                async with expected:
                    for _ in range(2):
                        group.start_soon(wait)
                    await settle()
                    if comes:
                        await bus.publish("a", 1)
                    await leave(left_by, scope)
    outcomes = [1, 1] if comes else ["closed", "closed"]
    claim(heard == outcomes, f"left by {left_by}, an expectation told those that wait {heard}")


async def takes_the_first_of_a_filter(
    bus: EventBus, *, heard: Heard, delivery: DeliveryMode
) -> None:
    """Of an event that the filter itself has published, and the one before, the first counts."""

    def accepts(_: str, data: int) -> bool:
        if data == 0:
            with suppress(StopIteration):
                # It does not wait for anything.
                bus.publish("a", 1, delivery="sequential").__await__().send(None)
        return True

    async with bus.expect("a", filter=accepts) as expected:
        await bus.publish("a", 0, delivery=delivery)
        with anyio.move_on_after(9):
            heard.append((await expected).data)
    claim(heard == [1], f"asked for 0, a filter publishes 1 and accepts both; it gave {heard}")


class Equal(Watch):
    """An instrument that equals all others of its kind."""

    def __eq__(self, other: object) -> bool:
        """Return whether the other one is of this kind."""
        return isinstance(other, Equal)

    def __hash__(self) -> int:
        """Return the same for all."""
        return 0


async def knows_each_instrument(
    bus: EventBus, *, heard: Heard, removed: int, delivery: DeliveryMode
) -> None:
    """An instrument is there once, however often it is added, and is not another, equal one."""
    both = [Equal(f"{number}", heard) for number in range(2)]
    for each in (*both, *both):
        bus.add_instrument(each)
    await bus.publish("a", delivery=delivery)
    expected = ["0 enters a", "1 enters a", "1 leaves a", "0 leaves a"]
    claim(heard == expected, f"two equal instruments, added twice each, saw {heard}")
    heard.clear()
    claim(bus.remove_instrument(both[removed]) is True, "an instrument that was there was not")
    await bus.publish("a", delivery=delivery)
    rest = [f"{1 - removed} enters a", f"{1 - removed} leaves a"]
    claim(heard == rest, f"of two equal instruments, {removed} was removed; {heard}")


async def survives_a_stray_instrument(
    bus: EventBus, *, heard: Heard, where: str, delivery: DeliveryMode
) -> None:
    """A cancellation that leaves an instrument is a failure of the instrument."""
    stray: Any = await kept_cancellation()
    called: Heard = []

    class Lets(Watch):
        def note(self, what: str, exception: BaseException | None = None) -> None:
            super().note(what, exception)
            if what == where:
                raise stray

    await bus.subscribe("a", "h", called.append)
    await bus.subscribe("a", "later", ignore)
    bus.add_instrument(Lets("x", heard))
    with log_kept() as records:
        failures = await bus.publish("a", 1, delivery=delivery, on_error="continue")
        seen = len(heard)
        await bus.publish("a", 2, delivery=delivery)
    claim(called == [1, 2], f"an instrument lets a cancellation out, and a handler had {called}")
    claim(not failures, f"an instrument lets a cancellation out, which failed: {failures}")
    claim(len(heard) == seen, f"an instrument that lets a cancellation out still sees {heard}")
    times = failures_in(records).count(stray)
    claim(times == 1, f"a cancellation that left an instrument was logged {times} times")
