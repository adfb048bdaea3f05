"""Programs about how failures are reported (E4, E7, S4), and what stays of them (B6)."""

from __future__ import annotations

import gc
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from flexiflow.testing._bus.ending_programs import LEAVING, ending, failures_in, given_with
from flexiflow.testing._examiner.kit import (
    Boom,
    Both,
    Exit,
    claim,
    fail,
    ignore,
    log_kept,
    refused,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flexiflow import EventBus
    from flexiflow._bus import DeliveryMode, ErrorPolicy

    Heard: TypeAlias = list[Any]


def cleaning(how: str, raised: Heard) -> Callable[[object], Awaitable[None]]:
    """Return a handler that waits until cancelled, and may then fail in its cleanup."""

    async def handler(_: object) -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            if how == "no":
                raise
            raised.append(Boom(str(len(raised))))
            raise raised[-1] from None

    return handler


async def publish_to_cleanups(
    bus: EventBus,
    raised: Heard,
    first: str,
    cleanups: tuple[str, ...],
    delivery: DeliveryMode,
    policy: ErrorPolicy,
) -> tuple[list[BaseException | None], list[BaseException]]:
    """Publish to handlers of which one ends as `first` says, and the others clean up.

    Return the exceptions that were logged, and those that left the publish.
    """
    for how in cleanups:
        await bus.subscribe("a", "c", cleaning(how, raised))
    await bus.subscribe("a", "c", ending(first, []))
    left: list[BaseException] = []
    with log_kept() as records, anyio.move_on_after(5):
        try:
            await bus.publish("a", delivery=delivery, on_error=policy)
        except LEAVING as error:
            left.append(error)
    return failures_in(records), left


async def tells_each_cleanup(
    bus: EventBus,
    *,
    heard: Heard,
    first: str,
    cleanups: tuple[str, ...],
    delivery: DeliveryMode,
    policy: ErrorPolicy,
) -> None:
    """What handlers raise in their cleanup is raised or reported, and never both."""
    logged, left = await publish_to_cleanups(bus, heard, first, cleanups, delivery, policy)
    for each in heard:
        times = logged.count(each), left.count(each)
        told = f"a sibling {first}; a failure in a cleanup was logged and raised {times} times"
        claim(times in ((1, 0), (0, 1)), told)


async def is_told_once(bus: EventBus, *, heard: Heard, how: str, delivery: DeliveryMode) -> None:
    """A failing handler of `event.handler.failed` is only logged, even if a user published that."""
    failed = "event.handler.failed"

    async def observer(data: object) -> None:
        heard.append("told")
        await checkpoint()
        if how == "nested":
            await bus.publish("b", delivery=delivery, on_error="continue")
        # A bus that tells of it would else go on for ever.
        raise Boom if len(heard) < 9 else Exit

    await bus.subscribe(failed, "c", observer)
    await bus.subscribe("a", "c", fail)
    await bus.subscribe("b", "c", fail)
    with log_kept() as records:
        options: dict[str, Any] = {"delivery": delivery, "on_error": "continue"}
        await bus.publish(failed if how == "published" else "a", {}, **options)
    claim(heard == ["told"], f"a failure's handler that fails was told {len(heard)} times")
    expected = {"published": 1, "failed": 2, "nested": 3}[how]
    logged = [record for record in records if record.levelname == "ERROR"]
    claim(len(logged) == expected, f"of {expected} failures, {len(logged)} were logged")


async def tells_of_its_filter(
    bus: EventBus,
    *,
    heard: Heard,
    waits: str,
    left_by: str,
    delivery: DeliveryMode,
    policy: ErrorPolicy,
) -> None:
    """What the filter of an expectation raises is raised to a waiting task, or else reported."""
    await bus.subscribe("event.handler.failed", "c", heard.append)

    def boom(_: str, __: object) -> bool:
        raise Boom

    with log_kept() as records, anyio.CancelScope() as scope, suppress(LookupError):
        async with bus.expect("a", filter=boom) as expected:
            failures = await bus.publish("a", delivery=delivery, on_error=policy)
            claim(not failures, f"the filter of a waiter is a failure of publish: {failures}")
            for _ in range({"never": 0, "once": 1, "twice": 2}[waits]):
                with refused(Boom, "what the filter raised does not raise at the waiter"):
                    await expected
            if left_by == "an exception":
                raise LookupError
            if left_by == "a cancellation":
                scope.cancel()
                await anyio.sleep_forever()
    logged = [record.getMessage() for record in records if record.levelname == "ERROR"]
    is_reported = waits == "never"
    told = f"a filter raised, which was awaited {waits}, and logged {len(logged)} times"
    claim(len(logged) == is_reported, told)
    # As a block is cancelled, nothing is published any more.
    is_told = is_reported and left_by != "a cancellation"
    claim(len(heard) == is_told, f"a filter raised, and published were {len(heard)}")


class Held:
    """A payload, or an exception's part, that can be seen to be gone."""


async def frees_what_failed(
    bus: EventBus,
    *,
    ends: str,
    option: str,
    delivery: DeliveryMode,
    policy: ErrorPolicy,
    watched: bool,
) -> None:
    """Nothing of a publish that is over stays in memory, whether it failed or not."""

    async def handler(data: object) -> None:
        await checkpoint()
        if ends == "fails":
            raise Boom(data)

    await bus.subscribe("a", "c", ignore)
    await bus.subscribe("a", "c", handler, **given_with(option))
    if watched and hasattr(bus, "add_instrument"):
        bus.add_instrument(Both())
    held = Held()
    alive = weakref.ref(held)
    with suppress(Boom):
        await bus.publish("a", held, delivery=delivery, on_error=policy)
    del held
    if alive() is not None:
        # A bus may leave a cycle behind. To collect cycles takes longer than all the rest.
        gc.collect()
    claim(alive() is None, f"a payload whose handler {ends} stays in memory")
