"""The handlers of a publish: which, in which order, of which kinds: B4, B5, B7, B10, B11."""

import functools
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import chain, permutations
from typing import TYPE_CHECKING, Any

import pytest
from anyio import Event, create_task_group, fail_after
from anyio.lowlevel import checkpoint

from flexiflow import EventBus
from flexiflow._bus import DeliveryMode
from flexiflow.events import HANDLER_FAILED
from tests.helpers import (
    MODES,
    PATIENCE,
    Later,
    Refusal,
    accept,
    follow,
    never,
    noting,
    noting_async,
    refuse,
    run_at_once,
    settle,
    tracing,
)

if TYPE_CHECKING:
    from flexiflow import Subscription

each_mode = pytest.mark.parametrize("mode", MODES)

Note = Callable[[object], None]
AnyHandler = Callable[[Any], object]


class Kinds:
    """A handler of each kind; all of them note the payload."""

    def __init__(self, note: Note) -> None:
        self._note = note

    def __call__(self, data: object) -> None:
        self._note(data)

    def sync(self, data: object) -> None:
        """Be a bound method."""
        self._note(data)

    async def wait(self, data: object) -> None:
        """Be a bound coroutine function."""
        await checkpoint()
        self._note(data)

    @classmethod
    def of_class(cls, note: Note, data: object) -> None:
        """Be a method of the class."""
        note(data)

    @staticmethod
    async def static(note: Note, data: object) -> None:
        """Be a function within a class."""
        await checkpoint()
        note(data)


class AsyncKind:
    """An object that is called like a coroutine function."""

    def __init__(self, note: Note) -> None:
        self._note = note

    async def __call__(self, data: object) -> None:
        await checkpoint()
        self._note(data)


