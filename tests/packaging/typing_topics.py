"""T1: what type checkers accept of topics, and what they refuse; it is checked, and never run.

A line that must be refused says by which rules. If mypy or pyright came to accept it, they would
complain that the comment is not needed.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from collections.abc import Awaitable
from functools import partial
from typing import Any, assert_type

from flexiflow import (
    Component,
    Engine,
    Event,
    EventBus,
    EventStream,
    Subscription,
    Topic,
    on,
)
from flexiflow.testing import record


class Order:
    """A payload."""

    total: int


class GiftOrder(Order):
    """A more special one."""


class Invoice:
    """A payload of another topic."""


PLACED = Topic[Order]("order.placed")
ANY_ORDER = Topic[Order]("order.*")
GIFT = Topic[GiftOrder]("order.gift")
BILLED = Topic[Invoice]("invoice.sent")
STARTED = Topic[None]("shop.started")
SELECTED = Topic[Order | None]("order.selected")


def take_order(order: Order) -> None:
    """Take what the topic has."""


async def take_order_later(order: Order) -> int:
    """Take it, and return something that nobody wants."""
    return 1


def take_and_give_later(order: Order) -> Awaitable[None]:
    """Give what is to be awaited."""
    raise NotImplementedError


def take_anything(data: object) -> None:
    """Take more than the topic has."""


def take_gift(order: GiftOrder) -> None:
    """Take less than the topic has."""


def take_invoice(invoice: Invoice) -> None:
    """Take something else."""


async def take_invoice_later(invoice: Invoice) -> None:
    """Take something else."""


def take_none(data: None) -> None:
    """Take no payload."""


def take_order_or_none(order: Order | None) -> None:
    """Take either."""


def take_two(order: Order, more: int) -> None:
    """Take too much."""


def take_with_option(order: Order, *, retries: int = 1) -> None:
    """Take what the bus does not give."""


def take_untyped(order: Any) -> Any:
    """Take any arguments."""


def accept_order(name: str, order: Order) -> bool:
    """Be a filter."""
    return True


def accept_anything(name: str, data: object) -> bool:
    """Be a filter of everything."""
    return True


def accept_invoice(name: str, invoice: Invoice) -> bool:
    """Be a filter of something else."""
    return True


def accept_gift(name: str, order: GiftOrder) -> bool:
    """Be a filter of less than the topic has."""
    return True


async def accept_later(name: str, order: Order) -> bool:
    """Answer too late."""
    return True


class Clerk:
    """Has methods and is called as well."""

    def take(self, order: Order) -> None:
        """Take what the topic has."""

    async def take_later(self, order: Order) -> None:
        """Take it, and be awaited."""

    def take_invoice(self, invoice: Invoice) -> None:
        """Take something else."""

    def __call__(self, order: Order) -> None:
        """Take what the topic has."""


async def subscribe_what_is_right(bus: EventBus, clerk: Clerk, orders: list[Order]) -> None:
    """T1: a handler that can take the payload is accepted, whatever it is."""
    assert_type(await bus.subscribe(PLACED, "c", take_order), Subscription)
    await bus.subscribe(PLACED, "c", take_order_later)
    await bus.subscribe(PLACED, "c", take_and_give_later)
    await bus.subscribe(PLACED, "c", take_anything)
    await bus.subscribe(PLACED, "c", take_with_option)
    await bus.subscribe(PLACED, "c", take_untyped)
    await bus.subscribe(PLACED, "c", clerk.take)
    await bus.subscribe(PLACED, "c", clerk.take_later)
    await bus.subscribe(PLACED, "c", clerk)
    await bus.subscribe(PLACED, "c", partial(take_two, more=1))
    await bus.subscribe(PLACED, "c", orders.append)
    await bus.subscribe(PLACED, "c", print)
    await bus.subscribe(PLACED, "c", lambda order: order.total)
    await bus.subscribe(event=PLACED, component="c", handler=take_order)
    await bus.subscribe(ANY_ORDER, "c", take_order, priority=1, once=True)
    await bus.subscribe(GIFT, "c", take_order, time_limit=2.5, limit=1)
    await bus.subscribe(STARTED, "c", take_none)
    await bus.subscribe(SELECTED, "c", take_order_or_none)
    await bus.subscribe(PLACED, "c", take_order_or_none)
    with await bus.subscribe(PLACED, "c", take_order) as subscription:
        assert_type(subscription.limit, int | None)
        assert_type(subscription.time_limit, float | None)


async def subscribe_what_is_wrong(bus: EventBus, clerk: Clerk, invoices: list[Invoice]) -> None:
    """T1: a handler that can't take every payload of the topic is refused."""
    await bus.subscribe(PLACED, "c", take_invoice)  # type: ignore[arg-type]
    await bus.subscribe(PLACED, "c", take_invoice_later)  # type: ignore[arg-type]
    await bus.subscribe(PLACED, "c", take_gift)  # type: ignore[arg-type]
    await bus.subscribe(PLACED, "c", take_two)  # type: ignore[arg-type]
    await bus.subscribe(PLACED, "c", clerk.take_invoice)  # type: ignore[arg-type]
    await bus.subscribe(PLACED, "c", invoices.append)  # type: ignore[arg-type]
    await bus.subscribe(BILLED, "c", clerk)  # type: ignore[arg-type]
    await bus.subscribe(ANY_ORDER, "c", take_invoice)  # type: ignore[arg-type]
    await bus.subscribe(STARTED, "c", take_order)  # type: ignore[misc]
    await bus.subscribe(SELECTED, "c", take_order)  # type: ignore[arg-type]
    await bus.subscribe(event=PLACED, component="c", handler=take_invoice)  # type: ignore[arg-type]
    await bus.subscribe(PLACED, "c", lambda order: order.absent)  # type: ignore[attr-defined]
    await bus.subscribe(PLACED, "c", lambda: None)  # type: ignore[arg-type, misc]
    await bus.subscribe(PLACED, "c", take_order_later(Order()))  # type: ignore[call-overload]
    await bus.subscribe(PLACED, "c", take_order, time_limit="2")  # type: ignore[call-overload]
    await bus.subscribe(PLACED, "c", take_order, limit=1.5)  # type: ignore[call-overload]


