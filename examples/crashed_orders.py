"""A shop and a warehouse that are killed at every checkpoint, one after the other.

    python examples/crashed_orders.py [--careless] [--backend trio] [--transport URL] [--most N]

The shop stores orders, and the warehouse packs them; each is a process, and they share only the
transport. `crash_everywhere` kills each of them at each place where one of its tasks waits, starts
it again, and compares the orders with the parcels. With `--careless` the warehouse does not ask
whether it has packed an order already, and one of the crashes shows that.
"""

import argparse
import sqlite3
import sys
from contextlib import closing
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from flexiflow import EventBus, Topic
from flexiflow.extras import durable
from flexiflow.testing import CrashFailure, crash_everywhere

if find_spec("coredis") is not None:
    # It is imported once here, and not in each of the many processes when a bridge is opened.
    import_module("coredis")

ORDERS = 3
LEASE = 0.5
"""A worker that is silent for so many seconds counts as dead; short, as there are many crashes."""

PATIENCE = 120.0
"""After so many seconds a worker that has not ended is taken to wait for what was lost."""

PLACED: Topic[dict[str, Any]] = Topic("order.placed")
OUTBOX = durable.Outbox(source="shop")


async def shop(folder: Path, url: str | None = None) -> None:
    """Place the orders that are not placed yet, each with its event in one transaction."""
    with closing(sqlite3.connect(folder / "shop.db", isolation_level=None)) as db:
        db.execute("CREATE TABLE IF NOT EXISTS orders (number INTEGER PRIMARY KEY)")
        OUTBOX.prepare(db)
        outbox = OUTBOX.at(folder / "shop.db")
        transport = transport_of(folder, url)
        async with durable.open_bridge(EventBus(), transport, outbox=outbox, lease=LEASE):
            for number in range(count(db, "orders"), ORDERS):
                db.execute("BEGIN IMMEDIATE")
                with db:
                    db.execute("INSERT INTO orders VALUES (?)", (number,))
                    OUTBOX.enroll(db, PLACED, {"order": number})
                await checkpoint()


async def warehouse(folder: Path, url: str | None = None, *, is_careful: bool = True) -> None:
    """Pack each order, until all are packed."""
    with closing(sqlite3.connect(folder / "warehouse.db", isolation_level=None)) as db:
        db.execute("CREATE TABLE IF NOT EXISTS parcels (number INTEGER)")
        bus = EventBus(on_error="raise")
        packed = anyio.Event()

        async def pack(order: dict[str, Any]) -> None:
            db.execute("BEGIN IMMEDIATE")
            with db:
                if durable.first_time(db, "warehouse") or not is_careful:
                    db.execute("INSERT INTO parcels VALUES (?)", (order["order"],))
            await checkpoint()  # a message to the customer, say
            look()

        def look() -> None:
            if count(db, "parcels") >= ORDERS:
                packed.set()

        await bus.subscribe(PLACED, "warehouse", pack)
        look()
        ways: dict[str, Any] = {"incoming": ["order.placed"], "group": "warehouse", "lease": LEASE}
        async with durable.open_bridge(bus, transport_of(folder, url), **ways):
            await packed.wait()


async def careless_warehouse(folder: Path, url: str | None = None) -> None:
    """Pack each order that comes, also one that comes again."""
    await warehouse(folder, url, is_careful=False)


def transport_of(folder: Path, url: str | None) -> durable.Transport:
    """Return a transport that belongs to one run: a file in its folder, or keys with its name."""
    return durable.transport_from_url(
        f"sqlite:{folder}/events.db" if url is None else f"{url}?prefix={folder.name}"
    )


def count(db: sqlite3.Connection, table: str) -> int:
    """Return how many different numbers a table has."""
    (number,) = db.execute(f"SELECT count(DISTINCT number) FROM {table}").fetchone()  # noqa: S608
    return int(number)


def check(folder: Path) -> None:
    """Compare the parcels with the orders, once both processes have done their work."""
    with closing(sqlite3.connect(folder / "warehouse.db")) as db:
        parcels = [number for (number,) in db.execute("SELECT number FROM parcels ORDER BY number")]
    assert parcels == list(range(ORDERS)), f"parcels: {parcels}"  # noqa: S101  as in a test


def main() -> int:
    """Crash everywhere, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--careless", action="store_true", help="don't ask what is packed already")
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    parser.add_argument("--transport", metavar="URL", help="redis://host:port")
    parser.add_argument("--most", type=int, metavar="N", help="try so many points at most")
    given = parser.parse_args()
    try:
        transport_of(Path("tried"), given.transport)
    except ValueError as exc:
        parser.error(str(exc))
    packer = careless_warehouse if given.careless else warehouse
    try:
        found = crash_everywhere(
            [partial(shop, url=given.transport), partial(packer, url=given.transport)],
            backend=given.backend,
            check=check,
            most=given.most,
            time_limit=PATIENCE,
        )
    except CrashFailure as failure:
        print(failure)
        return 1
    print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
