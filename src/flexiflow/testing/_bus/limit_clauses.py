"""The clauses of limits, with their programs (V1, V2)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
from anyio.lowlevel import checkpoint
from hypothesis import strategies as st

from flexiflow import HandlerTimeout, LimitDeadlock
from flexiflow.testing._examiner.clause import Clause, programs, scheduled
from flexiflow.testing._examiner.kit import cancel_after, claim, log_kept, refused, types_of

if TYPE_CHECKING:
    from flexiflow import EventBus, HandlerFailure
    from flexiflow._bus import DeliveryMode, ErrorPolicy

    Heard: TypeAlias = list[Any]


async def sleep(_: object) -> None:
    """Handle an event for 9 seconds."""
    await anyio.sleep(9)


async def ends_in_time(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """A handler is ended when its time is over, which is a failure."""

    async def handler(_: object) -> None:
        try:
            await anyio.sleep(9)
        finally:
            heard.append(anyio.current_time() - begin)

    await bus.subscribe("a", "c", handler, time_limit=2)
    begin = anyio.current_time()
    failures = await bus.publish("a", delivery=delivery, on_error="continue")
    failed = types_of(failures)
    told = f"of a handler that takes 9 s and may take 2, failed {failed}"
    claim(failed == [HandlerTimeout], told)
    claim([*map(round, heard)] == [2], f"a handler that may take 2 s was ended after {heard}")


async def raises_its_timeout(bus: EventBus, *, delivery: DeliveryMode) -> None:
    """Under `raise`, a handler whose time is over makes `publish` raise."""
    await bus.subscribe("a", "c", sleep, time_limit=2)
    with refused(HandlerTimeout, "a handler's time is over, and publish raises nothing"):
        await bus.publish("a", delivery=delivery, on_error="raise")


async def takes_less(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """A handler that takes less time ends by itself."""

    async def handler(data: int) -> None:
        await anyio.sleep(data)
        heard.append(data)

    await bus.subscribe("a", "c", handler, time_limit=2)
    failures = await bus.publish("a", 1, delivery=delivery, on_error="continue")
    told = f"a handler that ends in time heard {heard}: {failures}"
    claim((len(failures), heard) == (0, [1]), told)


async def passes_a_deadline_on(
    bus: EventBus, *, heard: Heard, delivery: DeliveryMode, policy: ErrorPolicy
) -> None:
    """The deadline around a publish is none of the handler's."""
    await bus.subscribe("a", "c", sleep, time_limit=2)
    with log_kept() as records, anyio.move_on_after(1) as scope:
        heard.extend(await bus.publish("a", delivery=delivery, on_error=policy))
    claim(scope.cancelled_caught, f"publish swallowed the deadline around it: {heard}")
    logged = [record.getMessage() for record in records if record.levelname == "ERROR"]
    claim(not logged, f"the deadline around publish was taken for the handler's: {logged}")


async def has_its_own_deadline(bus: EventBus, *, delivery: DeliveryMode) -> None:
    """A `TimeoutError` of the handler's own is a failure like any other."""

    async def handler(_: object) -> None:
        with anyio.fail_after(1):
            await anyio.sleep(9)

    await bus.subscribe("a", "c", handler, time_limit=2)
    failures = await bus.publish("a", delivery=delivery, on_error="continue")
    failed = types_of(failures)
    claim(failed == [TimeoutError], f"of a handler with a deadline of its own failed {failed}")