async def filter_what_is_right(bus: EventBus) -> None:
    """T1: a filter that can take the payload is accepted."""
    await bus.subscribe(PLACED, "c", take_order, filter=accept_order)
    await bus.subscribe(PLACED, "c", take_order, filter=accept_anything)
    await bus.subscribe(PLACED, "c", take_order, filter=None)
    await bus.subscribe(PLACED, "c", take_order, filter=lambda name, order: order.total > len(name))
    assert_type(bus.stream(PLACED, filter=accept_order), EventStream[Order])
    expectation = bus.expect(PLACED, filter=accept_order)
    assert_type(await expectation, Event[Order])
    await bus.wait_for(PLACED, filter=accept_order)


async def filter_what_is_wrong(bus: EventBus) -> None:
    """T1: a filter that can't take every payload of the topic is refused."""
    await bus.subscribe(PLACED, "c", take_order, filter=accept_invoice)  # type: ignore[arg-type]
    await bus.subscribe(PLACED, "c", take_order, filter=lambda name, order: order.absent)  # type: ignore[attr-defined]
    await bus.subscribe(PLACED, "c", take_order, filter=accept_gift)  # type: ignore[arg-type]
    await bus.subscribe(PLACED, "c", take_order, filter=accept_later)  # type: ignore[arg-type]
    bus.stream(PLACED, filter=accept_invoice)  # type: ignore[arg-type]
    async with bus.expect(PLACED, filter=accept_invoice):  # type: ignore[arg-type]
        pass
    await bus.wait_for(PLACED, filter=accept_invoice)  # type: ignore[arg-type]


async def publish_what_is_right(bus: EventBus) -> None:
    """T1: a payload of the topic's type, or of a subclass, is accepted."""
    failures = await bus.publish(PLACED, Order())
    assert_type(failures[0].event_name, str)
    await bus.publish(PLACED, GiftOrder(), delivery="concurrent", on_error="raise")
    await bus.publish(PLACED, data=Order())
    await bus.publish(event=PLACED, data=Order())
    await bus.publish(STARTED)
    await bus.publish(STARTED, None)
    await bus.publish(SELECTED, None)
    await bus.publish(SELECTED, Order())


async def publish_what_is_wrong(bus: EventBus) -> None:
    """T1: a payload of another type is refused, and so is none where there is one."""
    await bus.publish(PLACED, Invoice())  # type: ignore[misc]
    await bus.publish(PLACED, data=Invoice())  # type: ignore[misc]
    await bus.publish(GIFT, Order())  # type: ignore[misc]
    await bus.publish(PLACED)  # type: ignore[arg-type]
    await bus.publish(PLACED, None)  # type: ignore[arg-type]
    await bus.publish(SELECTED)  # type: ignore[arg-type]
    await bus.publish(STARTED, Order())  # type: ignore[misc]
    await bus.publish(PLACED, Order)  # type: ignore[misc]


async def receive_what_is_right(bus: EventBus) -> None:
    """T1: the events of a stream, and the one that is waited for, know their payload."""
    async with bus.stream(PLACED, buffer=10, overflow="drop_oldest") as events:
        async for event in events:
            assert_type(event, Event[Order])
            assert_type(event.name, str)
            assert_type(event.data, Order)
            name, data = event
            assert_type(name, str)
            assert_type(data, Order)
    async with bus.expect(PLACED) as expected:
        assert_type(await expected, Event[Order])
    assert_type((await bus.wait_for(ANY_ORDER)).data, Order)
    assert_type((await bus.wait_for(SELECTED)).data, Order | None)
    assert_type((await bus.wait_for(STARTED)).data, None)
    async with bus.stream("order.placed") as plain:
        async for anything in plain:
            assert_type(anything, Event[Any])


