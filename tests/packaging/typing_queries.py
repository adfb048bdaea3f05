"""A1, A3, B12, B15, R7, S1: what type checkers accept of queries and the like, and what not.

It is checked, and never run.

A line that must be refused says by which rules. If mypy or pyright came to accept it, they would
complain that the comment is not needed.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, assert_type

from flexiflow import (
    Component,
    Event,
    EventBus,
    EventStream,
    Query,
    Subscription,
    Topic,
    answers,
    on,
)
from flexiflow._background import Background
from flexiflow.extras.retry import RetryConfig

Inner: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class Item:
    """What is asked."""


class Book(Item):
    """A more special one."""


class Money:
    """The answer."""


class Euro(Money):
    """A more special one."""


PRICE = Query[Item, Money]("price.asked")
TOTAL = Query[None, Money]("total.asked")
SOLD = Topic[Item]("item.sold")
OPENED = Topic[None]("shop.opened")


async def quote(item: Item) -> Money:
    """Answer later."""
    return Money()


def quote_at_once(item: object) -> Euro:
    """Answer a wider question, and more specially."""
    return Euro()


def quote_books(book: Book) -> Money:
    """Answer too few questions."""
    return Money()


def describe(item: Item) -> str:
    """Return an answer of another type."""
    return "an item"


async def describe_later(item: Item) -> str:
    """Return an answer of another type, later."""
    return "an item"


async def accepted(bus: EventBus) -> None:
    """The calls that are right."""
    await bus.answer(PRICE, "prices", quote)
    await bus.answer(PRICE, "prices", quote_at_once, limit=1, time_limit=1.0)
    assert_type(await bus.ask(PRICE, Item()), Money)
    assert_type(await bus.ask(PRICE, Book()), Money)
    assert_type(await bus.ask(TOTAL), Money)
    assert_type(await bus.ask("price.asked", 1), Any)
    await bus.answer("price.asked", "prices", describe)


async def refused(bus: EventBus) -> None:
    """The calls that are wrong."""
    await bus.answer(PRICE, "c", quote_books)  # type: ignore[arg-type]
    await bus.answer(PRICE, "c", describe)  # type: ignore[arg-type]
    await bus.answer(PRICE, "c", describe_later)  # type: ignore[arg-type]
    await bus.ask(PRICE, 1)  # type: ignore[misc]
    await bus.ask(PRICE)  # type: ignore[arg-type]
    await bus.ask(TOTAL, 1)  # type: ignore[misc]
    await bus.ask(SOLD, Item())  # type: ignore[call-overload]
    await bus.publish(PRICE, Item())  # type: ignore[call-overload]
    await bus.subscribe(PRICE, "c", quote)  # type: ignore[call-overload]
    await bus.answer(SOLD, "c", quote)  # type: ignore[call-overload]
    bus.subscriptions(PRICE)  # type: ignore[arg-type]
    bus.stream(PRICE)  # type: ignore[call-overload]
    bus.expect(PRICE)  # type: ignore[call-overload]
    await bus.wait_for(PRICE)  # type: ignore[call-overload]


class Prices(Component):
    """Marks methods."""

    @answers(PRICE)
    async def quote(self, item: Item) -> Money:
        """Answer later."""
        return Money()

    @answers(PRICE)
    def quote_at_once(self, item: Item) -> Euro:
        """Answer at once."""
        return Euro()

    @answers(PRICE)  # type: ignore[arg-type]
    def describe(self, item: Item) -> str:
        """Return an answer of another type."""
        return "an item"

    @answers(PRICE)  # type: ignore[arg-type]
    async def describe_later(self, item: Item) -> str:
        """Return an answer of another type, later."""
        return "an item"

    @answers(PRICE)  # type: ignore[arg-type]
    def quote_books(self, book: Book) -> Money:
        """Answer too few questions."""
        return Money()

    @answers(SOLD)  # type: ignore[call-overload, untyped-decorator]
    def sold(self, item: Item) -> Money:
        """Answer an event."""
        return Money()

    @on(PRICE)  # type: ignore[call-overload, untyped-decorator]
    def asked(self, item: Item) -> None:
        """Hear a query."""


async def methods(prices: Prices) -> None:
    """A marked method gives what the query promises."""
    assert_type(await prices.quote(Item()), Money)
    assert_type(prices.quote_at_once(Item()), Money)


async def publish_in_the_background(background: Background, book: Book) -> None:
    """B15: a background takes what `publish` takes."""
    await background.publish(SOLD, Item())
    await background.publish(SOLD, book)
    await background.publish(OPENED)
    await background.publish(OPENED, None)
    await background.publish("item.sold", 1)
    await background.publish(SOLD, Money())  # type: ignore[misc]
    await background.publish(SOLD)  # type: ignore[arg-type]
    await background.publish(OPENED, 1)  # type: ignore[misc]
    await background.publish(PRICE, Item())  # type: ignore[call-overload]


async def read_in_batches(sold: EventStream[Item], untyped: EventStream[Any]) -> None:
    """S1: a batch is a list of the stream's events."""
    async for events in sold.batches(10, 0.1):
        assert_type(events, list[Event[Item]])
        assert_type(events[0].data, Item)
    async for anything in untyped.batches():
        assert_type(anything, list[Event[Any]])
    sold.batches("10")  # type: ignore[arg-type]


