"""Programs that try an option of a subscription in each plan of calling handlers (P1)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from flexiflow import HandlerTimeout, LimitDeadlock
from flexiflow.testing._bus.plans import attend, subscribe_in
from flexiflow.testing._examiner.kit import Boom, Watch, claim, fail, noting, types_of

if TYPE_CHECKING:
    from flexiflow import EventBus
    from flexiflow._bus import DeliveryMode, ErrorPolicy
    from flexiflow.testing._bus.plans import Plan

    Heard: TypeAlias = list[Any]


async def asks_in_each_plan(
    bus: EventBus, *, plan: Plan, accepts: bool | None, delivery: DeliveryMode
) -> None:
    """A filter is asked, and decides, in each plan."""
    heard: Heard = []
    asked: Heard = []

    async def handler(data: object) -> None:
        heard.append(data)

    def raise_or_note(event: str, data: object) -> bool:
        if accepts is None:
            fail(data)
        return noting(asked, accepts=bool(accepts))(event, data)

    await subscribe_in(bus, plan, handler, filter=raise_or_note)
    for number in range(2):
        failures = await bus.publish("a", number, delivery=delivery, on_error="continue")
        expected = [Boom] * (accepts is None)
        claim(types_of(failures) == expected, f"of a filter that gives {accepts} came {failures}")
    claim(heard == [0, 1] * bool(accepts), f"a filter gives {accepts}, and its handler had {heard}")
    claim(asked == [0, 1] * (accepts is not None), f"of two publishes, a filter was asked {asked}")


async def is_called_once_in_each_plan(
    bus: EventBus, *, heard: Heard, plan: Plan, overlap: bool, delivery: DeliveryMode
) -> None:
    """A `once` handler is called once in each plan."""

    async def handler(data: object) -> None:
        heard.append(data)
        await checkpoint()

    made = await subscribe_in(bus, plan, handler, once=True)
    async with anyio.create_task_group() as group:
        for number in range(2):
            group.start_soon(partial(bus.publish, "a", number, delivery=delivery))
            if not overlap:
                await anyio.sleep(1)
    claim(len(heard) == 1, f"of two publishes, a handler for one time heard {heard}")
    claim(not made.active, "a handler for one time was called, and is subscribed")


async def fails_in_each_plan(
    bus: EventBus, *, plan: Plan, pattern: str, delivery: DeliveryMode
) -> None:
    """A failure is told as it is, with the event's name, in each plan."""
    told: Heard = []
    boom = Boom()

    async def handler(_: object) -> None:
        await checkpoint()
        raise boom

    made = await subscribe_in(bus, plan, handler, pattern)
    await bus.subscribe("event.handler.failed", "o", told.append)
    failures = await bus.publish("a", delivery=delivery, on_error="continue")
    given = [(each.event_name, each.component_name, each.exception) for each in failures]
    expected = [("a", "c", boom)]
    claim(given == expected, f"of a failure came {given}, not {expected}")
    claim(failures[0].subscription is made, f"a failure is of {failures[0].subscription}")
    shown = [(each["event_name"], each["component_name"], each["exception"]) for each in told]
    claim(shown == expected, f"of a failure was told {shown}")


async def ends_in_each_plan(
    bus: EventBus, *, heard: Heard, plan: Plan, by: str, delivery: DeliveryMode
) -> None:
    """A handler is not called if its subscription is ended before its turn."""
    made: Heard = []

    def end(*_: object) -> bool:
        bus.unsubscribe(made[0])
        return True

    async def first(_: object) -> None:
        await checkpoint()
        if by == "a handler":
            end()
        if by == "an observer":
            raise Boom

    async def note(data: object) -> None:
        heard.append(data)

    async def observe(_: object) -> None:
        end()

    asks: dict[str, Any] = {"filter": end}
    await bus.subscribe("a", "first", first, priority=1, **asks if by == "another's filter" else {})
    await bus.subscribe("event.handler.failed", "o", observe)
    asked = asks if by == "its filter" else {}
    made.append(await subscribe_in(bus, plan, note, priority=2, **asked))
    for number in range(2):
        await bus.publish("a", number, delivery=delivery, on_error="continue")
    claim(not heard, f"{by} ended a subscription before its turn, and its handler had {heard}")


