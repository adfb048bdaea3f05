"""Orders from placing to shipping, with a payment service that does not always answer.

`orders.jsonl` is a log of the messages from customers and the warehouse. An order is made when its
first message comes. Everything else follows from events: the payments charge a placed order and
send it the result, and a letter announces a shipped order to the customer.
"""

from collections import Counter
from typing import Any

from flexiflow import Component, Engine, EventBus, StateMachine, Transition, on
from flexiflow.extras.retry import RetryConfig, retry_async

CREDIT = 500
"""The credit of a customer's card."""


class OutOfStock(Exception):
    """There is nothing left to pick."""


class CardRefused(Exception):
    """The amount is more than the card's credit; asking again won't help."""


class Order(Component):
    """One order; all orders share one state machine."""

    def __init__(self, name: str, shop: "Shop") -> None:
        super().__init__(name, machine=LIFE)
        self.shop = shop
        self.details: dict[str, Any] = {}


async def place(message: dict[str, Any], order: Order) -> None:
    """Keep the details of the order, and publish `order.placed`."""
    order.details = {"order": order.name, **message}
    await order.shop.engine.bus.publish("order.placed", order.details)


def pick(_message: dict[str, Any], order: Order) -> None:
    """Take the item off the shelf; if there is none, the order stays paid."""
    order.shop.warehouse.take(order.details["item"])


async def ship(message: dict[str, Any], order: Order) -> None:
    """Publish `order.shipped`."""
    await order.shop.engine.bus.publish("order.shipped", order.details | message)


def put_back(_message: dict[str, Any], order: Order) -> None:
    """Put a picked item back on the shelf."""
    if order.state == "picked":
        order.shop.warehouse.stock[order.details["item"]] += 1


def is_sensible(message: dict[str, Any], _order: Order) -> bool:
    """Return whether the amount of an order is plausible."""
    return bool(0 < message["amount"] <= 2 * CREDIT)


# Strict: a message that comes at the wrong time is refused, and so is reported with its line.
LIFE = StateMachine(
    "new",
    [
        Transition("new", "place", "placed", guard=is_sensible, action=place),
        Transition("new", "place", "refused"),
        Transition("placed", "pay", "paid"),
        Transition("placed", "refuse", "refused"),
        Transition("paid", "pick", "picked", action=pick),
        Transition("picked", "ship", "shipped", action=ship),
        Transition(("placed", "paid", "picked"), "cancel", "cancelled", action=put_back),
    ],
    strict=True,
)


class Payments(Component):
    """Charges cards through a service that is sometimes down for a moment."""

    def __init__(self, shop: "Shop") -> None:
        super().__init__("payments")
        self.shop = shop
        self.attempts = Counter[str]()

    @on("order.placed")
    async def charge(self, order: dict[str, Any]) -> None:
        """Charge the customer's card, and send the result to the order."""
        try:
            await self.call_service(order["order"], order["amount"])
        except CardRefused as exc:
            answer = {"type": "refuse", "reason": str(exc)}
        else:
            answer = {"type": "pay"}
        # The order is still being placed, so it handles this message right afterwards.
        await self.shop.engine.send(order["order"], answer)

    @retry_async(RetryConfig(base_delay=0.01, backoff=2, retry_on=ConnectionError))
    async def call_service(self, order: str, amount: int) -> None:
        """Call the service, which answers a few orders only when retried, and some never."""
        self.attempts[order] += 1
        number = int(order.removeprefix("order-"))
        if number % 29 == 0 or (number % 7 == 0 and self.attempts[order] == 1):
            raise ConnectionError(f"the payment service did not answer about {order}")
        if amount > CREDIT:
            raise CardRefused(f"{amount} is more than the card's {CREDIT}")


class Warehouse(Component):
    """Counts the items on the shelves; closed for picking during stocktaking."""

    def __init__(self) -> None:
        super().__init__("warehouse", machine=HOURS)
        self.stock = Counter[str]()

    @on("stock.arrived")
    def put(self, delivery: dict[str, Any]) -> None:
        """Put delivered items on the shelves."""
        self.stock[delivery["item"]] += delivery["count"]

    def take(self, item: str) -> None:
        """Take one item off the shelf."""
        if self.state == "closed" or not self.stock[item]:
            raise OutOfStock(f"no {item} can be picked while the warehouse is {self.state}")
        self.stock[item] -= 1


# Not strict: a message that opens an open warehouse is ignored.
HOURS = StateMachine(
    "open", [Transition("open", "close", "closed"), Transition("closed", "open", "open")]
)


class Letters(Component):
    """Writes to customers."""

    def __init__(self) -> None:
        super().__init__("letters")
        self.sent: list[str] = []

    @on("order.shipped", priority=5)
    def announce(self, order: dict[str, Any]) -> None:
        """Announce the parcel; without an address this fails, and the order is shipped anyway."""
        self.sent.append(f"{order['address']}: your {order['item']} is on its way")


class Shop:
    """The engine and the warehouse, which the components share."""

    def __init__(self) -> None:
        self.engine = Engine(bus=EventBus(), component_factory=self.make_order)
        self.warehouse = Warehouse()

    def make_order(self, name: str) -> Order | None:
        """Make an order when it is first asked for; other names stay unknown."""
        kind, _, number = name.partition("-")
        return Order(name, self) if kind == "order" and number.isdecimal() else None


async def engine() -> Engine:
    """Make the engine, and register the shop's components."""
    shop = Shop()
    for component in (Payments(shop), shop.warehouse, Letters()):
        await shop.engine.register(component)
    return shop.engine
