"""Orders in a table of one's own, whose events are stored in the same transaction.

    python examples/outbox_orders.py [--transport URL]

A shop stores orders in its database, and a warehouse packs parcels and counts its stock in another
one. Each is a process, and they share only the transport: an SQLite file, or the one that the URL
names. This program plays the customers: it kills both processes while they work, starts them again,
and compares the orders with the parcels in the end.
"""

import argparse
import secrets
import sqlite3
import sys
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path
from subprocess import PIPE
from typing import Any

import anyio
from anyio.abc import TaskGroup
from anyio.streams.text import TextReceiveStream

from flexiflow import EventBus, Topic
from flexiflow.extras import durable

ORDERS = 40
REFUSED = 5
"""Each fifth customer changes their mind, and the transaction is rolled back."""

LEASE = 1.0
"""A worker that is silent for so many seconds counts as dead; short, so that you see it happen."""

PATIENCE = 100.0

PLACED: Topic[dict[str, Any]] = Topic("order.placed")
OUTBOX = durable.Outbox(source="shop")


async def shop(folder: Path, url: str, run: str) -> None:
    """Place orders, each in a transaction; the bridge hands on the events of those that commit."""
    db = sqlite3.connect(folder / "shop.db", isolation_level=None)
    # So that what is committed, and may be handed on, outlasts a loss of power, too.
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE IF NOT EXISTS orders (number INTEGER PRIMARY KEY, customer TEXT)")
    OUTBOX.prepare(db)
    transport = durable.transport_from_url(url)
    outbox = OUTBOX.at(folder / "shop.db")
    async with durable.open_bridge(EventBus(), transport, outbox=outbox, lease=LEASE):
        (last,) = db.execute("SELECT coalesce(max(number), 0) FROM orders").fetchone()
        for number in range(last + 1, ORDERS + 1):
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO orders VALUES (?, ?)", (number, f"customer {number}"))
            OUTBOX.enroll(db, PLACED, {"order": number, "run": run})
            if number % REFUSED:
                db.execute("COMMIT")
                say(f"order {number} is placed")
            else:
                db.execute("ROLLBACK")
                say(f"order {number} is withdrawn")
            await anyio.sleep(secrets.randbelow(50) / 1000)
        await anyio.sleep_forever()


async def warehouse(folder: Path, url: str, run: str) -> None:
    """Pack each order, and count the stock, in one transaction with a note in the inbox."""
    db = sqlite3.connect(folder / "warehouse.db", isolation_level=None)
    db.execute("CREATE TABLE IF NOT EXISTS parcels (number INTEGER)")
    db.execute("CREATE TABLE IF NOT EXISTS stock AS SELECT 1000 AS pieces")

    async def pack(order: dict[str, Any]) -> None:
        if order["run"] != run:  # the transport may hold orders of an earlier run
            return
        db.execute("BEGIN IMMEDIATE")
        with db:  # which commits, or rolls back after an exception
            if not durable.first_time(db, "warehouse"):
                say(f"order {order['order']} came again: is packed already")
                return
            db.execute("INSERT INTO parcels VALUES (?)", (order["order"],))
            db.execute("UPDATE stock SET pieces = pieces - 1")
        say(f"order {order['order']} is packed")
        await anyio.sleep(secrets.randbelow(50) / 1000)

    bus = EventBus(on_error="raise")
    await bus.subscribe(PLACED, "warehouse", pack)
    transport = durable.transport_from_url(url)
    ways: dict[str, Any] = {"incoming": ["order.placed"], "group": "warehouse", "lease": LEASE}
    async with durable.open_bridge(bus, transport, **ways):
        await anyio.sleep_forever()


ROLES = {"shop": shop, "warehouse": warehouse}
KILLED = {"shop": "order 12 is placed", "warehouse": "order 7 is packed"}
"""What each says before it is killed."""


def say(what: str) -> None:
    """Print a line of the story."""
    print(what, flush=True)


class Story:
    """The story of one run."""

    def __init__(self, folder: Path, url: str, tasks: TaskGroup) -> None:
        self.command = [sys.executable, __file__, "--folder", str(folder), "--transport", url]
        self.command += ["--run", secrets.token_hex(4)]
        self.tasks = tasks
        self.killed: set[str] = set()

    async def follow(self, role: str) -> None:
        """Run a process and print what it says; kill it once, and start it again."""
        async with await anyio.open_process(
            [*self.command, "--role", role], stdout=PIPE, stderr=None
        ) as process:
            told: Any = process.stdout
            rest, is_killed = "", False
            async for text in TextReceiveStream(told):
                *lines, rest = (rest + text).split("\n")
                for line in lines:
                    say(f"{role:>9}: {line}")
                    if line == KILLED[role] and role not in self.killed:
                        self.killed.add(role)
                        say(f"customers: kill -9 {process.pid}: the {role} dies")
                        process.kill()
                        is_killed = True
                        self.tasks.start_soon(self.follow, role)
            if await process.wait() and not is_killed:
                say(f"customers: the {role} ended with status {process.returncode}")
                self.tasks.cancel_scope.cancel()


def read(folder: Path, name: str, query: str) -> list[int]:
    """Return a column of a database."""
    with closing(sqlite3.connect(folder / name)) as db:
        return [each for (each,) in db.execute(query)]


async def tell(folder: Path, url: str) -> bool:
    """Tell the story, and return whether each order that was placed was packed once."""
    with anyio.move_on_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            story = Story(folder, url, tasks)
            for role in ROLES:
                tasks.start_soon(story.follow, role)
            # All may be over before this program has read that it is time to kill.
            while len(story.killed) < len(ROLES) or not is_over(folder):  # noqa: ASYNC110  other processes write what is looked at
                await anyio.sleep(0.1)
            tasks.cancel_scope.cancel()
    if not is_over(folder):
        say("customers: NOT FINISHED: orders are still to be placed or packed")
        return False
    orders = read(folder, "shop.db", "SELECT number FROM orders")
    parcels = read(folder, "warehouse.db", "SELECT number FROM parcels")
    (pieces,) = read(folder, "warehouse.db", "SELECT pieces FROM stock")
    is_right = sorted(parcels) == orders and pieces == 1000 - len(orders)
    say(f"customers: {len(orders)} orders were placed, and {len(parcels)} parcels were packed")
    say(f"customers: each order was packed {'once' if is_right else 'NOT ONCE'}")
    return is_right


def is_over(folder: Path) -> bool:
    """Return whether all orders were placed and packed."""
    try:
        orders = read(folder, "shop.db", "SELECT number FROM orders")
        parcels = read(folder, "warehouse.db", "SELECT number FROM parcels")
    except sqlite3.OperationalError:
        return False  # a process has not made its tables yet
    return len(orders) == ORDERS - ORDERS // REFUSED and set(parcels) >= set(orders)


def main() -> int:
    """Read the arguments, run the story or a process of it, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--transport", metavar="URL", help="sqlite:FILE or redis://host:port")
    for name in ("--folder", "--run", "--role"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        role = partial(ROLES[options.role], Path(options.folder), options.transport, options.run)
        anyio.run(role)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        url = options.transport or f"sqlite:{folder}/events.db"
        try:
            durable.transport_from_url(url)
        except ValueError as exc:
            parser.error(str(exc))
        return 0 if anyio.run(tell, Path(folder), url) else 1


if __name__ == "__main__":
    sys.exit(main())
