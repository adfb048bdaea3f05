"""Queries as names, and what can answer them: A1, A2."""

import pickle
from collections.abc import AsyncGenerator, Callable
from copy import copy, deepcopy
from functools import partial
from typing import Any, cast

import pytest
from anyio.lowlevel import checkpoint

from flexiflow import DuplicateAnswer, EventBus, NoAnswer, Query, Topic, answers, on
from tests.bus.test_asking import PRICE, WATCHED, double, make_bus, multiply
from tests.helpers import never


def test_a_query_is_a_str() -> None:
    """A1: At run time it equals its name, as a `Topic` does."""
    names = {"price.asked": 1}
    query: Any = PRICE
    assert isinstance(query, str)
    assert names[query] == 1


@pytest.mark.parametrize("given", [0.5, None, b"q"])
async def test_a_name_must_be_a_str(given: Any) -> None:
    """A1, B3: Else `TypeError`."""
    bus = EventBus()
    with pytest.raises(TypeError, match="a query name must be a str"):
        await bus.ask(given)
    with pytest.raises(TypeError, match="a query name must be a str"):
        await bus.answer(given, "c", double)
    with pytest.raises(TypeError, match="a query name must be a str"):
        Query(given)


@pytest.mark.parametrize("name", ["price.*", "**", "", "a..b"])
async def test_a_query_has_no_wildcard(name: str) -> None:
    """A1, B3: A pattern or a malformed name can be neither asked nor answered."""
    bus = EventBus()
    problem = "a query's name has no wildcard" if "*" in name else "malformed query name"
    with pytest.raises(ValueError, match=problem):
        await bus.ask(name)
    with pytest.raises(ValueError, match=problem):
        await bus.answer(name, "c", double)
    with pytest.raises(ValueError, match=problem):
        Query(name)
    with pytest.raises(ValueError, match=problem):
        answers(name)


async def test_a_topic_in_place_of_a_query_and_the_other_way_round() -> None:
    """A2: The message says which call is right."""
    bus, placed = EventBus(), Topic[int]("order.placed")
    for refused in (bus.ask(placed), bus.answer(placed, "c", double)):  # type: ignore[call-overload]
        with pytest.raises(TypeError, match=r"'order\.placed' is a topic, not a query: "):
            await refused
    await bus.answer("order.placed", "c", never)
    with pytest.raises(TypeError, match=r"'order\.placed' is a topic, not a query: "):
        await bus.ask(placed)  # type: ignore[call-overload]
    query: Any = PRICE
    with pytest.raises(TypeError, match=r"'price\.asked' is a query, not an event: "):
        bus.subscriptions(query)
    for refused in (bus.publish(query), bus.subscribe(query, "c", double), bus.wait_for(query)):
        with pytest.raises(TypeError, match=r"'price\.asked' is a query, not an event: "):
            await refused
    for refusing in (bus.stream, bus.expect, on):
        with pytest.raises(TypeError, match=r"'price\.asked' is a query, not an event: "):
            refusing(query)


class Odd(str):
    """A name that equals nothing, not even itself."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 1


async def test_a_name_of_a_subclass_of_str() -> None:
    """A1: It is taken as the plain name that it is."""
    bus = EventBus()
    answerer = await bus.answer(Odd("q"), "c", double)
    with pytest.raises(DuplicateAnswer):
        await bus.answer(Odd("q"), "d", never)
    assert (await bus.ask("q", 1), await bus.ask(Odd("q"), 1)) == (2, 2)
    assert bus.unsubscribe(answerer)
    assert bus.subscriptions() == ()


async def test_long_names_in_messages() -> None:
    """A1, B10: They lose their middle."""
    bus, name = EventBus(), "a." * 9_000 + "b"
    query: Any = Query[int, int](name)
    await bus.answer(query, "c" * 9_000, double)
    for kind, call, given in (
        (DuplicateAnswer, bus.answer, (name, "d", double)),
        (NoAnswer, bus.ask, (f"{name}.c",)),
        (ValueError, bus.ask, (f"{name}.*",)),
        (ValueError, bus.answer, (f"{name}.", "c", double)),
        (TypeError, bus.ask, (Topic[int](name),)),
        (TypeError, bus.publish, (query,)),
        (TypeError, bus.ask, (name.encode(),)),
    ):
        with pytest.raises(kind) as caught:
            await cast("Any", call)(*given)
        assert len(str(caught.value)) < 500
        assert len(repr(caught.value)) < 500
    assert len(repr(bus.subscriptions())) < 500


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_query_can_be_copied_and_pickled(protocol: int) -> None:
    """A1: What comes out is an equal `Query`."""
    copies = [copy(PRICE), deepcopy(PRICE), pickle.loads(pickle.dumps(PRICE, protocol))]  # noqa: S301  our own
    assert [type(each) for each in copies] == [Query] * 3
    assert copies == [PRICE] * 3
    assert {*copies, "price.asked"} == {PRICE}


async def generate(item: int) -> AsyncGenerator[int]:
    """Yield in place of an answer."""
    yield item


triple: Callable[[int], int] = lambda item: 3 * item  # noqa: E731


class Quote:
    """What a class that answers makes; its instances answer, too."""

    def __init__(self, item: int) -> None:
        self.item = item

    def __call__(self, item: int) -> int:
        """Answer at once."""
        return self.item * item

    async def later(self, item: int) -> int:
        """Answer after a turn of the scheduler."""
        await checkpoint()
        return self.item * item


@WATCHED
@pytest.mark.parametrize(
    ("answerer", "name"),
    [
        (partial(multiply, 3), "multiply"),
        (partial(Quote.later, Quote(3)), "Quote.later"),
        (Quote(3).later, "Quote.later"),
        (Quote(3), "Quote"),
        (triple, "<lambda>"),
    ],
    ids=["partial", "async partial", "bound method", "object", "lambda"],
)
@pytest.mark.parametrize("terms", [{}, {"limit": 1}, {"time_limit": 9.0}], ids=str)
async def test_a_callable_of_any_kind_answers(
    answerer: Any, name: str, terms: Any, is_watched: bool
) -> None:
    """A1, B7: It is called with what is asked, and shown by its name."""
    bus = make_bus(is_watched=is_watched)
    subscription = await bus.answer(PRICE, "c", answerer, **terms)
    assert await bus.ask(PRICE, 4) == 12
    assert repr(subscription) == f"<Subscription 'c' answers 'price.asked': {name}>"


async def test_a_class_answers_with_an_instance() -> None:
    """A1, B7: What it makes is not awaited, as it can't be."""
    bus = EventBus()
    await bus.answer("q", "c", Quote)
    answer = await bus.ask("q", 4)
    assert (type(answer), answer.item) == (Quote, 4)


async def test_a_generator_function_can_t_answer() -> None:
    """A1, B3: It is refused, and nobody answers."""
    bus = EventBus()
    with pytest.raises(TypeError, match="but generate is a generator function"):
        await bus.answer("q", "c", generate)
    with pytest.raises(NoAnswer):
        await bus.ask("q", 1)
