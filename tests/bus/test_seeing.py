"""Seeing what is subscribed, and what a bus, an engine and a receiver hold: B12."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from anyio import create_task_group

from flexiflow import Component, Engine, Event, EventBus, Query, answers
from tests.helpers import never, noting, settle


async def test_all_are_shown_in_order_of_subscription() -> None:
    """B12: Answerers and streams, too; not those that were unsubscribed."""
    bus = EventBus()
    first = await bus.subscribe("b", "x", never, priority=5)
    gone = await bus.subscribe("a", "y", never)
    answerer = await bus.answer("q", "y", never)
    last = await bus.subscribe("**", "x", never, priority=1)
    async with bus.stream("a"):
        *shown, receiver = bus.subscriptions()
        assert (shown, receiver.event_name) == ([first, gone, answerer, last], "a")
    bus.unsubscribe(gone)
    assert bus.subscriptions() == (first, answerer, last)
    assert bus.subscriptions(component="x") == (first, last)
    assert bus.subscriptions(component="nobody") == ()


async def test_those_of_an_event_are_shown_in_order_of_delivery() -> None:
    """B12, B4: As a publish calls them; neither filters nor `once` are asked."""
    bus, notes = EventBus(), list[str]()
    made = [
        await bus.subscribe("a.b", "late", noting(notes, "late"), priority=5),
        await bus.subscribe("a.*", "pattern", noting(notes, "pattern")),
        await bus.subscribe("a.b", "once", noting(notes, "once"), once=True, priority=1),
        await bus.subscribe("a.c", "other", never),
    ]
    await bus.answer("a.b", "answerer", never)
    shown = bus.subscriptions("a.b")
    assert shown == (made[2], made[1], made[0])
    assert bus.subscriptions("a.b", component="pattern") == (made[1],)
    await bus.publish("a.b")
    assert notes == [each.component_name for each in shown]


@pytest.mark.parametrize(
    ("event", "problem"),
    [("a.*", ValueError), ("", ValueError), (3, TypeError), (Query[int, int]("q"), TypeError)],
)
async def test_what_can_t_be_published_reaches_nobody(event: Any, problem: type[Exception]) -> None:
    """B12, B3: A pattern, a malformed name, no name, a query."""
    with pytest.raises(problem):
        EventBus().subscriptions(event)


@pytest.mark.parametrize(("component", "problem"), [("", ValueError), (3, TypeError)])
async def test_an_owner_has_a_name(component: Any, problem: type[Exception]) -> None:
    """B12, B3: As everywhere."""
    with pytest.raises(problem):
        EventBus().subscriptions(component=component)


async def test_the_repr_of_a_bus_and_an_engine() -> None:
    """B12: How much they hold, in a line."""
    engine = Engine()
    assert repr(engine.bus) == "<EventBus: 0 subscriptions, 0 instruments>"
    await engine.bus.subscribe("a", "c", never)
    await engine.register(Component("lamp"))
    assert repr(engine.bus) == "<EventBus: 1 subscription, 0 instruments>"
    assert repr(engine) == "<Engine: 1 component>"
    engine.bus.add_instrument(Watching())
    await engine.bus.subscribe("a", "c", never)
    await engine.register(Component("fan"))
    assert repr(engine.bus) == "<EventBus: 2 subscriptions, 1 instrument>"
    assert repr(engine) == "<Engine: 2 components>"


class Watching:
    """An instrument that does nothing."""

    def publishing(self, event: Event[Any]) -> AbstractContextManager[None]:
        return nullcontext()


@pytest.mark.parametrize("terms", [{}, {"limit": 1}, {"time_limit": 1.0}], ids=str)
async def test_the_repr_of_an_answerer(terms: Any) -> None:
    """B12, A1: It shows what is answered, and no priority, which an answerer does not have."""
    bus = EventBus()
    answerer = await bus.answer("q", "c", never, **terms)
    assert repr(answerer) == "<Subscription 'c' answers 'q': never>"
    bus.unsubscribe(answerer)
    assert repr(answerer) == "<Subscription 'c' answers 'q': never, unsubscribed>"
    subscription = await bus.subscribe("q", "c", never, **terms)
    assert repr(subscription) == "<Subscription 'c' to 'q': never, priority 3>"


async def test_the_repr_of_a_component_s_answerer() -> None:
    """B12, A1: As that of any other."""

    class Prices(Component):
        @answers("q")
        def quote(self, _: object) -> None: ...

    engine = Engine()
    await engine.register(Prices("prices"))
    (answerer,) = engine.bus.subscriptions()
    assert repr(answerer).startswith("<Subscription 'prices' answers 'q': ")


async def test_the_repr_of_an_engine_that_makes_a_component() -> None:
    """B12: It says how many are in the making."""
    shown = list[str]()

    def make(name: str) -> Component:
        shown.append(repr(engine))
        return Component(name)

    engine = Engine(component_factory=make)
    await engine.send("lamp", {"type": "flip"})
    assert shown == ["<Engine: 0 components, 1 in the making>"]


async def test_the_repr_of_a_stream() -> None:
    """B12: What it hears, its state, and how full it is."""
    bus = EventBus()
    stream = bus.stream("a.*", buffer=2)
    assert repr(stream) == "<EventStream of 'a.*', not entered: 0 of 2 events>"
    async with stream:
        await bus.publish("a.b")
        assert repr(stream) == "<EventStream of 'a.*', open: 1 of 2 events>"
    assert repr(stream) == "<EventStream of 'a.*', ended: 0 of 2 events>"


async def test_the_repr_of_an_expectation() -> None:
    """B12: What it expects, its state, and what has come."""
    bus = EventBus()
    expectation = bus.expect("a.*")
    assert repr(expectation) == "<Expectation of 'a.*', not entered>"
    async with expectation, create_task_group() as tasks:
        tasks.start_soon(bus.publish, "a.b")
        await settle()
        assert repr(expectation) == ("<Expectation of 'a.*', open: 'a.b' has come>")