def decorated(handler: Callable[[object], Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Wrap a handler as decorators do."""

    @functools.wraps(handler)
    async def wrapper(*arguments: object, **options: object) -> None:
        await handler(*arguments, **options)

    return wrapper


def note_any(note: Note, *data: object) -> None:
    """Take any payload."""
    note(data[0])


def with_default(note: Note) -> AnyHandler:
    """Make a handler that could take more."""

    def handler(data: object, more: object = None) -> None:
        note(data)

    return handler


KINDS: dict[str, Callable[[Note], AnyHandler]] = {
    "builtin": lambda note: note,
    "bound method": lambda note: Kinds(note).sync,
    "bound coroutine function": lambda note: Kinds(note).wait,
    "callable object": Kinds,
    "async callable object": AsyncKind,
    "partial": lambda note: partial(Kinds.of_class, note),
    "partial of a coroutine function": lambda note: partial(Kinds.static, note),
    "partial of a partial": lambda note: partial(partial(Kinds.static), note),
    "class": lambda note: partial(Later, note),
    "coroutine returned": lambda note: lambda data: Kinds(note).wait(data),
    "awaitable returned": lambda note: lambda data: Later(note, data),
    "decorated": lambda note: decorated(Kinds(note).wait),
    "default argument": with_default,
    "any arguments": lambda note: partial(note_any, note),
}


def note(calls: list[Any], entry: object, data: object) -> None:
    """Note a call."""
    calls.append(entry)


@each_mode
async def test_priorities_ascend_and_equals_keep_the_order_of_subscription(
    mode: DeliveryMode,
) -> None:
    """B4: 1 is first, 5 last, and equal priorities are in order of subscription."""
    bus = EventBus()
    calls: list[tuple[int, int]] = []
    priorities = [*chain.from_iterable([*permutations((1, 2, 3, 4, 5))][::7])]
    for place, priority in enumerate(priorities):
        handler = partial(note, calls, (priority, place))
        await bus.subscribe("a", "c", handler, priority=priority)
    await bus.publish("a", delivery=mode)
    assert len(calls) == 90
    assert calls == sorted(calls)


@each_mode
async def test_equal_priorities_mix_names_and_patterns(mode: DeliveryMode) -> None:
    """B4: exact names and patterns stand in one order of subscription."""
    bus = EventBus()
    notes: list[str] = []
    for event in ("order.*", "order.placed", "**", "order.placed", "*.placed", "order.**"):
        await bus.subscribe(event, "c", noting(notes, event))
    await bus.subscribe("**", "c", noting(notes, "first"), priority=1)
    await bus.publish("order.placed", delivery=mode)
    assert notes == [
        "first", "order.*", "order.placed", "**", "order.placed", "*.placed", "order.**",
    ]  # fmt: skip


@each_mode
async def test_one_who_subscribes_meanwhile_does_not_hear_this_event(mode: DeliveryMode) -> None:
    """B5: it hears the next one."""
    bus = EventBus()
    notes: list[str] = []

    async def subscribe(data: object) -> None:
        if not notes:
            notes.append("subscribed")
            for event in ("a", "*", "**"):
                await bus.subscribe(event, "c", noting(notes, event), priority=5)

    await bus.subscribe("a", "c", subscribe, priority=1)
    await follow(bus, "a", "b", priority=2)
    await bus.publish("a", delivery=mode)
    assert notes == ["subscribed"]
    await bus.publish("a", delivery=mode)
    assert notes == ["subscribed", "a", "*", "**"]


@each_mode
@pytest.mark.parametrize("make", [noting, noting_async])
@pytest.mark.parametrize("filter", [None, accept], ids=["plain", "filtered"])
@pytest.mark.parametrize("event", ["a", "**"])
async def test_one_who_is_unsubscribed_by_a_handler_never_starts(
    event: str, filter: Any, make: Any, mode: DeliveryMode
) -> None:
    """B5: a handler ends others that come later, each its own and no neighbour."""
    bus = EventBus()
    notes: list[str] = []
    doomed: list[Subscription] = []

    async def unsubscribe(data: object) -> None:
        for each in doomed:
            bus.unsubscribe(each)

    await bus.subscribe(event, "c", unsubscribe, filter=filter)
    for name in ("kept 1", "doomed", "kept 2", "doomed", "doomed", "kept 3"):
        subscription = await bus.subscribe(event, "c", make(notes, name), filter=filter)
        doomed += [subscription] * (name == "doomed")
    for _ in range(2):
        await bus.publish("a", delivery=mode)
    assert notes == ["kept 1", "kept 2", "kept 3"] * 2


@each_mode
async def test_one_who_unsubscribes_itself_goes_on_this_once(mode: DeliveryMode) -> None:
    """B5: a handler that runs already runs to its end."""
    bus = EventBus()
    notes: list[str] = []

    async def handler(data: object) -> None:
        notes.append("begins")
        assert bus.unsubscribe(subscription)
        await checkpoint()
        notes.append("ends")

    subscription = await bus.subscribe("a", "c", handler)
    for _ in range(2):
        await bus.publish("a", delivery=mode)
    assert notes == ["begins", "ends"]


@each_mode
async def test_one_who_is_unsubscribed_while_it_runs_goes_on(mode: DeliveryMode) -> None:
    """B5: only starting is ruled out once `unsubscribe` has returned."""
    bus = EventBus()
    running, unsubscribed = Event(), Event()
    notes: list[str] = []

    async def handler(data: object) -> None:
        running.set()
        await unsubscribed.wait()
        notes.append("ended")

    await bus.subscribe("a", "c", handler)
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            group.start_soon(partial(bus.publish, "a", delivery=mode))
            await running.wait()
            assert bus.unsubscribe_all("c") == 1
            unsubscribed.set()
    assert notes == ["ended"]


@pytest.mark.parametrize("mode", ["sequential", "tiered"])
async def test_one_who_is_unsubscribed_by_another_task_never_starts(mode: DeliveryMode) -> None:
    """B5: a handler that waits for its turn can be unsubscribed from anywhere."""
    bus = EventBus()
    unsubscribed = Event()

    async def wait(data: object) -> None:
        await unsubscribed.wait()

    await bus.subscribe("a", "c", wait, priority=1)
    await bus.subscribe("a", "other", never, priority=2)
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            group.start_soon(partial(bus.publish, "a", delivery=mode))
            await settle()
            bus.unsubscribe_all("other")
            unsubscribed.set()


async def test_a_publish_begins_when_it_is_awaited() -> None:
    """B5: who subscribes before it begins to run is called."""
    bus = EventBus()
    publish = bus.publish("a")
    notes = await follow(bus, "ran")
    await publish
    assert notes == ["ran"]


@each_mode
async def test_handlers_may_come_and_go_in_every_publish(mode: DeliveryMode) -> None:
    """B5: a handler that subscribes another of its kind is followed by one more each time."""
    bus = EventBus()
    calls: list[int] = []

    async def multiply(data: object) -> None:
        calls[-1] += 1
        await bus.subscribe("a", "c", multiply)

    await bus.subscribe("a", "c", multiply)
    for _ in range(5):
        calls.append(0)
        await bus.publish("a", delivery=mode)
    assert calls == [1, 2, 4, 8, 16]


@pytest.mark.unmeasured
@each_mode
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("once", [False, True])
async def test_a_handler_may_be_any_callable(kind: str, mode: DeliveryMode, *, once: bool) -> None:
    """B7: sync or async, it is run to its end, and gets the payload itself."""
    bus = EventBus()
    notes: list[object] = []
    data = object()
    await bus.subscribe("a", "c", KINDS[kind](notes.append), once=once)
    assert await bus.publish("a", data, delivery=mode) == ()
    assert len(notes) == 1
    assert notes[0] is data


@each_mode
async def test_a_class_is_called_like_a_function(mode: DeliveryMode) -> None:
    """B7: what a handler returns is nobody's, unless it is awaitable."""
    bus = EventBus()
    made: list[object] = []

    class Record:
        def __init__(self, data: object) -> None:
            made.append(data)

    def give_back(data: object) -> object:
        return iter([data])

    handlers: list[AnyHandler] = [Record, str, give_back]
    for handler in handlers:
        await bus.subscribe("a", "c", handler)
    assert await bus.publish("a", 1, delivery=mode) == ()
    assert made == [1]


async def test_no_payload_is_none() -> None:
    """B7: a handler takes the payload also where there is none."""
    bus = EventBus()
    notes: list[object] = []
    await bus.subscribe("a", "c", notes.append)
    await bus.publish("a")
    assert notes == [None]


async def test_a_sync_handler_runs_inline() -> None:
    """B7: no turn is given away before it has run."""
    bus = EventBus()
    notes: list[object] = []
    await bus.subscribe("a", "c", notes.append)
    run_at_once(bus.publish("a", 1))
    assert notes == [1]


async def test_publishing_to_nobody_is_no_mistake() -> None:
    """B4: no handler, no failure."""
    bus = EventBus()
    for mode in MODES:
        for policy in ("continue", "raise"):
            assert await bus.publish("a", delivery=mode, on_error=policy) == ()


@pytest.mark.parametrize(
    ("pattern", "heard"),
    [
        ("order.*", ["order.placed"]),
        ("order.**", ["order.placed", "order.item.added"]),
        ("*", ["order"]),
        ("**", ["order", "order.placed", "order.item.added", "orders.placed"]),
        ("*.placed", ["order.placed", "orders.placed"]),
        ("*.*.added", ["order.item.added"]),
        ("order", ["order"]),
    ],
)
async def test_a_pattern_hears_what_it_matches(pattern: str, heard: list[str]) -> None:
    """B10: `*` is exactly one segment, `**` one or more, and all else stands for itself."""
    bus = EventBus()
    names: list[object] = []
    await bus.subscribe(pattern, "c", names.append)
    for _ in range(2):
        for name in ("order", "order.placed", "order.item.added", "orders.placed"):
            await bus.publish(name, name)
    assert names == heard * 2


@each_mode
async def test_the_double_wildcard_hears_the_built_in_events(mode: DeliveryMode) -> None:
    """B10: `**` hears the failure of another handler as well."""
    bus = EventBus()
    names: list[str] = []

    def hear(event_name: str, data: object) -> bool:
        names.append(event_name)
        return False

    await bus.subscribe("**", "c", never, filter=hear, priority=1)
    await bus.subscribe("a", "c", never, filter=refuse, priority=2)
    await bus.publish("a", delivery=mode)
    assert names == ["a", HANDLER_FAILED]


async def test_publishing_a_name_seen_before_costs_the_same_among_many_patterns() -> None:
    """B10: patterns that don't match cost nothing, and one subscribed later doesn't either."""
    costs: list[int] = []
    for number in (0, 100):
        bus = EventBus()
        await bus.subscribe("order.placed", "c", str)
        for place in range(number):
            await bus.subscribe((f"order.n{place}.**", "*", f"n{place}.*")[place % 3], "c", never)
        await bus.publish("order.placed")
        with tracing() as trace:
            await bus.publish("order.placed")
        costs.append(trace.lines)
    assert costs[0] == costs[1]


@each_mode
async def test_publishing_inside_a_handler_goes_depth_first(mode: DeliveryMode) -> None:
    """B11: the inner event is through before the outer handler goes on, or a later one starts."""
    bus = EventBus()
    notes: list[str] = []

    async def outer(data: object) -> None:
        notes.append("outer begins")
        await bus.publish("b", delivery=mode)
        notes.append("outer ends")

    await bus.subscribe("a", "c", outer, priority=1)
    await bus.subscribe("a", "c", noting(notes, "next"), priority=2)
    for name in ("inner 1", "inner 2"):
        await bus.subscribe("b", "c", noting_async(notes, name))
    await bus.publish("a")
    assert notes == ["outer begins", "inner 1", "inner 2", "outer ends", "next"]


async def test_an_event_may_be_published_within_itself() -> None:
    """B11: the inner publish calls all handlers, before the outer one calls the next."""
    bus = EventBus()
    notes: list[str] = []

    async def recurse(depth: int) -> None:
        notes.append(f"first {depth}")
        if depth < 3:
            await bus.publish("a", depth + 1)

    await bus.subscribe("a", "c", recurse)
    await bus.subscribe("a", "c", lambda depth: notes.append(f"second {depth}"))
    await bus.publish("a", 1)
    assert notes == ["first 1", "first 2", "first 3", "second 3", "second 2", "second 1"]


@each_mode
async def test_a_failure_within_is_raised_to_the_handler_that_published(mode: DeliveryMode) -> None:
    """B11: a handler may catch what its own publish raises, as from any await."""
    bus = EventBus()
    caught: list[Exception] = []

    async def outer(data: object) -> None:
        try:
            await bus.publish("b", delivery=mode, on_error="raise")
        except Refusal as exc:
            caught.append(exc)

    await bus.subscribe("a", "c", outer)
    await bus.subscribe("b", "c", never, filter=refuse)
    assert await bus.publish("a", delivery=mode) == ()
    assert len(caught) == 1


async def test_handlers_that_publish_at_once_run_beside_each_other() -> None:
    """B11: a publish within waits for its own handlers only."""
    bus = EventBus(delivery="concurrent")
    both = [Event(), Event()]

    async def publish(place: int, data: object) -> None:
        await bus.publish(f"b.{place}")

    async def meet(place: int, data: object) -> None:
        both[place].set()
        await both[1 - place].wait()

    for place in (0, 1):
        await bus.subscribe("a", "c", partial(publish, place))
        await bus.subscribe(f"b.{place}", "c", partial(meet, place))
    with fail_after(PATIENCE):
        assert await bus.publish("a") == ()
