"""So many calls of a handler at once, through the bus: V2."""

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from anyio import create_task_group, fail_after

from flexiflow import Component, Engine, EventBus, Subscription, on
from flexiflow._bus import DeliveryMode, ErrorPolicy
from tests.accounting import Boom
from tests.attacks import each_mode, each_policy
from tests.helpers import PATIENCE, accept, never, settle
from tests.limits.desks import Desk, holders, limiter, publish_in_order


def unsubscribe_also(bus: EventBus, subscription: Subscription, data: object) -> None:
    """Unsubscribe another one."""
    bus.unsubscribe(subscription)


@contextmanager
def busy(desk: Desk) -> Generator[None]:
    """Go on while a call of the desk runs, which has ended afterwards."""
    assert desk.serving == [1]
    yield
    desk.let_go(1)


@pytest.mark.unmeasured
@each_mode
@each_policy
@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_so_many_calls_run_at_once_across_publishes(
    mode: DeliveryMode, policy: ErrorPolicy, limit: int
) -> None:
    """V2: The others wait, and come in the order in which they were published."""
    bus, desk = EventBus(delivery=mode, on_error=policy), Desk()
    subscription = await bus.subscribe("a", "c", desk, limit=limit)
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            await publish_in_order(group, bus, *range(8))
            assert desk.serving == [*range(limit)]
            await desk.serve_all()
    assert (desk.began, desk.most, holders(subscription)) == ([*range(8)], limit, 0)


@each_mode
async def test_the_calls_of_other_handlers_do_not_count(mode: DeliveryMode) -> None:
    """V2: A limit is one subscription's; the same function subscribed again has its own."""
    bus, desk = EventBus(delivery=mode), Desk()
    for name in ("a", "b"):
        await bus.subscribe(name, "c", desk, limit=1)
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            group.start_soon(bus.publish, "a", 1)
            group.start_soon(bus.publish, "b", 2)
            await settle()
            assert sorted(desk.serving) == [1, 2]
            await desk.serve_all()


async def test_a_pattern_has_one_limit_for_all_that_it_hears() -> None:
    """V2, B10: It is the handler's calls that count, whatever the event."""
    bus, desk = EventBus(), Desk()
    await bus.subscribe("*", "c", desk, limit=1)
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            group.start_soon(bus.publish, "a", 1)
            await settle()
            group.start_soon(bus.publish, "b", 2)
            await settle()
            assert desk.serving == [1]
            await desk.serve_all()
    assert desk.began == [1, 2]


async def test_one_who_waits_holds_up_no_sibling() -> None:
    """V2, D2: In concurrent delivery only the call that waits does."""
    bus, desk, other = EventBus(delivery="concurrent"), Desk(), Desk()
    await bus.subscribe("a", "c", desk, limit=1, priority=1)
    await bus.subscribe("a", "c", other)
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            await publish_in_order(group, bus, 1, 2)
            assert (desk.serving, other.serving) == ([1], [1, 2])
            await other.serve_all()
            await desk.serve_all()


@each_mode
async def test_filter_is_asked_after_the_wait(mode: DeliveryMode) -> None:
    """V2, B8: It decides just before the handler would start."""
    bus, desk, asked = EventBus(delivery=mode), Desk(), list[int]()
    open_for = {1}

    def accept_some(name: str, data: int) -> bool:
        asked.append(data)
        return data in open_for

    await bus.subscribe("a", "c", desk, limit=1, filter=accept_some)
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            await publish_in_order(group, bus, 1, 2, 3)
            with busy(desk):
                assert asked == [1]
                open_for.add(3)
            await settle()
            await desk.serve_all()
    assert (asked, desk.began) == ([1, 2, 3], [1, 3])


