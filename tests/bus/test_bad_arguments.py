"""Bad arguments: B3."""

import reprlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from enum import IntEnum
from functools import partial
from inspect import isawaitable
from itertools import product
from typing import Any, cast

import pytest

from flexiflow import EventBus, on
from tests.helpers import MODES, never, noting, noting_async

each_mode = pytest.mark.parametrize("mode", MODES)
each_name = pytest.mark.parametrize("event", ["a", "*", "**"])

NO_HASH: list[object] = []
ALLOWED = {
    "delivery": "one of 'sequential', 'concurrent', 'tiered'",
    "on_error": "one of 'continue', 'raise'",
    "yield_every": "an int, 1 or more",
}


class Level(IntEnum):
    """Priorities of the kind that projects keep in one place."""

    NONE = 0
    FIRST = 1


class Unwalkable(int):
    """Can't be looked for one by one."""

    __hash__ = int.__hash__

    def __eq__(self, other: object) -> bool:
        raise AssertionError


class AsyncCallable:
    """An object that is called like a coroutine function."""

    async def __call__(self, *arguments: object) -> bool:
        return True


class Methods:
    """Handlers that are none."""

    def nothing(self) -> None:
        """Take nothing but self."""

    def two(self, data: object, more: object) -> None:
        """Take too much."""

    def items(self, data: object) -> Iterator[int]:
        """Do nothing until iterated over."""
        yield 1


def nothing() -> None:
    """Take nothing."""


def two(data: object, more: object) -> None:
    """Take too much."""


def keyword_needed(data: object, *, retries: int) -> None:
    """Take what the bus doesn't give."""


def items(data: object) -> Iterator[int]:
    """Do nothing until iterated over."""
    yield 1


async def stream(data: object) -> AsyncIterator[int]:
    """Do nothing until iterated over."""
    yield 1


async def asks(event_name: str, data: object) -> bool:
    """Answer too late for a filter."""
    return True


def three(event_name: str, data: object, more: object) -> bool:
    """Take too much for a filter."""
    return True


def refused_priorities() -> list[Any]:
    """List values that are no int in 1..5."""
    return [True, False, 0, 6, -1, 2.5, 3.0, "3", None, [3], 10**30, Level.NONE, float("nan")]


def stream_of(options: dict[str, Any], bus: EventBus) -> object:
    """Make a stream."""
    return bus.stream("a", **options)


async def is_refused(kind: type[Exception], call: Callable[[EventBus], object]) -> str:
    """See a bus refuse a call and stay as it was; return the message."""
    bus = EventBus()
    notes: list[str] = []
    kept = await bus.subscribe("a", "c", noting(notes, "kept"), once=True)
    with pytest.raises(kind) as caught:
        result = call(bus)
        if isawaitable(result):
            await result
    assert type(caught.value) is kind
    assert ([*bus.subscriptions()], kept.active, notes) == ([kept], True, [])
    await bus.publish("a")
    assert notes == ["kept"]
    return str(caught.value)


@pytest.mark.parametrize("priority", refused_priorities(), ids=repr)
async def test_a_priority_outside_1_to_5_is_refused(priority: Any) -> None:
    """B3: it must be an int in 1..5, and a bool is none."""
    message = await is_refused(
        ValueError, lambda bus: bus.subscribe("a", "c", never, priority=priority)
    )
    assert message == f"priority must be an int, 1 (first) to 5 (last), not {priority!r}"


@pytest.mark.parametrize("priority", [1, 2, 3, 4, 5, Level.FIRST], ids=repr)
async def test_each_priority_from_1_to_5_is_accepted(priority: int) -> None:
    """B3: both ends belong to it, and a subclass of int does."""
    subscription = await EventBus().subscribe("a", "c", never, priority=priority)
    assert subscription.priority == priority


@pytest.mark.parametrize(
    ("event", "kind", "shown"),
    [
        ("", ValueError, "malformed event name ''"),
        ("a..b", ValueError, "malformed event name 'a..b'"),
        ("a*", ValueError, "malformed pattern 'a*'"),
        ("**.a", ValueError, "malformed pattern '**.a'"),
        ("a.**.b", ValueError, "malformed pattern 'a.**.b'"),
        (None, TypeError, "must be a str, not None"),
        (b"a", TypeError, "must be a str, not b'a'"),
        (["a"], TypeError, "must be a str, not ['a']"),
    ],
)
async def test_a_bad_event_name_is_refused(event: Any, kind: type[Exception], shown: str) -> None:
    """B3: an empty or malformed name is a ValueError, and a value that is no str a TypeError."""
    assert shown in await is_refused(kind, lambda bus: bus.subscribe(event, "c", never))


@pytest.mark.parametrize(
    ("component", "kind"), [("", ValueError), (None, TypeError), (1, TypeError)]
)
async def test_a_bad_component_name_is_refused(component: Any, kind: type[Exception]) -> None:
    """B3: an empty component is a ValueError, and a value that is no str a TypeError."""
    message = await is_refused(kind, lambda bus: bus.subscribe("a", component, never))
    assert message.startswith("a component's name must ")
    same = await is_refused(kind, lambda bus: bus.unsubscribe_all(component))
    assert message.partition("; the call is")[0] == same


