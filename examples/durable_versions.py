"""Orders that version 1 of a shop has stored, and version 2 handles.

    python examples/durable_versions.py [--transport URL]

The two versions stand below each other here; in life they are two releases of one program. They
share only the transport: an SQLite file, or the one that the URL names. Version 1 stores some
orders, one of which is damaged, and ends. Version 2 knows currencies, and counts in cents. It reads
what version 1 has stored, stores an order of its own, and gets the damaged one as a dead letter.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from flexiflow import EventBus, Topic
from flexiflow.extras import durable
from flexiflow.extras.durable import Schema, open_bridge

PATIENCE = 30.0

# Version 1.


@dataclass
class OldOrder:
    """An order, as version 1 knows it."""

    order: str
    amount: float


OLD_PLACED = Topic[OldOrder]("order.placed")
OLD_SCHEMAS = [Schema.of(OLD_PLACED)]


async def run_version_1(transport: durable.Transport) -> None:
    """Store some orders."""
    bus = EventBus(on_error="raise")
    async with open_bridge(bus, transport, outgoing=["order.*"], schemas=OLD_SCHEMAS):
        for order in (OldOrder("A1", 9.99), OldOrder("A2", -1.0), OldOrder("A3", 30.0)):
            await bus.publish(OLD_PLACED, order)
            print(f"version 1 stores {order}")


# Version 2. Nothing of version 1 is left in it but one function.


@dataclass
class Order:
    """An order, as version 2 knows it."""

    order: str
    cents: int
    currency: str


def count_cents(old: dict[str, Any]) -> dict[str, Any]:
    """Make of what version 1 has stored what version 2 stores."""
    if old["amount"] < 0:
        raise ValueError(f"{old['order']} has a negative amount")
    return {"order": old["order"], "cents": round(100 * old["amount"]), "currency": "EUR"}


PLACED = Topic[Order]("order.placed")
SCHEMAS = [Schema.of(PLACED, version=2, upcast={1: count_cents})]


async def run_version_2(transport: durable.Transport) -> list[Order]:
    """Handle all orders, and return those that were handled."""
    shop, billing, handled = EventBus(on_error="raise"), EventBus(), list[Order]()
    last = anyio.Event()

    def charge(order: Order) -> None:
        print(f"version 2 handles {order}")
        handled.append(order)
        if order.order == "B1":
            last.set()

    await billing.subscribe(PLACED, "billing", charge)
    async with open_bridge(shop, transport, outgoing=["order.*"], schemas=SCHEMAS):
        await shop.publish(PLACED, Order("B1", 1250, "CHF"))
    # One at a time, so that all the others are done when the last one is handled.
    takes = partial(open_bridge, incoming=["order.*"], group="billing", limit=1)
    with anyio.fail_after(PATIENCE):
        async with takes(billing, transport, schemas=SCHEMAS):
            await last.wait()
        # Once the first bridge was left, all that it had to write is written.
        async with takes(billing, transport, schemas=SCHEMAS) as bridge:
            for letter in await bridge.dead_letters():
                print(f"given up: {letter.failure.message}")
    return handled


async def tell(url: str) -> bool:
    """Run both versions, and return whether version 2 handled what it should."""
    transport = durable.transport_from_url(url)
    await run_version_1(transport)
    handled = await run_version_2(transport)
    return sorted(order.cents for order in handled) == [999, 1250, 3000]


def main() -> int:
    """Read the arguments, run the example, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--transport", metavar="URL", help="sqlite:FILE or redis://host:port")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = options.transport or f"sqlite:{Path(folder, 'events.db')}"
        try:
            is_well = anyio.run(tell, url)
        except (durable.TransportError, ValueError) as exc:
            parser.error(str(exc))
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
