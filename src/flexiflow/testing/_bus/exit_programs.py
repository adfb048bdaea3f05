"""Programs about what fails, exits or is cancelled at the same time (E1, E4, E5, E8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from flexiflow.testing._bus.ending_programs import failures_in
from flexiflow.testing._bus.plans import subscribe_in
from flexiflow.testing._examiner.kit import Boom, Exit, claim, log_kept
from flexiflow.testing._examiner.trace import parts

if TYPE_CHECKING:
    from flexiflow import EventBus
    from flexiflow._bus import DeliveryMode, ErrorPolicy
    from flexiflow.testing._bus.plans import Plan

    Heard: TypeAlias = list[Any]


async def fails_many_times(bus: EventBus, *, number: int, delivery: DeliveryMode) -> None:
    """However many handlers fail, all failures are returned, in order of delivery."""
    booms = [Boom(str(each)) for each in range(number)]

    async def handler(_: object) -> None:
        await checkpoint()
        raise left.pop(0)

    left = [*booms]
    for each in range(number):
        await bus.subscribe("a", f"c{each}", handler, priority=1 + 5 * each // number)
    failures = await bus.publish("a", delivery=delivery, on_error="continue")
    names = [each.component_name for each in failures]
    expected = [f"c{each}" for each in range(number)]
    claim(names == expected, f"of {number} that fail, publish returned {names}")
    raised = {str(each.exception) for each in failures}
    claim(raised == {*map(str, booms)}, f"of {number} failures publish returned {sorted(raised)}")


async def starts_nobody_when_cancelled(
    bus: EventBus, *, heard: Heard, delivery: DeliveryMode, policy: ErrorPolicy
) -> None:
    """When a handler fails in a publish that is cancelled, no later one starts."""

    async def first(_: object) -> None:
        scope.cancel()
        raise boom

    boom = Boom()
    await bus.subscribe("a", "first", first, priority=1)
    for priority in (1, 2):
        await bus.subscribe("a", "c", heard.append, priority=priority)
    left: Heard = []
    with log_kept() as records, anyio.CancelScope() as scope:
        try:
            await bus.publish("a", delivery=delivery, on_error=policy)
        except Boom as error:
            left.append(error)
    raises = policy == "raise"
    claim(not heard, f"a publish is cancelled, a handler fails, and others had {heard}")
    claim(left == [boom] * raises, f"under {policy!r} such a publish was left by {left}")
    times = failures_in(records).count(boom)
    claim(times == (not raises), f"under {policy!r} such a failure was logged {times} times")


async def exits_as_it_is_told(bus: EventBus, *, delivery: DeliveryMode, waits: bool) -> None:
    """An observer of a failure raises a `BaseException`, which leaves the publish bare."""
    leaving = Exit()

    async def observe(_: object) -> None:
        if waits:
            await checkpoint()
        raise leaving

    async def fail_later(_: object) -> None:
        await checkpoint()
        raise Boom

    async def hang(_: object) -> None:
        await anyio.sleep(9)

    await bus.subscribe("event.handler.failed", "o", observe)
    await bus.subscribe("a", "c", fail_later)
    await bus.subscribe("a", "c", hang)
    begin = anyio.current_time()
    left: Heard = []
    try:
        await bus.publish("a", delivery=delivery, on_error="continue")
    except Exit as error:
        left.append(error)
    took = anyio.current_time() - begin
    claim(left == [leaving], f"an observer of a failure exits, and publish was left by {left}")
    claim(took < 9, "an observer of a failure exits, and a sibling came to its end")


async def exits_in_a_cleanup(
    bus: EventBus, *, heard: Heard, delivery: DeliveryMode, policy: ErrorPolicy
) -> None:
    """If a sibling exits when a failure has cancelled it, the exit leaves, and both are told of."""
    boom, leaving = Boom("the first"), Exit()

    async def hang(_: object) -> None:
        try:
            await anyio.sleep(2)
        finally:
            heard.append("cleans up")
            raise leaving

    async def fail_later(_: object) -> None:
        await checkpoint()
        raise boom

    await bus.subscribe("a", "c", hang)
    await bus.subscribe("a", "c", fail_later)
    left: Heard = []
    with log_kept() as records:
        try:
            await bus.publish("a", delivery=delivery, on_error=policy)
        except (Boom, Exit) as error:
            left.append(error)
    times = failures_in(records).count(boom)
    told = f"of a failure, and a sibling's exit after it, under {policy!r}:"
    claim(left == [leaving], f"{told} publish was left by {left}")
    claim(times == 1, f"{told} the failure was logged {times} times, and not raised")


async def splits_what_a_cancelled_one_raises(
    bus: EventBus, *, plan: Plan, delivery: DeliveryMode
) -> None:
    """A failure in a group with the cancellation is logged once, and the cancellation goes on."""
    boom = Boom()

    async def handler(_: object) -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class() as error:
            raise BaseExceptionGroup("both", [boom, error]) from None

    await subscribe_in(bus, plan, handler)
    with log_kept() as records, anyio.move_on_after(1) as scope:
        await bus.publish("a", delivery=delivery, on_error="continue")
    logged = [part for each in failures_in(records) if each for part in parts(each)]
    times = logged.count(boom)
    claim(times == 1, f"a cancelled handler fails, too, which was logged {times} times")
    claim(scope.cancelled_caught, "a cancelled handler fails, too, and the publish went on")


async def exits_in_each_plan(
    bus: EventBus, *, heard: Heard, plan: Plan, delivery: DeliveryMode, policy: ErrorPolicy
) -> None:
    """A `BaseException` leaves a publish bare, and later handlers don't start."""
    leaving = Exit()

    async def handler(_: object) -> None:
        await checkpoint()
        raise leaving

    await subscribe_in(bus, plan, handler)
    await bus.subscribe("a", "later", heard.append, priority=5)
    left: list[BaseException] = []
    try:
        await bus.publish("a", delivery=delivery, on_error=policy)
    except Exit as error:
        left.append(error)
    claim(left == [leaving], f"a handler exits, and publish was left by {left}")
    claim(not heard or delivery == "concurrent", "a handler exits, and a later one was called")