@pytest.mark.parametrize(
    ("handler", "shown"),
    [
        (None, "not None"),
        ("handler", "not 'handler'"),
        (Methods(), "not <tests"),
        (nothing, "nothing()"),
        (two, "two(data, more)"),
        (keyword_needed, "keyword_needed(data, *, retries)"),
        (Methods().nothing, "Methods.nothing()"),
        (Methods().two, "Methods.two(data, more)"),
        (partial(two, 1, 2), "two()"),
        (lambda: None, "<lambda>()"),
        (items, "items is a generator function"),
        (stream, "stream is a generator function"),
        (Methods().items, "Methods.items is a generator function"),
        (partial(items), "items is a generator function"),
    ],
)
async def test_a_bad_handler_is_refused(handler: Any, shown: str) -> None:
    """B3: what can't be called with one argument, or runs nothing when called, is a TypeError."""
    message = await is_refused(TypeError, lambda bus: bus.subscribe("a", "c", handler))
    assert message.startswith("handler ")
    assert shown in message


async def test_a_handler_that_was_called_is_refused() -> None:
    """B3: a coroutine object instead of the function is taught, without a warning left behind."""

    async def charge(data: object) -> None: ...

    handler: Any = charge(1)
    message = await is_refused(TypeError, lambda bus: bus.subscribe("a", "c", handler))
    assert "did you call it?" in message
    assert "give charge, not charge(...)" in message


@pytest.mark.parametrize(
    ("filter", "shown"),
    [
        (1, "not 1"),
        (False, "not False"),
        (nothing, "nothing()"),
        (three, "three(event_name, data, more)"),
        (asks, "asks is async"),
        (partial(asks), "asks is async"),
        (AsyncCallable(), "AsyncCallable is async"),
        (AsyncCallable().__call__, "AsyncCallable.__call__ is async"),
    ],
)
async def test_a_bad_filter_is_refused(filter: Any, shown: str) -> None:
    """B3: what can't be called with two arguments, or is a coroutine function, is a TypeError."""
    message = await is_refused(TypeError, lambda bus: bus.subscribe("a", "c", never, filter=filter))
    assert "filter" in message
    assert shown in message


LIMITS = {
    "time_limit": (
        "a number of seconds, more than 0",
        [0, 0.0, -1, -0.5, True, False, "2", float("nan"), 10**400, [1]],
    ),
    "limit": ("an int, 1 or more calls at once", [0, -1, True, False, 2.5, 1.0, "2", [1]]),
}
each_bad_limit = pytest.mark.parametrize(
    ("option", "value"),
    [(option, value) for option, (_, values) in LIMITS.items() for value in values],
    ids=repr,
)


@each_bad_limit
async def test_a_bad_limit_is_refused(option: str, value: object) -> None:
    """B3, V1, V2: a time is more than 0 seconds, a number of calls an int of 1 or more."""
    options: dict[str, Any] = {option: value}
    message = await is_refused(ValueError, lambda bus: bus.subscribe("a", "c", never, **options))
    assert message == f"{option} must be {LIMITS[option][0]}, not {reprlib.repr(value)}"


@each_bad_limit
def test_a_bad_limit_of_a_method_is_refused(option: str, value: object) -> None:
    """B3, V1, V2: `on` refuses what `subscribe` does, as it is given."""
    options: dict[str, Any] = {option: value}
    with pytest.raises(ValueError, match=f"{option} must be {LIMITS[option][0]}, not "):
        on("a", **options)


@pytest.mark.parametrize("time_limit", [None, 60, 60.5, 10**30, float("inf")])
@pytest.mark.parametrize("limit", [None, 2, Level.FIRST, sys.maxsize, 10**30])
async def test_each_limit_in_range_is_accepted(time_limit: Any, limit: Any) -> None:
    """B3, V1, V2: neither has an upper end, and None is none."""
    bus = EventBus()
    notes: list[str] = []
    handler = noting_async(notes, "called")
    subscription = await bus.subscribe("a", "c", handler, time_limit=time_limit, limit=limit)
    assert (subscription.time_limit, subscription.limit) == (time_limit, limit)
    assert await bus.publish("a") == ()
    assert notes == ["called"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *product(["delivery"], ["parallel", "", None, 1, NO_HASH, "Sequential"]),
        *product(["on_error"], ["ignore", "", None, False, NO_HASH, "RAISE"]),
        *product(["yield_every"], [0, -1, True, 2.5, "61", None]),
    ],
    ids=repr,
)
def test_a_bad_option_of_the_bus_is_refused(option: str, value: object) -> None:
    """B3: the message names the option, what was given and what is allowed."""
    with pytest.raises(ValueError, match=option) as caught:
        EventBus(**{option: cast("Any", value)})
    assert str(caught.value) == f"{option} must be {ALLOWED[option]}, not {reprlib.repr(value)}"


@pytest.mark.parametrize("yield_every", [1, 61, sys.maxsize, 10**30])
async def test_any_int_from_1_on_is_a_number_of_publishes(yield_every: int) -> None:
    """B3: `yield_every` has no upper end."""
    assert await EventBus(yield_every=yield_every).publish("a") == ()