async def lets_sync_handlers_end(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """A sync handler can't be ended, and does not fail."""
    await bus.subscribe("a", "c", heard.append, time_limit=1e-9)
    failures = await bus.publish("a", 1, delivery=delivery, on_error="continue")
    claim(not failures, f"a sync handler with a time limit failed: {failures}")
    claim(heard == [1], f"a sync handler with a time limit heard {heard}")


async def runs_so_many(bus: EventBus, *, heard: Heard, limit: int, delivery: DeliveryMode) -> None:
    """At most `limit` calls run at once, in order; a filter is asked when its turn has come."""
    running, most, asked = list[int](), list[int](), list[int]()

    async def handler(data: int) -> None:
        running.append(data)
        heard.append(data)
        most.append(len(running))
        await anyio.sleep(1)
        running.remove(data)

    def accepts(_: str, __: object) -> bool:
        asked.append(len(running))
        return True

    await bus.subscribe("a", "c", handler, limit=limit, filter=accepts)
    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(partial(bus.publish, "a", number, delivery=delivery))
            await anyio.sleep(0.1)
    claim(max(most) == limit, f"limited to {limit} at once, {max(most)} calls ran")
    claim(heard == [*range(5)], f"in line from 0 to 4, the calls ran in the order {heard}")
    claim(max(asked) < limit, "the filter was asked before a call's turn had come")


async def stand_in_line(
    bus: EventBus, delivery: DeliveryMode, *, leaves: bool = False, **options: Any
) -> tuple[Heard, Heard]:
    """Publish three times to a handler that takes 2 seconds; return what it heard, and failures."""
    heard: Heard = []
    failures: Heard = []

    async def handler(data: object) -> None:
        heard.append(data)
        await anyio.sleep(2)

    async def publish(number: int) -> None:
        failures.extend(await bus.publish("a", number, delivery=delivery, on_error="continue"))

    s = await bus.subscribe("a", "c", handler, limit=1, **options)
    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(publish, number)
            await anyio.sleep(0.1)
        if leaves:
            bus.unsubscribe(s)
    return heard, failures


async def leaves_the_line(bus: EventBus, *, delivery: DeliveryMode) -> None:
    """A handler that is unsubscribed handles none of the events that wait for it."""
    heard, _ = await stand_in_line(bus, delivery, leaves=True)
    claim(heard == [0], f"0 ran, others waited, and it was unsubscribed: heard {heard}")


async def waits_at_no_cost(bus: EventBus, *, delivery: DeliveryMode) -> None:
    """Waiting for a turn takes nothing from a handler's time."""
    _, failures = await stand_in_line(bus, delivery, time_limit=3)
    claim(not failures, f"its time ran while it waited for its turn: {failures}")


async def waits_for_its_one_time(bus: EventBus, *, delivery: DeliveryMode) -> None:
    """A handler that is subscribed for one time is called once, however many events wait."""
    heard, _ = await stand_in_line(bus, delivery, once=True)
    claim(heard == [0], f"once only, and limited to 1 at once, it heard {heard}")


async def calls_itself(bus: EventBus, *, delivery: DeliveryMode) -> None:
    """A call that waits for itself fails."""
    heard: list[HandlerFailure] = []

    async def handler(_: object) -> None:
        heard.extend(await bus.publish("a", delivery=delivery, on_error="continue"))

    await bus.subscribe("a", "c", handler, limit=1)
    await bus.publish("a", delivery=delivery)
    failed = types_of(heard)
    claim(failed == [LimitDeadlock], f"called from within its own call, it failed with {failed}")


async def call_each_other(bus: EventBus, *, delivery: DeliveryMode) -> None:
    """Of two calls that wait for each other one fails."""
    heard: list[HandlerFailure] = []

    async def handler(following: str, data: object) -> None:
        await anyio.sleep(1)
        if data is None:
            failures = await bus.publish(following, 1, delivery=delivery, on_error="continue")
            heard.extend(failures)

    await bus.subscribe("a", "c", partial(handler, "b"), limit=1)
    await bus.subscribe("b", "c", partial(handler, "a"), limit=1)
    with anyio.move_on_after(9) as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(bus.publish, "a")
            group.start_soon(bus.publish, "b")
    failed = types_of(heard)
    claim(not scope.cancelled_caught, "two calls wait for each other for ever")
    claim(failed == [LimitDeadlock], f"of two calls that wait for each other failed {failed}")


async def frees_its_place(
    bus: EventBus, *, heard: Heard, turns: int, delivery: DeliveryMode
) -> None:
    """A call that is cancelled, whenever that is, holds up no other."""
    scope = anyio.CancelScope()

    async def handler(data: object) -> None:
        await checkpoint()
        heard.append(data)

    async def publish() -> None:
        with scope:
            await bus.publish("a", 1, delivery=delivery)

    await bus.subscribe("a", "c", handler, limit=1)
    async with anyio.create_task_group() as group:
        group.start_soon(bus.publish, "a", 0)
        await checkpoint()
        group.start_soon(publish)
        group.start_soon(cancel_after, scope, turns)
    with anyio.move_on_after(1):
        await bus.publish("a", 2, delivery=delivery)
    claim(heard[-1] == 2, f"of 0, 1, which was cancelled, and 2, the handler heard {heard}")


_WAITS: Final = (leaves_the_line, waits_at_no_cost, waits_for_its_one_time)

V1 = Clause(
    "V1",
    "a time limit",
    "An async handler that is still running `time_limit` seconds after it started is "
    "cancelled, and has failed with `HandlerTimeout`; a deadline around the publish, or of "
    "the handler's own, is not taken for it, and a sync handler is not interrupted.",
    programs(
        ends_in_time,
        raises_its_timeout,
        takes_less,
        passes_a_deadline_on,
        has_its_own_deadline,
        lets_sync_handlers_end,
    ),
    needs=("subscribe(time_limit=)",),
)
V2 = Clause(
    "V2",
    "so many calls at once",
    "At most `limit` calls of the handler run at once, across publishes; the others wait, "
    "first come first served, and filter, `once`, `active` and the start of `time_limit` "
    "come after the wait; a call from within such a call, or one that would close a cycle "
    "of waiting calls, fails with `LimitDeadlock`; a waiter that is cancelled costs no slot.",
    st.one_of(
        programs(runs_so_many, *_WAITS, calls_itself, call_each_other, limit=(1, 2)),
        scheduled(frees_its_place, turns=range(8)),
    ),
    needs=("subscribe(limit=)", "subscribe(time_limit=)"),
)
