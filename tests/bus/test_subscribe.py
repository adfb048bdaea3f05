"""Making a bus, subscribing and unsubscribing: B1, B2, B6."""

import gc
import weakref
from functools import partial
from itertools import product
from threading import get_ident
from typing import Any

import anyio
import pytest
from anyio import CancelScope, create_task_group, fail_after, from_thread, to_thread

from flexiflow import EventBus, Subscription
from flexiflow._bus import DeliveryMode, dispatcher_of
from tests.conftest import BACKENDS, Backend
from tests.helpers import MODES, PATIENCE, accept, never, noting, tracing

each_mode = pytest.mark.parametrize("mode", MODES)
each_name = pytest.mark.parametrize("event", ["a", "*", "**"])


@pytest.mark.parametrize(
    ("first", "second"),
    [pytest.param(*pair, id="-".join(ids)) for ids, pair in zip(
        product(BACKENDS, repeat=2), product(BACKENDS.values(), repeat=2), strict=True)],
)  # fmt: skip
def test_a_bus_serves_one_run_after_another(first: Backend, second: Backend) -> None:
    """B1: made without a loop, it keeps its subscriptions over runs on any backend."""
    bus = EventBus(yield_every=1)
    notes: list[str] = []

    async def subscribe() -> None:
        await bus.subscribe("a", "c", noting(notes, "ran"))
        await bus.publish("a", delivery="concurrent")

    async def publish() -> None:
        for mode in MODES:
            await bus.publish("a", delivery=mode)

    anyio.run(subscribe, backend=first[0], backend_options=first[1])
    anyio.run(publish, backend=second[0], backend_options=second[1])
    anyio.run(publish, backend=first[0], backend_options=first[1])
    assert notes == ["ran"] * 7


@each_mode
def test_a_run_that_was_cancelled_leaves_the_bus_usable(
    mode: DeliveryMode, backend_name: str
) -> None:
    """B1: nothing of a run that ended early is left in the bus."""
    bus = EventBus(delivery=mode)
    notes: list[str] = []
    after = noting(notes, "ran")

    async def cancelled() -> None:
        with fail_after(PATIENCE), CancelScope() as scope:

            async def handler(data: object) -> None:
                scope.cancel()
                await anyio.sleep_forever()

            with await bus.subscribe("a", "c", handler):
                await bus.publish("a")
        await bus.subscribe("a", "c", after)

    anyio.run(cancelled, backend=backend_name)
    assert [each.handler for each in bus.subscriptions()] == [after]
    anyio.run(bus.publish, "a", backend=backend_name)
    assert notes == ["ran"]


def test_making_a_bus_needs_no_loop() -> None:
    """B1: a bus can be a module's global; unsubscribing and repr need no loop either."""
    bus = EventBus()
    assert (bus.unsubscribe_all("c"), [*bus.subscriptions()]) == (0, [])


async def test_another_thread_publishes_through_the_loop() -> None:
    """B1: through `anyio.from_thread`, handlers run in the loop's own thread."""
    bus = EventBus()
    threads: list[tuple[object, int]] = []

    def handler(data: object) -> None:
        threads.append((data, get_ident()))

    def work() -> None:
        subscription = from_thread.run(bus.subscribe, "a", "c", handler)
        from_thread.run(bus.publish, "a", 1)
        assert from_thread.run_sync(bus.unsubscribe, subscription)

    await to_thread.run_sync(work)
    assert threads == [(1, get_ident())]


async def test_a_subscription_tells_what_it_is() -> None:
    """B2: its names and priority are as given, and it is active."""
    bus = EventBus()
    plain = await bus.subscribe("order.*", "billing", never, priority=2)
    default = await bus.subscribe("a", "c", never)
    assert isinstance(plain, Subscription)
    assert (plain.event_name, plain.component_name, plain.priority, plain.active) == (
        "order.*",
        "billing",
        2,
        True,
    )
    assert default.priority == 3


@pytest.mark.parametrize(
    "attribute", ["event_name", "component_name", "priority", "active", "handler"]
)
async def test_a_subscription_is_read_only(attribute: str) -> None:
    """B2: nothing of it can be set or deleted from outside."""
    subscription = await EventBus().subscribe("a", "c", never)
    before = getattr(subscription, attribute)
    with pytest.raises(AttributeError):
        setattr(subscription, attribute, before)
    with pytest.raises(AttributeError):
        delattr(subscription, attribute)
    assert getattr(subscription, attribute) is before


async def test_a_subscription_is_hashable_and_equal_to_itself_alone() -> None:
    """B2: two subscriptions of the same handler are two, in a set as well."""
    bus = EventBus()
    one, other = [await bus.subscribe("a", "c", never) for _ in range(2)]
    assert one != other
    assert len({one, other, one}) == 2


async def test_a_subscription_shows_itself() -> None:
    """B2: its repr names the event, the component, the handler, and whether it is over."""
    bus = EventBus()
    subscription = await bus.subscribe("a.*", "billing", never, priority=1)
    shown = "<Subscription 'billing' to 'a.*': never, priority 1{}>"
    assert repr(subscription) == shown.format("")
    bus.unsubscribe(subscription)
    assert repr(subscription) == shown.format(", unsubscribed")


async def test_the_same_handler_subscribed_twice_is_called_twice() -> None:
    """B2: each subscription stands for itself."""
    bus = EventBus()
    notes: list[object] = []
    await bus.subscribe("a", "c", notes.append)
    subscription = await bus.subscribe("a", "c", notes.append)
    await bus.publish("a", 1)
    bus.unsubscribe(subscription)
    await bus.publish("a", 2)
    assert notes == [1, 1, 2]


