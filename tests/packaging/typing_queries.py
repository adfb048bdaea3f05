"""A1: what type checkers accept of queries, and what they refuse; it is checked, and never run.

A line that must be refused says by which rules. If mypy or pyright came to accept it, they would
complain that the comment is not needed.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from typing import Any, assert_type

from flexiflow import Component, EventBus, Query, Topic, answers, on


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
    """Give another answer."""
    return "an item"


async def describe_later(item: Item) -> str:
    """Give another answer, later."""
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
    await bus.ask(SOLD, Item())  # type: ignore[call-overload]
    await bus.publish(PRICE, Item())  # type: ignore[call-overload]
    await bus.subscribe(PRICE, "c", quote)  # type: ignore[call-overload]
    await bus.answer(SOLD, "c", quote)  # type: ignore[call-overload]


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
        """Give another answer."""
        return "an item"

    @answers(PRICE)  # type: ignore[arg-type]
    async def describe_later(self, item: Item) -> str:
        """Give another answer, later."""
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