async def joins_in_each_plan(
    bus: EventBus, *, heard: Heard, plan: Plan, event: str, delivery: DeliveryMode
) -> None:
    """A handler that is subscribed during a publish hears the next one."""

    async def note(data: object) -> None:
        heard.append(data)

    async def first(_: object) -> None:
        await checkpoint()
        if not joined:
            joined.append(await bus.subscribe(event, "c", note, priority=5))

    joined: Heard = []
    await bus.subscribe("a", "first", first, priority=1)
    await subscribe_in(bus, plan, note, priority=2)
    for number in range(2):
        await bus.publish("a", number, delivery=delivery)
    claim(heard == [0, 1, 1], f"two were published, and one has joined in the first: {heard}")


async def asks_nobody_that_has_ended(
    bus: EventBus, *, plan: Plan, how: str, delivery: DeliveryMode
) -> None:
    """The filter of a handler that was unsubscribed before its turn is not asked."""
    asked: Heard = []

    async def first(_: object) -> None:
        await checkpoint()
        if how == "all":
            bus.unsubscribe_all("c")
        else:
            bus.unsubscribe(made)

    await bus.subscribe("a", "first", first, priority=1)
    made = await subscribe_in(bus, plan, attend, priority=2, filter=noting(asked))
    await bus.publish("a", 0, delivery=delivery)
    claim(not asked, f"one of two handlers ends the other one, whose filter was asked {asked}")


async def is_late_in_each_plan(
    bus: EventBus, *, plan: Plan, delivery: DeliveryMode, policy: ErrorPolicy
) -> None:
    """A time limit holds in each plan."""

    async def sleep(_: object) -> None:
        await anyio.sleep(9)

    await subscribe_in(bus, plan, sleep, time_limit=2)
    begin = anyio.current_time()
    try:
        failed = types_of(await bus.publish("a", delivery=delivery, on_error=policy))
    except HandlerTimeout:
        failed = [HandlerTimeout]
    took = anyio.current_time() - begin
    told = f"of a handler that takes 9 s and may take 2, failed {failed}, after {took:g} s"
    claim((failed, took) == ([HandlerTimeout], 2), told)


async def is_limited_in_each_plan(
    bus: EventBus, *, heard: Heard, plan: Plan, limit: int, within: bool, delivery: DeliveryMode
) -> None:
    """At most so many calls run at once, and none waits for itself, in each plan."""

    async def handler(data: int) -> None:
        heard.append(f"{data} begins")
        await anyio.sleep(1)
        if within and data < 2:
            failures = await bus.publish("a", data + 2, delivery=delivery, on_error="continue")
            heard.extend(types_of(failures))
        heard.append(f"{data} ends")

    await subscribe_in(bus, plan, handler, limit=limit)
    async with anyio.create_task_group() as group:
        for number in range(1 if within else 2):
            group.start_soon(partial(bus.publish, "a", number, delivery=delivery))
            await anyio.sleep(0.1)
    if within:
        expected = ["0 begins", LimitDeadlock, "0 ends"]
    elif limit == 1:
        expected = ["0 begins", "0 ends", "1 begins", "1 ends"]
    else:
        expected = ["0 begins", "1 begins", "0 ends", "1 ends"]
    claim(heard == expected, f"limited to {limit}, it went {heard}, not {expected}")


async def watches_whom_it_calls(
    bus: EventBus, *, heard: Heard, plan: Plan, skips: str, delivery: DeliveryMode
) -> None:
    """A handler that is not to start is not watched."""

    async def first(_: object) -> None:
        if skips == "end":
            bus.unsubscribe(made)

    await bus.subscribe("a", "first", first, priority=1)
    asks: dict[str, Any] = {"filter": noting([], accepts=False)} if skips == "filter" else {}
    made = await subscribe_in(bus, plan, attend, priority=2, **asks)
    bus.add_instrument(Watch("x", heard))
    await bus.publish("a", delivery=delivery)
    seen = [each for each in heard if each.endswith(" c")]
    claim(not seen, f"a handler that is not called ({skips}) was watched: {seen}")
    expected = ["x enters first", "x leaves first"]
    given = [each for each in heard if each.endswith(" first")]
    claim(given == expected, f"beside a handler that is not called ({skips}) was seen {given}")