async def go_around(event: Event[Any], subscription: Subscription, call: Inner) -> None:
    """Call the handler."""
    await call()


async def go_around_without_call(event: Event[Any], subscription: Subscription) -> None:
    """Take too little."""


async def go_around_with_more(
    event: Event[Any], subscription: Subscription, call: Inner, more: int
) -> None:
    """Take too much."""


def go_around_at_once(event: Event[Any], subscription: Subscription, call: Inner) -> None:
    """Be no async function."""


async def put_around(bus: EventBus) -> None:
    """A3: an async function of three arguments goes around."""
    EventBus(around=[go_around])
    await bus.subscribe(SOLD, "c", describe, around=[go_around])
    await bus.subscribe("item.sold", "c", describe, around=(go_around,))
    on(SOLD, around=[go_around])
    EventBus(around=go_around)  # type: ignore[arg-type]
    EventBus(around=[go_around_without_call])  # type: ignore[list-item]
    EventBus(around=[go_around_with_more])  # type: ignore[list-item]
    EventBus(around=[go_around_at_once])  # type: ignore[list-item]
    await bus.subscribe("item.sold", "c", describe, around=[go_around_with_more])  # type: ignore[list-item]
    on("item.sold", around=[go_around_at_once])  # type: ignore[list-item]


def is_temporary(exc: Exception) -> bool:
    """Return whether to try again."""
    return isinstance(exc, OSError)


def is_temporary_os_error(exc: OSError) -> bool:
    """Take too few exceptions."""
    return True


def wait_longer(attempt: int, exc: Exception) -> float:
    """Return the seconds until the next attempt."""
    return 2.0 * attempt


def wait_after_any(attempt: float, exc: BaseException) -> int:
    """Take more than is given, and return an int."""
    return 1


def wait_after_os_error(attempt: int, exc: OSError) -> float:
    """Take too few exceptions."""
    return 1.0


async def wait_later(attempt: int, exc: Exception) -> float:
    """Be async."""
    return 1.0


async def is_temporary_later(exc: Exception) -> bool:
    """Be async."""
    return True


def retry() -> None:
    """R7: a function of the exception, and one of the attempt and the exception."""
    RetryConfig(retry_on=is_temporary, delay=wait_longer)
    RetryConfig(retry_on=(OSError, ValueError), delay=wait_after_any, total_time=10)
    RetryConfig(retry_on=OSError, delay=lambda attempt, exc: 0.1 * attempt)
    RetryConfig(retry_on=is_temporary_os_error)  # type: ignore[arg-type]
    RetryConfig(retry_on=is_temporary_later)  # type: ignore[arg-type]
    RetryConfig(retry_on=BaseException)  # type: ignore[arg-type]
    RetryConfig(delay=wait_after_os_error)  # type: ignore[arg-type]
    RetryConfig(delay=wait_later)  # type: ignore[arg-type]
    RetryConfig(delay=1.0)  # type: ignore[arg-type]
