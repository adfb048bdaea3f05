"""Programs about options of a subscription, and how its handler ends (A3, B5, E5, V1, V2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from flexiflow import HandlerCancelled, HandlerTimeout, LimitDeadlock
from flexiflow.testing._bus.ending_programs import (
    FAILURES,
    ending,
    given_with,
    pass_on,
)
from flexiflow.testing._examiner.kit import (
    Boom,
    cancel_after,
    claim,
    ignore,
    log_kept,
    settle,
    types_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow import Event, EventBus, Subscription
    from flexiflow._bus import DeliveryMode, ErrorPolicy
    from flexiflow._subscription import Inner

    Heard: TypeAlias = list[Any]


async def calls_after_each_end(
    bus: EventBus,
    *,
    heard: Heard,
    ends: tuple[str, ...],
    option: str,
    delivery: DeliveryMode,
    policy: ErrorPolicy,
) -> None:
    """A function may call again, however the handler has ended before."""
    left = [*ends]

    async def handler(data: object) -> None:
        await ending(left.pop(0), [])(data)

    async def again(event: Event[Any], subscription: Subscription, call: Inner) -> None:
        for _ in ends:
            try:
                await call()
            except (Boom, HandlerCancelled, HandlerTimeout) as error:
                heard.append(type(error))
            else:
                heard.append(None)

    options = given_with("" if option == "around" else option, "")
    around = [pass_on, again] if option == "around" else [again]
    time: dict[str, Any] = {"time_limit": 2} if "times out" in ends else {}
    await bus.subscribe("a", "h", handler, **(options | time), around=around)
    failures = await bus.publish("a", delivery=delivery, on_error=policy)
    expected = [FAILURES.get(each) for each in ends]
    claim(heard == expected, f"called as often, a handler's ends were {heard}, not {expected}")
    claim(not failures, f"what a function swallowed was reported: {failures}")


BUILT_IN: Final = (
    "engine.component.registered",
    "component.message.received",
    "state.changed",
    "event.handler.failed",
)


async def sees_no_built_in_event(
    bus: EventBus, *, heard: Heard, event: str, pattern: str, delivery: DeliveryMode
) -> None:
    """No function is around the handler of a built-in event, even if a user publishes it."""
    calls: Heard = []

    async def note(event: Event[Any], subscription: Subscription, call: Inner) -> None:
        heard.append(event.name)
        await call()

    await bus.subscribe(pattern or event, "c", calls.append, around=[note])
    await bus.publish(event, {}, delivery=delivery)
    await bus.publish("a.b", {}, delivery=delivery)
    claim(calls, f"the handler of {event!r} was not called")
    expected = ["a.b"] if pattern else []
    claim(heard == expected, f"a function was around the handlers of {heard}, not {expected}")


async def is_late(
    bus: EventBus,
    *,
    heard: Heard,
    late: str,
    option: str,
    delivery: DeliveryMode,
    policy: ErrorPolicy,
) -> None:
    """A handler whose time is over has failed with `HandlerTimeout`, whatever it does then."""
    boom = Boom()

    async def handler(_: object) -> None:
        try:
            await anyio.sleep(9)
        except anyio.get_cancelled_exc_class():
            heard.append("cancelled")
            if late == "fails":
                raise boom from None
            if late == "waits":
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(1)
            if late == "returns":
                return
            raise

    given = given_with("" if option == "time limit" else option, "")
    await bus.subscribe("a", "c", handler, time_limit=2, **given)
    await bus.subscribe("a", "c", ignore, time_limit=9, priority=5)
    begin = anyio.current_time()
    left: Heard = []
    try:
        left = [
            each.exception for each in await bus.publish("a", delivery=delivery, on_error=policy)
        ]
    except HandlerTimeout as error:
        left = [error]
    took = anyio.current_time() - begin
    claim(heard == ["cancelled"], f"a handler that may take 2 s of 9 was cancelled: {heard}")
    claim([*map(type, left)] == [HandlerTimeout], f"it {late} when its time is over: {left}")
    cause = boom if late == "fails" else None
    claim(left[0].__cause__ is cause, f"the cause of {left[0]!r} is not {cause!r}")
    claim(took == (3 if late == "waits" else 2), f"it took {took:g} s")


async def is_cancelled_with_terms(
    bus: EventBus,
    *,
    heard: Heard,
    option: str,
    turns: int,
    delivery: DeliveryMode,
    policy: ErrorPolicy,
) -> None:
    """A publish that is cancelled passes that on, ends its handlers, and hinders no later one."""

    async def handler(data: object) -> None:
        heard.append("begins")
        try:
            await (settle() if data == 1 else checkpoint())
        finally:
            heard.append("ends")

    once = option == "once"
    await bus.subscribe("a", "c", handler, **given_with("limit" if once else option, ""))
    with log_kept() as records:
        scope = anyio.CancelScope()
        async with anyio.create_task_group() as group:
            with scope:
                group.start_soon(cancel_after, scope, turns)
                await bus.publish("a", 1, delivery=delivery, on_error=policy)
        claim(scope.cancelled_caught, "a publish that is cancelled did not pass that on")
        claim(heard in ([], ["begins", "ends"]), f"a publish is over, and its handler: {heard}")
        heard.clear()
        failures = await bus.publish("a", 2, delivery=delivery, on_error=policy)
    claim(heard == ["begins", "ends"], f"after one that was cancelled, a publish led to {heard}")
    logged = [record.getMessage() for record in records if record.levelname == "ERROR"]
    claim(not failures and not logged, f"a cancellation was reported: {failures} {logged}")


async def starts_nobody_that_was_ended(
    bus: EventBus,
    *,
    heard: Heard,
    by: str,
    how: Callable[[EventBus, Subscription], None],
    option: str,
    delivery: DeliveryMode,
) -> None:
    """No handler starts whose subscription was ended, by anything, just before its turn."""
    made: list[Subscription] = []

    def end(*_: object) -> bool:
        how(bus, made[0])
        return True

    async def first(_: object) -> None:
        if by == "a handler":
            end()
        raise Boom

    async def last(data: object) -> None:
        heard.append(data)

    asks: dict[str, Any] = {"filter": end}
    asked = asks if by == "another's filter" else {}
    await bus.subscribe("a", "first", first, priority=1, **asked)
    await bus.subscribe("event.handler.failed", "first", end if by == "an observer" else ignore)
    given = given_with(option, "") | (asks if by == "its filter" else {})
    made.append(await bus.subscribe("a", "c", last, priority=2, **given))
    await bus.publish("a", 1, delivery=delivery, on_error="continue")
    claim(not heard, f"{by} ended a subscription, and its handler started all the same")
    claim(not made[0].active, f"{by} ended a subscription, which is active")


ENDERS: Final = ("its filter", "another's filter", "a handler", "an observer")


async def shares_its_slots(
    bus: EventBus,
    *,
    heard: Heard,
    limit: int,
    seconds: tuple[int, ...],
    option: str,
    delivery: DeliveryMode,
) -> None:
    """So many calls run at once, first come first served."""
    begin = anyio.current_time()

    async def handler(data: int) -> None:
        heard.append((data, anyio.current_time() - begin))
        await anyio.sleep(seconds[data])

    await bus.subscribe("a", "c", handler, **given_with(option, limit=limit))
    free = [0] * limit
    expected: list[tuple[int, int]] = []
    for number, each in enumerate(seconds):
        start = min(free)
        free[free.index(start)] = start + each
        expected.append((number, start))

    async def publish(number: int) -> None:
        await bus.publish("a", number, delivery=delivery)

    async with anyio.create_task_group() as group:
        for number in range(len(seconds)):
            group.start_soon(publish, number)
            await settle()
    told = f"limited to {limit}, calls that take {seconds} began at {heard}"
    claim(sorted(heard) == sorted(expected), f"{told}, not {expected}")


async def waits_for_who_can_end(
    bus: EventBus, *, heard: Heard, others: int, option: str, delivery: DeliveryMode
) -> None:
    """A call in a ring fails only if no other call can give it a slot."""
    go, end = anyio.Event(), anyio.Event()

    async def handler(data: str) -> None:
        if data == "in the ring":
            await go.wait()
            await publish("b", "closes it")
        elif data == "free":
            await end.wait()

    async def other(data: str) -> None:
        if data == "in the ring":
            await publish("a", "needs a slot")

    async def publish(event: str, data: str) -> None:
        heard.extend(await bus.publish(event, data, delivery=delivery, on_error="continue"))

    await bus.subscribe("a", "c", handler, **given_with(option, limit=1 + others))
    await bus.subscribe("b", "c", other, limit=1)
    with anyio.move_on_after(9) as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(publish, "a", "in the ring")
            for _ in range(others):
                group.start_soon(publish, "a", "free")
            await settle()
            group.start_soon(publish, "b", "in the ring")
            await settle()
            go.set()
            await settle()
            end.set()
    claim(not scope.cancelled_caught, "two limited handlers wait for each other for ever")
    failed = types_of(heard)
    expected = [] if others else [LimitDeadlock]
    told = f"of two limited calls in a ring, with {others} others that end, failed {failed}"
    claim(failed == expected, told)
