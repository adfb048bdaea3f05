"""Topics at run time: T1.

What type checkers make of them is in `tests/packaging/typing_topics.py`.
"""

import copy
import pickle
from typing import Any

import pytest
from anyio import fail_after

from flexiflow import Component, Engine, Event, EventBus, Topic, on
from flexiflow.events import HANDLER_FAILED, STATE_CHANGED
from flexiflow.testing import record
from tests.helpers import MODES, PATIENCE, accept, never
from tests.hosting import GO, Lamp

NAME = "order.placed"
PLACED = Topic[int](NAME)


def test_a_topic_is_its_name() -> None:
    """T1: at run time it is a str, equal to its name, and hashed and shown like it."""
    topic: object = PLACED
    assert isinstance(topic, str)
    assert (topic, hash(topic), repr(topic), f"{topic}") == (NAME, hash(NAME), repr(NAME), NAME)
    assert {NAME: 1}[topic] == 1


def test_topics_of_one_name_are_equal_whatever_their_payload() -> None:
    """T1: a name has one meaning on a bus, so that the type makes no difference there."""
    others: list[object] = [Topic[str](NAME), Topic[None](NAME), Topic(NAME)]
    assert others == [PLACED] * 3


@pytest.mark.parametrize("name", [NAME, "order", "order.*", "order.**", "**", HANDLER_FAILED])
def test_a_topic_may_be_what_can_be_subscribed_to(name: str) -> None:
    """T1, B10: patterns and the built-in events' names have topics too."""
    assert Topic[Any](name) == name


@pytest.mark.parametrize(
    ("name", "kind", "shown"),
    [
        ("", ValueError, "malformed event name ''"),
        ("a..b", ValueError, "malformed event name 'a..b'"),
        ("a*", ValueError, "malformed pattern 'a*'"),
        ("**.a", ValueError, "malformed pattern '**.a'"),
        (None, TypeError, "must be a str, not None"),
        (b"a", TypeError, "must be a str, not b'a'"),
    ],
)
def test_a_bad_name_is_refused_at_construction(
    name: Any, kind: type[Exception], shown: str
) -> None:
    """T1, B3: a topic can't be of a name that no event has."""
    with pytest.raises(kind) as caught:
        Topic[int](name)
    assert shown in str(caught.value)


def test_a_topic_is_read_only() -> None:
    """T1: it holds nothing but its name."""
    topic: Any = PLACED
    with pytest.raises(AttributeError):
        topic.payload = int


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_topic_survives_pickling(protocol: int) -> None:
    """T1: what is pickled comes back as an equal topic."""
    revived = pickle.loads(pickle.dumps(PLACED, protocol))  # noqa: S301  our own
    assert (type(revived), revived) == (Topic, PLACED)


def test_a_copy_of_a_topic_is_one() -> None:
    """T1: both kinds of copy are equal topics."""
    for copied in (copy.copy(PLACED), copy.deepcopy(PLACED)):
        assert (type(copied), copied) == (Topic, PLACED)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("names", [(PLACED, NAME), (NAME, PLACED), (PLACED, PLACED)])
async def test_topic_and_name_are_one_event(names: Any, mode: Any) -> None:
    """T1: who subscribes to either hears what is published by either."""
    bus = EventBus()
    seen: list[int] = []
    subscribed, published = names
    subscription = await bus.subscribe(subscribed, "c", seen.append)
    await bus.publish(published, 1, delivery=mode)
    assert bus.unsubscribe(subscription)
    await bus.publish(published, 2, delivery=mode)
    assert seen == [1]


async def test_what_tells_of_an_event_tells_a_plain_name() -> None:
    """T1: a subscription names its event by a str like any other."""
    subscription = await EventBus().subscribe(PLACED, "c", never)
    assert type(subscription.event_name) is str


async def test_a_pattern_as_a_topic_hears_what_it_matches() -> None:
    """T1, B10: a topic's wildcards are wildcards."""
    bus = EventBus()
    seen: list[int] = []
    await bus.subscribe(Topic[int]("order.*"), "c", seen.append, filter=accept)
    await bus.publish(PLACED, 1)
    await bus.publish("order.item.added", 2)
    assert seen == [1]


async def test_a_pattern_as_a_topic_is_not_published() -> None:
    """T1, B3: types don't tell a pattern from a name, so the bus does."""
    with pytest.raises(ValueError, match="can't publish to the pattern 'order"):
        await EventBus().publish(Topic[int]("order.*"), 1)


async def test_a_topic_without_payload_is_published_alone() -> None:
    """T1: where the payload is None, it need not be given."""
    bus = EventBus()
    seen: list[None] = []
    await bus.subscribe(Topic[None]("shop.opened"), "c", seen.append)
    await bus.publish(Topic[None]("shop.opened"))
    assert seen == [None]


@pytest.mark.parametrize("name", [PLACED, Topic[int]("order.*")])
async def test_a_topic_is_streamed_expected_and_waited_for(name: Topic[int]) -> None:
    """T1, S1, S4: whatever receives a name receives a topic."""
    bus = EventBus()
    with fail_after(PATIENCE):
        async with bus.stream(name) as events, bus.expect(name) as expected:
            await bus.publish(PLACED, 1)
            received = [await anext(aiter(events)), await expected]
    assert received == [Event(NAME, 1)] * 2


async def test_a_topic_marks_a_method() -> None:
    """T1, C1: `on` takes a topic, and one method takes several."""
    seen: list[object] = []

    class Shop(Component):
        @on(PLACED)
        @on(Topic[str]("order.noted"))
        async def note(self, data: int | str) -> None:
            seen.append(data)

    engine = Engine()
    await engine.register(Shop("shop"))
    await engine.bus.publish(PLACED, 1)
    await engine.bus.publish("order.noted", "two")
    assert seen == [1, "two"]


async def test_a_topic_hears_the_built_in_events() -> None:
    """T1: a built-in event's name has a topic as any name does."""
    engine = Engine()
    changes: list[Any] = []
    await engine.bus.subscribe(Topic[Any](STATE_CHANGED), "c", changes.append)
    await engine.register(Lamp("lamp"))
    await engine.send("lamp", GO)
    assert [each["to_state"] for each in changes] == ["on"]


async def test_a_failure_tells_the_topic_by_its_name() -> None:
    """T1, E1: what is returned and published of a failure has a name that is the topic's."""

    def fail(data: int) -> None:
        raise ZeroDivisionError

    bus = EventBus()
    async with record(bus) as recorded:
        await bus.subscribe(PLACED, "c", fail)
        (failure,) = await bus.publish(PLACED, 1)
    assert failure.event_name == NAME
    assert [each["event_name"] for each in recorded.failures] == [NAME]
    assert [each.name for each in recorded.events] == [NAME]