def test_a_bad_number_of_an_own_type_is_refused_at_once() -> None:
    """B3: a subclass of int is judged by its value, not looked for in a range."""
    with pytest.raises(ValueError, match="must be an int, 1 or more, not 0"):
        EventBus(yield_every=Unwalkable(0))


@pytest.mark.parametrize("option", ["delivery", "on_error"])
@pytest.mark.parametrize("value", ["", "parallel", 0, NO_HASH, "Raise"])
async def test_a_bad_option_of_a_publish_is_refused(option: str, value: Any) -> None:
    """B3: an unknown delivery or policy starts no handler, not even one that is `once`."""
    options: dict[str, Any] = {option: value}
    message = await is_refused(ValueError, lambda bus: bus.publish("a", **options))
    assert message.startswith(f"{option} must be one of ")
    assert message.endswith(f", not {value!r}")


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ("", ValueError), ("a..b", ValueError), ("a.*", ValueError), ("**", ValueError),
        ("a*", ValueError), (None, TypeError), (1, TypeError), (b"a", TypeError),
        (["a"], TypeError), ({"a": 1}, TypeError),
    ],
    ids=repr,
)  # fmt: skip
async def test_a_bad_name_is_not_published(event: Any, kind: type[Exception]) -> None:
    """B3: a wildcard, a malformed name and a name that is no str start nothing."""
    message = await is_refused(kind, lambda bus: bus.publish(event))
    assert repr(event) in message


RECEIVING: dict[str, Callable[[EventBus], Callable[..., Any]]] = {
    "stream": lambda bus: bus.stream,
    "expect": lambda bus: bus.expect,
    "wait_for": lambda bus: bus.wait_for,
}
each_receiver = pytest.mark.parametrize("receive", RECEIVING.values(), ids=list(RECEIVING))


@each_receiver
@pytest.mark.parametrize(
    ("event", "kind"),
    [("", ValueError), ("a..b", ValueError), ("**.a", ValueError), (None, TypeError)],
    ids=repr,
)
async def test_a_bad_name_is_not_received(event: Any, kind: type[Exception], receive: Any) -> None:
    """S1, B3: a stream or a wait of such a name is refused at the call, as a subscription is."""
    shown = await is_refused(kind, lambda bus: receive(bus)(event))
    assert shown == await is_refused(kind, lambda bus: bus.subscribe(event, "c", never))


@each_receiver
@pytest.mark.parametrize("filter", [1, nothing, three, asks], ids=repr)
async def test_a_bad_filter_receives_nothing(filter: Any, receive: Any) -> None:
    """S1, B3: it is refused at the call, as a subscription's is."""
    shown = await is_refused(TypeError, lambda bus: receive(bus)("a", filter=filter))
    assert shown == await is_refused(
        TypeError, lambda bus: bus.subscribe("a", "c", never, filter=filter)
    )


@pytest.mark.parametrize("priority", refused_priorities(), ids=repr)
async def test_a_stream_of_a_bad_priority_is_refused(priority: Any) -> None:
    """S1, B3: it is that of a subscription."""
    message = await is_refused(ValueError, lambda bus: bus.stream("a", priority=priority))
    assert message == f"priority must be an int, 1 (first) to 5 (last), not {priority!r}"


@pytest.mark.parametrize("overflow", ["", "drop", None, 0, NO_HASH, "Block"], ids=repr)
async def test_an_unknown_overflow_is_refused(overflow: Any) -> None:
    """S2: the message says which there are."""
    message = await is_refused(ValueError, lambda bus: bus.stream("a", overflow=overflow))
    allowed = "'block', 'drop_oldest', 'drop_newest', 'error'"
    assert message == f"overflow must be one of {allowed}, not {overflow!r}"


@pytest.mark.parametrize(
    ("overflow", "allowed", "least"),
    [
        ("block", "0 or more events", 0),
        *[
            (each, f"1 or more events where overflow is {each!r}", 1)
            for each in ("drop_oldest", "drop_newest", "error")
        ],
    ],
)
async def test_a_bad_buffer_is_refused(overflow: Any, allowed: str, least: int) -> None:
    """S2: it is an int of 0 or more, and more than 0 where an event has to wait in it."""
    for buffer in (least - 1, -5, True, False, 2.5, "3", None, NO_HASH, float("inf")):
        options: dict[str, Any] = {"buffer": buffer, "overflow": overflow}
        message = await is_refused(ValueError, partial(stream_of, options))
        assert message == f"buffer must be an int, {allowed}, not {buffer!r}"
    for buffer in (least, 10**30):
        EventBus().stream("a", buffer=buffer, overflow=overflow)


async def test_what_is_no_subscription_can_not_be_unsubscribed() -> None:
    """B3: the handler instead of its subscription is a TypeError that says what is wanted."""
    bus = EventBus()
    wrong: Any = never
    with pytest.raises(TypeError, match="unsubscribe takes what subscribe returned, not <function"):
        bus.unsubscribe(wrong)
