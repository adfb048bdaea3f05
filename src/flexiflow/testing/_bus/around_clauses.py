"""The clause of functions around handlers, with its programs (A3)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from flexiflow import HandlerCancelled, HandlerTimeout
from flexiflow.events import HANDLER_FAILED
from flexiflow.testing._examiner.clause import Clause, programs
from flexiflow.testing._examiner.kit import (
    Boom,
    Watch,
    claim,
    fail,
    ignore,
    kept_cancellation,
    noting,
    refused,
    settle,
    types_of,
)

if TYPE_CHECKING:
    from flexiflow import Event, EventBus, Subscription
    from flexiflow._bus import DeliveryMode
    from flexiflow._subscription import Around, Inner

    Heard: TypeAlias = list[Any]


def around(heard: Heard, name: str) -> Around:
    """Return a function that notes its beginning and its end."""

    async def note(event: Event[Any], subscription: Subscription, call: Inner) -> None:
        heard.append(f"{name} begins")
        await call()
        heard.append(f"{name} ends")

    return note


def with_its_own(bus: EventBus, *functions: Around) -> EventBus | None:
    """Return another bus with functions of its own; None if it is not made as `EventBus` is."""
    try:
        return type(bus)(around=functions)
    except TypeError:
        return None


async def goes_inwards(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """The first function is the outermost, and the handler is inside of all."""

    async def handler(data: object) -> None:
        heard.append(data)

    both = [around(heard, "outer"), around(heard, "inner")]
    await bus.subscribe("a", "c", handler, around=both)
    await bus.publish("a", "the handler", delivery=delivery)
    expected = ["outer begins", "inner begins", "the handler", "inner ends", "outer ends"]
    claim(heard == expected, f"around a handler, it went {heard}")


async def goes_inwards_from_the_bus(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """The bus's own functions are outside of the subscription's, in their order."""
    names = ["first", "second", "third"]
    first, second, third = (around(heard, name) for name in names)
    made = with_its_own(bus, first, second)
    if made is None:
        return
    await made.subscribe("a", "c", ignore, around=[third])
    await made.publish("a", delivery=delivery)
    expected = [f"{name} begins" for name in names] + [f"{name} ends" for name in names[::-1]]
    claim(heard == expected, f"two functions of the bus and one of the handler went {heard}")


async def goes_inside_instruments(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """An instrument watches the functions together with the handler."""
    if not hasattr(bus, "add_instrument"):
        return
    bus.add_instrument(Watch("the instrument", heard))
    await bus.subscribe("a", "c", ignore, around=[around(heard, "around")])
    await bus.publish("a", delivery=delivery)
    expected = [
        "the instrument enters c",
        "around begins",
        "around ends",
        "the instrument leaves c",
    ]
    claim(heard[1:-1] == expected, f"inside of an instrument, it went {heard[1:-1]}")


async def comes_after_the_wait(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """A function is called when the handler's turn has come."""

    async def handler(_: object) -> None:
        await anyio.sleep(1)

    await bus.subscribe("a", "c", handler, limit=1, around=[around(heard, "around")])
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(partial(bus.publish, "a", delivery=delivery))
    expected = ["around begins", "around ends"] * 2
    claim(heard == expected, f"around two calls of a handler, limited to 1 at once, went {heard}")