@each_mode
async def test_filter_that_raises_after_the_wait_gives_up_the_slot(mode: DeliveryMode) -> None:
    """V2, B8: Its failure is reported, and the next in line comes."""
    bus, desk = EventBus(delivery=mode), Desk()
    failures: list[Any] = []

    def refuse_two(name: str, data: int) -> bool:
        if data == 2:
            raise Boom
        return True

    async def publish(data: int) -> None:
        failures.extend(await bus.publish("a", data))

    subscription = await bus.subscribe("a", "c", desk, limit=1, filter=refuse_two)
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            for data in (1, 2, 3):
                group.start_soon(publish, data)
                await settle()
            await desk.serve_all()
    assert ([type(each.exception) for each in failures], desk.began) == ([Boom], [1, 3])
    assert holders(subscription) == 0


@each_mode
async def test_once_is_used_up_after_the_wait(mode: DeliveryMode) -> None:
    """V2, B9: A call that waits has not used it, and of those that waited only one starts."""
    bus, desk = EventBus(delivery=mode), Desk()
    subscription = await bus.subscribe(
        "a", "c", desk, limit=1, once=True, filter=lambda name, data: data > 1
    )
    slot = limiter(subscription).join()
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            await publish_in_order(group, bus, 1, 2, 3)
            assert (subscription.active, desk.began) == (True, [])
            slot.end()
            await settle()
            assert (subscription.active, desk.began) == (False, [2])
            await desk.serve_all()
    assert (desk.began, holders(subscription)) == ([2], 0)


@each_mode
async def test_one_unsubscribed_while_it_waits_never_starts(mode: DeliveryMode) -> None:
    """V2, B5: A call that waits has not started; when its turn comes, the next in line has it."""
    bus, desk = EventBus(delivery=mode), Desk()
    subscription = await bus.subscribe("a", "c", desk, limit=1, filter=accept)
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            await publish_in_order(group, bus, 1, 2, 3)
            with busy(desk):
                bus.unsubscribe(subscription)
    assert (desk.began, holders(subscription)) == ([1], 0)


@each_mode
async def test_one_unsubscribed_before_does_not_even_wait(mode: DeliveryMode) -> None:
    """V2, B5: A publish does not wait for the turn of a handler that will never start."""
    bus, desk = EventBus(delivery=mode), Desk()
    limited = await bus.subscribe("a", "c", desk, limit=1, filter=lambda name, data: data == 1)
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            await publish_in_order(group, bus, 1)
            with busy(desk):
                remover = partial(unsubscribe_also, bus, limited)
                await bus.subscribe("a", "c", remover, priority=1)
                assert await bus.publish("a", 2) == ()
                assert holders(limited) == 1


async def test_limits_are_read_of_a_subscription() -> None:
    """V1, V2, B2: A subscription tells both, read-only, and looks as one without."""
    bus = EventBus()
    free = await bus.subscribe("a", "c", never)
    limited = await bus.subscribe("a", "c", never, limit=2, time_limit=2.5)
    slow = await bus.subscribe("a", "c", never, time_limit=1)
    single = await bus.subscribe("a", "c", never, limit=1)
    told = [(each.limit, each.time_limit) for each in (free, limited, slow, single)]
    assert told == [(None, None), (2, 2.5), (None, 1), (1, None)]
    assert repr(free) == repr(limited)
    for name in ("limit", "time_limit"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(limited, name, 3)


class Till(Component):
    """Has a method with limits."""

    def __init__(self, name: str, desk: Desk) -> None:
        super().__init__(name)
        self._desk = desk

    @on("a", limit=2, time_limit=60)
    async def serve(self, data: int) -> None:
        """Serve a customer."""
        await self._desk(data)


async def test_a_marked_method_has_limits_for_each_component() -> None:
    """V1, V2, C1: `on` takes both; each component that has the method has its own."""
    engine, desks = Engine(), [Desk(), Desk()]
    for number, desk in enumerate(desks):
        await engine.register(Till(f"till-{number}", desk))
    told = [(each.limit, each.time_limit) for each in engine.bus.subscriptions()]
    assert told == [(2, 60), (2, 60)]
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            await publish_in_order(group, engine.bus, *range(3), delivery="concurrent")
            assert [desk.serving for desk in desks] == [[0, 1]] * 2
            while any(desk.serving for desk in desks):
                for desk in desks:
                    await desk.serve_all()
    assert [desk.most for desk in desks] == [2, 2]