async def test_a_subscription_ends_with_its_with_block() -> None:
    """B2: it is a plain context manager, and gives itself."""
    bus = EventBus()
    notes: list[object] = []
    subscription = await bus.subscribe("a", "c", notes.append)
    with subscription as entered:
        await bus.publish("a", 1)
    await bus.publish("a", 2)
    assert (entered is subscription, subscription.active, notes) == (True, False, [1])


async def test_a_with_block_lets_its_exception_through() -> None:
    """B2: leaving by an exception unsubscribes as well, and hides nothing."""
    bus = EventBus()
    with pytest.raises(LookupError, match="inside"), await bus.subscribe("a", "c", never):
        raise LookupError("inside")
    assert not [*bus.subscriptions()]


async def test_a_with_block_ends_also_when_cancelled() -> None:
    """B2: unsubscribing awaits nothing, so that a cancellation can't keep it from it."""
    bus = EventBus()
    with CancelScope() as scope:
        with await bus.subscribe("a", "c", never):
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert not [*bus.subscriptions()]


async def test_a_with_block_may_be_left_unsubscribed() -> None:
    """B2: unsubscribing inside the block is no mistake."""
    bus = EventBus()
    with await bus.subscribe("a", "c", never) as subscription:
        assert bus.unsubscribe(subscription)
    assert not bus.unsubscribe(subscription)


async def test_subscribing_gives_others_their_turn() -> None:
    """B2: `subscribe` is a checkpoint."""
    bus = EventBus()
    notes: list[str] = []

    async def other() -> None:
        notes.append("other")

    async with create_task_group() as group:
        group.start_soon(other)
        for _ in range(2):
            await bus.subscribe("a", "c", never)
        assert notes == ["other"]


@each_name
async def test_subscribing_when_cancelled_registers_nothing(event: str) -> None:
    """B2: cancelled at its checkpoint, `subscribe` has done nothing."""
    bus = EventBus()
    with CancelScope() as scope:
        scope.cancel()
        await bus.subscribe(event, "c", never)
    assert scope.cancelled_caught
    assert not [*bus.subscriptions()]
    await bus.publish("a")


async def test_a_handler_that_nobody_else_holds_is_kept() -> None:
    """B2: references are strong."""
    bus = EventBus()
    notes: list[object] = []
    await bus.subscribe("a", "c", partial(notes.append), filter=lambda name, data: True)
    gc.collect()
    await bus.publish("a", 1)
    assert notes == [1]


@each_name
async def test_unsubscribing_is_idempotent(event: str) -> None:
    """B6: True once, then False, and no event is heard any more."""
    bus = EventBus()
    subscription = await bus.subscribe(event, "c", never)
    assert [bus.unsubscribe(subscription) for _ in range(3)] == [True, False, False]
    assert not subscription.active
    await bus.publish("a")


@each_name
async def test_a_subscription_of_another_bus_is_left_alone(event: str) -> None:
    """B6: False for a subscription of another bus, which stays active there."""
    bus, other = EventBus(), EventBus()
    notes: list[object] = []
    await bus.subscribe(event, "c", notes.append)
    foreign = await other.subscribe(event, "c", notes.append)
    assert bus.unsubscribe(foreign) is False
    await bus.publish("a", "own")
    await other.publish("a", "foreign")
    assert notes == ["own", "foreign"]


async def test_all_of_a_component_are_unsubscribed_at_once() -> None:
    """B6: their number is returned, those already unsubscribed not counted."""
    bus = EventBus()
    notes: list[object] = []
    first, *_ = [await bus.subscribe(event, "billing", never) for event in ("a", "a", "*", "b.**")]
    await bus.subscribe("a", "shipping", notes.append)
    bus.unsubscribe(first)
    assert [bus.unsubscribe_all(name) for name in ("billing", "billing", "nobody")] == [3, 0, 0]
    await bus.publish("a", 1)
    assert notes == [1]


async def test_a_component_may_subscribe_again() -> None:
    """B6: nothing remembers that a component once unsubscribed."""
    bus = EventBus()
    notes: list[object] = []
    await bus.subscribe("a", "c", never)
    bus.unsubscribe_all("c")
    again = await bus.subscribe("a", "c", notes.append)
    await bus.publish("a", 1)
    assert (bus.unsubscribe(again), notes) == (True, [1])


async def use(bus: EventBus, event: str, mode: DeliveryMode, *, once: bool) -> "weakref.ref[Any]":
    """Subscribe a handler of its own, publish to it, and unsubscribe it."""

    async def handler(data: object) -> None:
        await anyio.lowlevel.checkpoint()

    subscription = await bus.subscribe(event, "c", handler, filter=accept, once=once)
    await bus.publish("a", delivery=mode)
    assert bus.unsubscribe(subscription) is not once
    return weakref.ref(handler)


@each_mode
@each_name
@pytest.mark.parametrize("once", [False, True])
async def test_nothing_of_a_removed_subscription_stays(
    event: str, mode: DeliveryMode, *, once: bool
) -> None:
    """B6: its handler is freed, though the event was published to it."""
    bus = EventBus()
    reference = await use(bus, event, mode, once=once)
    gc.collect()
    assert reference() is None


async def test_unsubscribing_costs_the_same_among_many() -> None:
    """B6: one among 10,000 costs what a dozen costs."""
    costs: list[int] = []
    for number in (12, 10_000):
        bus = EventBus()
        subscribe = dispatcher_of(bus).registry.create
        added = [
            subscribe(event, "c", never, priority=3, filter=None, once=False)
            for event in ("a", "*") * (number // 2)
        ]
        with tracing() as trace:
            for place in (0, 1, number // 2, number - 1):
                assert bus.unsubscribe(added[place])
        costs.append(trace.lines)
    assert costs[0] == costs[1]