async def tells_what_is_called(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """A function is given the event and the subscription."""

    async def note(event: Event[Any], subscription: Subscription, call: Inner) -> None:
        heard.extend([event.name, event.data, subscription])
        await call()

    s = await bus.subscribe("a.*", "c", ignore, around=[note])
    await bus.publish("a.b", 1, delivery=delivery)
    claim(heard == ["a.b", 1, s], f"of a.b with 1, a function was told {heard}")


async def decides_the_failure(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """What leaves the outermost function is the failure, and nothing else."""

    async def swallow(event: Event[Any], subscription: Subscription, call: Inner) -> None:
        try:
            await call()
        except Boom:
            heard.append("Boom")

    async def replace(event: Event[Any], subscription: Subscription, call: Inner) -> None:
        await call()
        raise LookupError

    await bus.subscribe("a", "c", fail, around=[replace, swallow])
    failures = await bus.publish("a", delivery=delivery, on_error="continue")
    claim(heard == ["Boom"], f"of a handler that raises Boom, a function around it saw {heard}")
    failed = types_of(failures)
    claim(failed == [LookupError], f"a function swallowed it and one raised another: {failed}")


async def may_leave_it_out(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """A function that does not call has succeeded."""

    async def skip(event: Event[Any], subscription: Subscription, call: Inner) -> None:
        """Do nothing."""

    async def handler(data: object) -> None:
        heard.append(data)

    await bus.subscribe("a", "c", handler, around=[skip])
    failures = await bus.publish("a", delivery=delivery, on_error="continue")
    claim(not heard, "the handler was called, and the function around it does not call it")
    claim(not failures, f"a function that does not call has failed: {failures}")


async def calls_again(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """A function may call again, also after a failure; the time limit is of each call."""

    async def twice(event: Event[Any], subscription: Subscription, call: Inner) -> None:
        for _ in range(3):
            try:
                await call()
            except Boom as error:
                heard.append(type(error))

    async def handler(_: object) -> None:
        heard.append("called")
        if heard.count("called") == 2:
            raise Boom
        await anyio.sleep(1.5)

    await bus.subscribe("a", "c", handler, time_limit=2, around=[twice])
    failures = await bus.publish("a", delivery=delivery, on_error="continue")
    claim(heard == ["called", "called", Boom, "called"], f"called three times: {heard}")
    claim(not failures, f"what a function swallowed was reported: {failures}")


async def times_out_inside(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """A function sees the handler's timeout, and a stray cancellation as a failure."""

    async def note(event: Event[Any], subscription: Subscription, call: Inner) -> None:
        try:
            await call()
        except (HandlerTimeout, HandlerCancelled) as error:
            heard.append(type(error))

    async def sleep(_: object) -> None:
        await anyio.sleep(9)

    async def stray(_: object) -> None:
        raise cancellation

    cancellation = await kept_cancellation()
    await bus.subscribe("a", "c", sleep, time_limit=1, around=[note])
    await bus.subscribe("b", "c", stray, around=[note])
    for name in ("a", "b"):
        await bus.publish(name, delivery=delivery, on_error="continue")
    expected = [HandlerTimeout, HandlerCancelled]
    claim(heard == expected, f"a function around them saw {heard}, and not {expected}")


async def calls_once_at_a_time(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """A call while one runs, and one after the function has returned, are refused."""
    calls: list[Inner] = []

    async def note(event: Event[Any], subscription: Subscription, call: Inner) -> None:
        calls.append(call)
        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await settle()
            with refused(RuntimeError, "a call while one runs was not refused"):
                await call()

    async def handler(data: object) -> None:
        heard.append(data)
        await anyio.sleep(1)

    await bus.subscribe("a", "c", handler, around=[note])
    failures = await bus.publish("a", 1, delivery=delivery, on_error="continue")
    claim(not failures, "".join(str(each.exception) for each in failures))
    with refused(RuntimeError, "a call after the function had returned was not refused"):
        await calls[0]()
    claim(heard == [1], f"called once, the handler heard {heard}")


async def comes_after_the_filter(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """A function is called only where the handler is to start; `once` is spent by then."""
    options: dict[str, Any] = {"around": [around(heard, "around")]}
    await bus.subscribe("a", "c", fail, filter=noting([], accepts=False), **options)
    s = await bus.subscribe("a", "c", ignore, once=True, **options)
    await bus.publish("a", delivery=delivery)
    claim(heard == ["around begins", "around ends"], f"one of two was to start: {heard}")
    claim(not s.active, "with a function around it, a handler with once=True stays subscribed")


async def sees_no_report(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """A function is not around the handler of a built-in event."""
    reports: Heard = []
    note = around(heard, "around")
    await bus.subscribe(HANDLER_FAILED, "c", reports.append, around=[note])
    await bus.subscribe("a", "c", fail)
    await bus.publish("a", delivery=delivery, on_error="continue")
    claim(len(reports) == 1, f"of one failure, {len(reports)} were reported")
    claim(not heard, "a function is around the handler of a built-in event")


async def sees_handlers_alone(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """The bus's own functions see no built-in event, no stream, no expectation and no answer."""
    made = with_its_own(bus, around(heard, "around"))
    if made is None:
        return
    reports: Heard = []
    await made.subscribe(HANDLER_FAILED, "c", reports.append)
    await made.subscribe("fails", "c", fail)
    await made.publish("fails", delivery=delivery, on_error="continue")
    claim(reports, "a failure on a bus with functions of its own is not published")
    claim(heard == ["around begins"], f"one handler failed, its report was heard, and so: {heard}")
    if hasattr(made, "stream") and hasattr(made, "expect"):
        async with made.stream("a"), made.expect("a"):
            await made.publish("a", delivery=delivery)
        claim(len(heard) == 1, f"around a stream and an expectation went {heard[1:]}")
    if hasattr(made, "answer"):
        await made.answer("q", "c", ignore)
        await made.ask("q")
        claim(len(heard) == 1, f"around an answer went {heard[1:]}")


A3 = Clause(
    "A3",
    "functions around handlers",
    "Each function in `around` is called with the event, the subscription and `call`, the first "
    "one outermost and the bus's own outside of the subscription's, after the wait for a slot, "
    "filter and `once`, inside the instruments and outside of `time_limit`; `call` raises what "
    "left the handler, judged; only what leaves the outermost is the failure; a function may call "
    "never or several times, one after another; built-in events, streams, expectations and answers "
    "are not seen.",
    programs(
        goes_inwards,
        goes_inwards_from_the_bus,
        goes_inside_instruments,
        comes_after_the_wait,
        tells_what_is_called,
        decides_the_failure,
        may_leave_it_out,
        calls_again,
        times_out_inside,
        calls_once_at_a_time,
        comes_after_the_filter,
        sees_no_report,
        sees_handlers_alone,
    ),
    needs=("subscribe(around=)", "subscribe(limit=)", "subscribe(time_limit=)"),
)
