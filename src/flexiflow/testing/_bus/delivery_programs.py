"""Programs that claim what clauses of delivery promise, beyond what scripts show (D2 to D6, E6)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from flexiflow import HandlerCancelled
from flexiflow.testing._examiner.kit import claim, fail, ignore, kept_cancellation, mark, types_of

if TYPE_CHECKING:
    from flexiflow import EventBus, HandlerFailure
    from flexiflow._bus import DeliveryMode, ErrorPolicy

    Heard: TypeAlias = list[Any]


# D2 and D3


async def starts_many(
    bus: EventBus, *, heard: Heard, mode: DeliveryMode, policy: ErrorPolicy
) -> None:
    """More handlers than a script has start in order, each with a context of its own."""
    everyone, seen = anyio.Event(), set[object]()

    async def handler(number: int, _: object) -> None:
        heard.append(number)
        seen.add(mark.get())
        mark.set(number)
        if len(heard) == 40:
            everyone.set()
        await everyone.wait()

    for number in range(40):
        await bus.subscribe("a", "c", partial(handler, number))
    await bus.publish("a", delivery=mode, on_error=policy)
    claim(heard == [*range(40)], f"40 handlers were started in the order {heard}")
    claim(seen == {None}, f"40 handlers saw {seen} in a context variable that nobody had set")


# D6


async def is_cancelled_in_time(bus: EventBus, *, event: str, delivery: DeliveryMode) -> None:
    """Of so many publishes one is a checkpoint."""
    await bus.subscribe("a", "c", ignore)
    with anyio.CancelScope() as scope:
        scope.cancel()
        for _ in range(61):
            await bus.publish(event, delivery=delivery)
    claim(scope.cancelled_caught, "61 publishes in a row, and none is a checkpoint")


async def yields_in_time(bus: EventBus, *, event: str, delivery: DeliveryMode) -> None:
    """Another task has a turn after so many publishes."""
    await bus.subscribe("a", "c", ignore)
    longest = await longest_row(bus, event, delivery=delivery)
    claim(longest <= 61, f"{longest} publishes in a row, and another task had no turn")


async def counts_what_it_publishes(bus: EventBus, *, delivery: DeliveryMode) -> None:
    """The failures that are published count, too."""
    await bus.subscribe("a", "c", fail)
    longest = await longest_row(bus, "a", delivery=delivery, on_error="continue")
    told = f"{longest} publishes in a row, with as many failures that are published too"
    claim(longest <= 31, f"{told}, and another task had no turn")


async def longest_row(bus: EventBus, event: str, **options: Any) -> int:
    """Return the most publishes in a row during which another task had no turn."""
    longest, heard = 0, list[int]()

    async def clear() -> None:
        while True:
            heard.clear()
            await checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(clear)
        for number in range(61 * 2):
            heard.append(number)
            await bus.publish(event, **options)
            longest = max(longest, len(heard))
        group.cancel_scope.cancel()
    return longest


# E6


async def keeps_strays_in_a_shield(bus: EventBus, *, delivery: DeliveryMode) -> None:
    """A stray cancellation is a failure in a shield, too."""

    async def stray(_: object) -> None:
        raise await kept_cancellation()

    failures: tuple[HandlerFailure, ...] = ()
    await bus.subscribe("a", "c", stray)
    with anyio.CancelScope() as scope:
        scope.cancel()
        with anyio.CancelScope(shield=True):
            failures = await bus.publish("a", delivery=delivery, on_error="continue")
    told = types_of(failures)
    claim(told == [HandlerCancelled], f"in a shield, a stray cancellation is a failure of {told}")
