"""Programs about subscriptions, beyond what scripts show (B1, B2, B6, B10)."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from flexiflow.testing._examiner.kit import Boom, cancel_after, claim, fail, ignore, refused, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow import EventBus, Subscription
    from flexiflow._bus import DeliveryMode, ErrorPolicy

    Heard: TypeAlias = list[Any]


# B1


async def serves_several_runs(
    bus: EventBus, *, run: int, delivery: DeliveryMode, policy: ErrorPolicy
) -> None:
    """Each run subscribes one more handler, and those of earlier runs are called, too."""

    async def handler(heard: Heard) -> None:
        heard.append(run)
        await checkpoint()

    heard: Heard = []
    await bus.subscribe("a", "c", handler)
    await bus.publish("a", heard, delivery=delivery, on_error=policy)
    expected = [*range(1, run + 1)]
    claim(heard == expected, f"with a handler of each of {run} runs, those of {heard} were called")


# B2


async def has_attributes(bus: EventBus) -> None:
    """A subscription tells what it is."""
    s = await bus.subscribe("a.*", "c", ignore, priority=2)
    given = (s.event_name, s.component_name, s.priority, s.active)
    claim(given == ("a.*", "c", 2, True), f"the attributes of a new subscription are {given}")
    bus.unsubscribe(s)
    claim(s.active is False, "active stays true after unsubscribe")


async def tells_whether_it_is_active(bus: EventBus, *, delivery: DeliveryMode) -> None:
    """A subscription is active until it ends, however it ends."""
    s = await bus.subscribe("a", "c", ignore)
    bus.unsubscribe_all("c")
    claim(s.active is False, "active stays true after unsubscribe_all")
    s = await bus.subscribe("a", "c", ignore, once=True)
    await bus.publish("a", delivery=delivery)
    claim(s.active is False, "active stays true after its one time")
    with await bus.subscribe("a", "c", ignore) as s:
        claim(s.active is True, "active is not true within its `with`")
    claim(s.active is False, "active stays true after its `with`")


async def is_read_only(bus: EventBus) -> None:
    """A subscription can't be changed."""
    s = await bus.subscribe("a", "c", ignore)
    for name in ("event_name", "component_name", "priority", "active"):
        with refused((AttributeError, TypeError), f"{name} can be set"):
            setattr(s, name, 1)


async def ends_with_its_block(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """A subscription is a context manager."""
    with await bus.subscribe("a", "c", heard.append):
        await bus.publish("a", 1, delivery=delivery)
    await bus.publish("a", 2, delivery=delivery)
    claim(heard == [1], f"heard {heard}, of which only 1 was published within the `with`")
    told = "the `with` swallowed an exception"
    with refused(Boom, told), await bus.subscribe("a", "c", heard.append):
        raise Boom
    await bus.publish("a", 3, delivery=delivery)
    claim(heard == [1], "the subscription went on after its `with` was left by an exception")


async def subscribes_twice(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """The same handler subscribed twice is two subscriptions."""
    first = await bus.subscribe("a", "c", heard.append)
    second = await bus.subscribe("a", "c", heard.append)
    await bus.publish("a", 1, delivery=delivery)
    claim(heard == [1, 1], f"a handler subscribed twice heard {heard}")
    claim(len({first, second}) == 2, "two subscriptions are equal, or have no hash")
    bus.unsubscribe(first)
    await bus.publish("a", 2, delivery=delivery)
    claim(heard == [1, 1, 2], f"with one of two subscriptions ended, its handler heard {heard}")


async def subscribes_at_a_checkpoint(bus: EventBus, *, heard: Heard) -> None:
    """A `subscribe` in a scope that is cancelled subscribes nothing."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await bus.subscribe("a", "c", heard.append)
    claim(scope.cancelled_caught, "subscribe is no checkpoint")
    await bus.publish("a", 1)
    claim(heard == [], "a subscribe that was cancelled has subscribed")


async def subscribes_or_is_cancelled(bus: EventBus) -> None:
    """A `subscribe` that is cancelled, whenever that is, has subscribed nothing."""
    for turns in range(5):
        scope = anyio.CancelScope()
        async with anyio.create_task_group() as group:
            with scope:
                group.start_soon(cancel_after, scope, turns)
                await bus.subscribe("a", "c", ignore)
            group.cancel_scope.cancel()
        if scope.cancelled_caught:
            claim(bus.unsubscribe_all("c") == 0, "a subscribe that was cancelled has subscribed")
        bus.unsubscribe_all("c")


async def keeps_its_handler(bus: EventBus, *, heard: Heard) -> None:
    """A handler that only the bus refers to stays in memory."""
    await bus.subscribe("a", "c", lambda data: heard.append(data))  # noqa: PLW0108
    gc.collect()
    await bus.publish("a", 1)
    claim(heard == [1], "a handler that only the bus refers to is gone")


SUBSCRIPTIONS: Final = (
    has_attributes,
    tells_whether_it_is_active,
    is_read_only,
    ends_with_its_block,
    subscribes_twice,
    subscribes_at_a_checkpoint,
    subscribes_or_is_cancelled,
    keeps_its_handler,
)


# B6


async def forgets(
    bus: EventBus, *, end: Callable[[EventBus, Subscription], None], delivery: DeliveryMode
) -> None:
    """Nothing of a removed subscription stays in memory."""

    class Held:
        def __call__(self, data: object) -> None:
            pass

    held = Held()
    alive = weakref.ref(held)
    s = await bus.subscribe("a", "c", held, once=end is by_its_one_time)
    await bus.publish("a", 1, delivery=delivery)
    end(bus, s)
    del s, held
    if alive() is not None:
        # It may be part of a cycle. To collect cycles takes longer than all the rest.
        gc.collect()
    claim(alive() is None, "a handler that was unsubscribed stays in memory")


def by_unsubscribing(bus: EventBus, subscription: Subscription) -> None:
    """End a subscription."""
    bus.unsubscribe(subscription)


def by_unsubscribing_all(bus: EventBus, subscription: Subscription) -> None:
    """End the subscriptions of its component."""
    bus.unsubscribe_all("c")


def by_leaving(bus: EventBus, subscription: Subscription) -> None:
    """Leave a subscription as a context manager."""
    with subscription:
        pass


def by_its_one_time(bus: EventBus, subscription: Subscription) -> None:
    """Do nothing: it has ended."""


ENDINGS: Final = (by_unsubscribing, by_unsubscribing_all, by_its_one_time)


async def keeps_what_is_of_another(bus: EventBus, other: EventBus, *, heard: Heard) -> None:
    """Another bus unsubscribes nothing."""
    s = await bus.subscribe("a", "c", heard.append)
    claim(other.unsubscribe(s) is False, "another bus unsubscribed it")
    claim(other.unsubscribe_all("c") == 0, "another bus unsubscribed its component")
    await bus.publish("a", 1)
    claim(heard == [1], "another bus ended the subscription")


# B10


async def hears_failures(
    bus: EventBus, *, heard: Heard, pattern: str, delivery: DeliveryMode
) -> None:
    """A pattern matches the built-in events, too."""
    await bus.subscribe(pattern, "c", heard.append)
    await bus.subscribe("a", "c", fail)
    await bus.publish("a", delivery=delivery, on_error="continue")
    await settle()
    claim(any(heard), f"{pattern} did not hear event.handler.failed")
