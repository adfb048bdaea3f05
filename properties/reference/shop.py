"""A shop whose orders keep what is claimed about them; its subclasses have one fault each (P6)."""

from collections.abc import Mapping
from typing import Any, Final

import anyio
from anyio.lowlevel import checkpoint
from hypothesis import strategies as st

from flexiflow import Component, Engine, State, StateMachine, Transition

ENDS: Final = ("shipped", "returned", "expired", "cancelled")
COPIES: Final = 1
"""So many books are on the shelf in the beginning."""


class NotThere(Exception):
    """A parcel that can't be delivered."""


class Order(Component):
    """An order of one book."""

    def __init__(self, name: str, shop: "Shop") -> None:
        super().__init__(name, machine=StateMachine("new", shop.rows(), states=shop.states()))
        self.shop = shop
        self.paid = self.refunded = self.books = 0
        self.address = "here"
        self.reminders = 0


class Shop:
    """A shop, whose orders are made as their first message comes."""

    def __init__(self) -> None:
        self.stock = COPIES
        self.orders: list[Order] = []

    def make_order(self, name: str) -> Order:
        self.orders.append(Order(name, self))
        return self.orders[-1]

    def rows(self) -> list[Transition]:
        return [
            Transition("new", "place", "placed", action=self.place),
            Transition("placed", "pay", "paid", action=self.pay),
            Transition("placed", "remind", None, action=self.remind),
            Transition("placed", "expire", "expired"),
            Transition("paid", "pick", "picked", guard=self.has_books, action=self.pick),
            *self.rows_without_books(),
            Transition("paid", "lose", "lost", guard=self.loses),
            Transition("picked", "done", "shipped"),
            Transition("picked", "broke", "returned", action=self.take_back),
            Transition(("placed", "paid"), "cancel", "cancelled", action=self.refund),
        ]

    def rows_without_books(self) -> list[Transition]:
        return [Transition("paid", "pick", "cancelled", action=self.refund)]

    def states(self) -> list[State]:
        return [
            State("placed", after=(60.0, "expire")),
            State("picked", during=self.deliver, done="done", failed="broke"),
        ]

    def place(self, message: Mapping[str, Any], order: Order) -> None:
        order.address = message.get("address", order.address)

    async def remind(self, message: Mapping[str, Any], order: Order) -> None:
        order.reminders += 1

    async def pay(self, message: Mapping[str, Any], order: Order) -> None:
        await checkpoint()
        order.paid = 1

    async def has_books(self, message: Mapping[str, Any], order: Order) -> bool:
        is_there = self.stock > 0
        await checkpoint()
        return is_there

    def loses(self, message: Mapping[str, Any], order: Order) -> bool:
        return False

    async def pick(self, message: Mapping[str, Any], order: Order) -> None:
        # Another order may have taken the last one since the guard has looked.
        if not self.stock:
            raise LookupError("no books")
        self.stock -= 1
        order.books = 1

    async def deliver(self, order: Order) -> None:
        await anyio.sleep(5.0)
        if order.address == "nowhere":
            raise NotThere

    def take_back(self, message: Mapping[str, Any], order: Order) -> None:
        self.stock += order.books
        order.books = 0

    def refund(self, message: Mapping[str, Any], order: Order) -> None:
        order.refunded = order.paid


def stock_is_right(order: Order) -> None:
    """Claim that no book comes or goes but by an order."""
    shop = order.shop
    kept = shop.stock + sum(each.books for each in shop.orders)
    assert shop.stock >= 0, f"{shop.stock} books are on the shelf"
    assert kept == COPIES, f"{kept} books are left"


def refunds_only_what_was_paid(order: Order) -> bool:
    """Claim that no more is refunded than was paid."""
    return order.refunded <= order.paid


def is_paid_in_time(order: Order) -> bool:
    """Claim that an order that was not paid yet has no money."""
    return order.state not in {"new", "placed"} or not order.paid


def is_free(order: Order) -> bool:
    """Tell whether a customer has both the book and the money."""
    return bool(order.state == "shipped" and order.refunded)


SENT: Final = [
    {"type": "place"},
    {"type": "place", "address": "nowhere"},
    *({"type": trigger} for trigger in ("pay", "remind", "pick", "cancel", "lose")),
]
MESSAGES: Final = {name: st.sampled_from(SENT) for name in ("order-1", "order-2")}
CLAIMS: Final[dict[str, Any]] = {
    "invariants": [stock_is_right, refunds_only_what_was_paid, is_paid_in_time],
    "never": ["lost", is_free],
    "leads_to": [
        ("placed", (*ENDS, "paid")),
        ("paid", (*ENDS, "picked")),
        ("picked", {"shipped", "returned"}),
    ],
    "fair": ["pick"],
}


def engine_of(shop: Shop) -> Engine:
    """Make the engine of a shop."""
    return Engine(component_factory=shop.make_order)