async def receive_what_is_wrong(bus: EventBus) -> None:
    """T1: the payload of a stream's event, or of the one waited for, is not of another type."""
    async with bus.stream(PLACED) as events:
        async for event in events:
            take_invoice(event.data)  # type: ignore[arg-type]
            take_untyped(event.data.absent)  # type: ignore[attr-defined]
    async with bus.expect(PLACED) as expected:
        take_invoice((await expected).data)  # type: ignore[arg-type]
    take_gift((await bus.wait_for(PLACED)).data)  # type: ignore[arg-type]


class Shop(Component):
    """Methods that are right: sync or async, of a base class's payload, marked twice."""

    @on(PLACED)
    def note(self, order: Order) -> None:
        """Take what the topic has."""

    @on(PLACED, priority=2, filter=accept_order, once=True, time_limit=2, limit=1)
    async def keep(self, order: Order) -> int:
        """Take it, and be awaited."""
        return 1

    @on(BILLED)
    @on(PLACED)
    async def note_either(self, either: Order | Invoice) -> None:
        """Take the payload of two topics."""

    @on(GIFT)
    @on("order.returned")
    def note_gift(self, order: Order) -> None:
        """Take a base class, and an event of a plain name."""

    @on(PLACED, filter=lambda name, order: order.total > len(name))
    def note_some(self, order: Any) -> None:
        """Take any arguments."""

    @on(PLACED)
    def note_untyped(self, data: object) -> Any:
        """Take more than the topic has, and return the result."""

    @on(STARTED)
    def begin(self, data: None) -> None:
        """Take no payload."""

    @on("order.placed")
    def note_by_name(self, anything: int) -> None:
        """Take an unknown topic."""


class WrongShop(Component):
    """Methods that are wrong."""

    @on(PLACED)  # type: ignore[arg-type]
    def note(self, invoice: Invoice) -> None:
        """Take something else."""

    @on(PLACED)  # type: ignore[arg-type]
    async def note_later(self, invoice: Invoice) -> None:
        """Take something else."""

    @on(PLACED)  # type: ignore[arg-type]
    def note_gift(self, order: GiftOrder) -> None:
        """Take less than the topic has."""

    @on(SELECTED)  # type: ignore[arg-type]
    def select(self, order: Order) -> None:
        """Take less than the topic has."""

    @on(PLACED)  # type: ignore[arg-type]
    def note_nothing(self) -> None:
        """Take nothing."""

    @on(PLACED, filter=accept_invoice)  # type: ignore[arg-type]
    def note_filtered(self, order: Order) -> None:
        """Have a filter of something else."""

    @on(BILLED)  # type: ignore[arg-type]
    @on(PLACED)
    def note_both(self, order: Order) -> None:
        """Take the payload of one of two topics."""


async def call_marked_methods(shop: Shop) -> None:
    """T1: a method that is marked is what it was."""
    assert_type(shop.note(Order()), None)
    assert_type(await shop.keep(Order()), int)
    await shop.note_either(Invoice())
    await shop.note_either(Order())
    shop.note_gift(GiftOrder())
    shop.note_by_name(1)


async def call_marked_methods_wrongly(shop: Shop) -> None:
    """T1: a method that is marked takes nothing else than before."""
    shop.note(Invoice())  # type: ignore[arg-type]
    await shop.keep(Invoice())  # type: ignore[arg-type]
    shop.note()  # type: ignore[call-arg]


async def use_plain_names(bus: EventBus, name: str) -> None:
    """T1: with plain strings, a payload is Any."""
    await bus.subscribe(name, "c", take_order)
    await bus.subscribe("order.placed", "c", take_invoice)
    await bus.subscribe("order.placed", "c", lambda data: assert_type(data, Any))
    await bus.publish(name)
    await bus.publish("order.placed", Invoice())
    assert_type(await bus.wait_for(name), Event[Any])


def compare_topics(event: Event[Order], orders: dict[object, int]) -> int | None:
    """T1: a topic may be compared with a name, looked up, and shown."""
    if event.name == PLACED or event.name != PLACED:
        return orders[PLACED]
    return orders.get(f"{PLACED}{ANY_ORDER!s}")


async def use_topics_of_anything(bus: EventBus, topic: Topic[Any], event: Event[Any]) -> None:
    """T1: Topic[Any] takes everything, and a topic is no str to type checkers."""
    await bus.subscribe(topic, "c", take_order)
    await bus.publish(topic, 1)
    async with record(bus) as recorded:
        await bus.publish(topic, None)
    assert_type(recorded.events[0].data, Any)


async def mistake_topics(bus: EventBus, engine: Engine) -> None:
    """T1: a topic is invariant, and is no name where there is no payload to check."""
    wider: list[Topic[Order]] = [GIFT]  # type: ignore[list-item]
    narrower: list[Topic[GiftOrder]] = [PLACED]  # type: ignore[list-item]
    take_untyped((wider, narrower))
    await engine.unregister(PLACED)  # type: ignore[arg-type]
    bus.unsubscribe_all(PLACED)  # type: ignore[arg-type]
    await bus.publish(1, None)  # type: ignore[call-overload]
    await bus.subscribe(None, "c", take_order)  # type: ignore[call-overload]
    Topic[Order](1)  # type: ignore[arg-type]
