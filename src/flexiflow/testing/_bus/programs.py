"""Programs that claim what clauses of the bus and of delivery promise, beyond what scripts show."""

from __future__ import annotations

import gc
import weakref
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from flexiflow import HandlerCancelled
from flexiflow.testing._examiner.kit import (
    Boom,
    Later,
    cancel_after,
    claim,
    fail,
    ignore,
    kept_cancellation,
    mark,
    refused,
    settle,
    types_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from flexiflow import EventBus, HandlerFailure, Subscription
    from flexiflow._bus import DeliveryMode, ErrorPolicy

    Heard: TypeAlias = list[Any]
    Handler: TypeAlias = Callable[[Any], Any]
    Bad: TypeAlias = tuple[str, tuple[Any, ...], dict[str, Any]]


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


# B3


async def refuses(bus: EventBus, *, heard: Heard, error: type[Exception], bad: Bad) -> None:
    """A call with bad arguments raises, and changes nothing."""
    method, arguments, options = bad
    await bus.subscribe("a", "c", heard.append)
    # In place of a handler that ignores events, one that shows if it was subscribed all the same.
    arguments = tuple(heard.append if each is ignore else each for each in arguments)
    with refused(error, f"not refused with {error.__name__}"):
        await getattr(bus, method)(*arguments, **options)
    await bus.publish("a", 1)
    claim(heard == [1], f"what was refused changed something: heard {heard}, not [1]")
    count = bus.unsubscribe_all("c")
    claim(count == 1, f"what was refused changed something: {count} subscriptions, not 1")


def no_arguments() -> None:
    """Do nothing."""


def two_arguments(first: object, second: object) -> None:
    """Do nothing."""


def needs_an_option(data: object, *, option: object) -> None:
    """Do nothing."""


def generator(data: object) -> Iterator[object]:
    """Yield what is given."""
    yield data


async def async_generator(data: object) -> AsyncIterator[object]:
    """Yield what is given."""
    yield data


async def async_filter(event: str, data: object) -> bool:
    """Return what no filter may: an awaitable."""
    return bool(event) or bool(data)


def closed(name: str, coroutine: Any) -> Any:
    """Return a coroutine that is over, under a name of its own."""
    coroutine.__name__ = name
    coroutine.close()
    return coroutine


early = closed("early", checkpoint())


def _subscribing(*handlers: object, **options: object) -> Iterator[Bad]:
    for handler in handlers:
        yield "subscribe", ("a", "c", handler), options


BAD_VALUES: Final[tuple[Bad, ...]] = (
    *(each for bad in (0, 6, True, 2.5, "3", None) for each in _subscribing(ignore, priority=bad)),
    *(("subscribe", (bad, "c", ignore), {}) for bad in ("", ".a", "a.", "a..b", "**.a", "a*")),
    ("subscribe", ("a", "", ignore), {}),
    *(("publish", (bad, 2), {}) for bad in ("", ".a", "a..b", "*", "a.**")),
    ("publish", ("a", 2), {"delivery": "parallel"}),
    ("publish", ("a", 2), {"on_error": "ignore"}),
)
BAD_TYPES: Final[tuple[Bad, ...]] = (
    ("subscribe", (1, "c", ignore), {}),
    ("subscribe", ("a", None, ignore), {}),
    ("publish", (None, 2), {}),
    *_subscribing(None, "c", no_arguments, two_arguments, needs_an_option),
    *_subscribing(early, generator, async_generator, partial(generator)),
    *_subscribing(ignore, filter=1),
    *_subscribing(ignore, filter=ignore),
    *_subscribing(ignore, filter=async_filter),
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


# B7


async def runs_inline(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """A sync handler runs in the publisher's thread."""
    await bus.subscribe("a", "c", lambda _: heard.append(get_ident()))
    await bus.publish("a", 1, delivery=delivery)
    claim(heard == [get_ident()], "a sync handler ran in another thread, or not at all")


async def calls(
    bus: EventBus, *, heard: Heard, handler: Callable[[Heard], Handler], delivery: DeliveryMode
) -> None:
    """A handler may be any callable, and what it returns is awaited if it can be."""
    payload = ["a payload"]
    await bus.subscribe("a", "c", handler(heard))
    failures = await bus.publish("a", payload, delivery=delivery)
    claim([*map(id, heard)] == [id(payload)], f"given {payload} it heard {heard}, or did not end")
    claim(not failures, f"its call was taken for a failure: {failures}")


def method(heard: Heard) -> Handler:
    """Return a bound method."""
    return heard.append


def sync_lambda(heard: Heard) -> Handler:
    """Return a function."""
    return lambda data: heard.append(data)  # noqa: PLW0108


def async_function(heard: Heard) -> Handler:
    """Return an async function."""

    async def handler(data: object) -> None:
        await checkpoint()
        heard.append(data)

    return handler


def partial_async_function(heard: Heard) -> Handler:
    """Return an async function with its first argument."""

    async def handler(first: Heard, data: object) -> None:
        await checkpoint()
        first.append(data)

    return partial(handler, heard)


def partial_function(heard: Heard) -> Handler:
    """Return a function with its first argument."""

    def handler(first: Heard, data: object) -> None:
        first.append(data)

    return partial(handler, heard)


class Sync:
    """Can be called, and has a method, which are sync."""

    def __init__(self, heard: Heard) -> None:
        self.heard = heard

    def __call__(self, data: object) -> None:
        """Note the payload."""
        self.heard.append(data)

    def method(self, data: object) -> None:
        """Note the payload."""
        self(data)


class Async:
    """Can be called, and has a method, which are async."""

    def __init__(self, heard: Heard) -> None:
        self.heard = heard

    async def __call__(self, data: object) -> None:
        """Note the payload, after a while."""
        await checkpoint()
        self.heard.append(data)

    async def method(self, data: object) -> None:
        """Note the payload, after a while."""
        await self(data)


def sync_object(heard: Heard) -> Handler:
    """Return an object that can be called."""
    return Sync(heard)


def sync_method(heard: Heard) -> Handler:
    """Return a method of such an object."""
    return Sync(heard).method


def async_object(heard: Heard) -> Handler:
    """Return an object with an async call."""
    return Async(heard)


def async_method(heard: Heard) -> Handler:
    """Return an async method of such an object."""
    return Async(heard).method


def lambda_of_async_function(heard: Heard) -> Handler:
    """Return a function that returns a coroutine."""
    handler = async_function(heard)
    return lambda data: handler(data)  # noqa: PLW0108


def awaitable_class(heard: Heard) -> Handler:
    """Return a class whose objects can be awaited."""

    class Awaitable(Later):
        def __init__(self, data: object) -> None:
            self.data = data

        def __await__(self) -> Iterator[Any]:  # type: ignore[override]
            yield from super().__await__()
            heard.append(self.data)

    return Awaitable


HANDLERS: Final = (
    method,
    sync_lambda,
    async_function,
    partial_async_function,
    partial_function,
    sync_method,
    sync_object,
    async_method,
    async_object,
    lambda_of_async_function,
    awaitable_class,
)


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
