"""Orders that go through three processes, one of which is killed while it handles an order.

    python examples/durable_orders.py [--transport URL]

The shop runs on asyncio, the payments and the warehouse on trio. Each is a `flexiflow bridge`, and
they share only the transport: an SQLite file, or the one that the URL names. This program plays the
customers: it places the orders, kills the payments process, starts it again, and waits until every
order is shipped.
"""

import argparse
import os
import secrets
import sqlite3
import sys
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

import anyio
from anyio.abc import Process, TaskGroup, TaskStatus
from anyio.streams.text import TextReceiveStream

from flexiflow import Engine, EventBus
from flexiflow.extras import durable

Order = dict[str, Any]

ORDERS = 20
HANGING = 7
"""The bank takes the money for this order, but its answer never comes."""

LEASE = 2.0
"""A worker that is silent for so many seconds counts as dead; short, so that you see it happen."""

PATIENCE = 60.0

OPTIONS = {
    "shop": "--backend=asyncio --incoming=cart.* --incoming=payment.* --incoming=parcel.* "
    "--outgoing=order.*",
    "payments": "--backend=trio --incoming=order.placed --outgoing=payment.* --limit=1",
    "warehouse": "--backend=trio --incoming=order.paid --outgoing=parcel.*",
}
"""The options that make each of the three a worker; its group has the same name."""

# The engines of the three processes. Their buses raise: if the next event could not be stored, the
# event being handled has failed, and comes again.


async def shop() -> Engine:
    """Publish the next event in the life of an order."""
    engine = Engine(bus=EventBus(on_error="raise"))
    for event, following in (
        ("cart.submitted", "order.placed"),
        ("payment.made", "order.paid"),
        ("parcel.sent", "order.shipped"),
    ):
        await engine.bus.subscribe(event, "shop", partial(engine.bus.publish, following))
    return engine


async def payments() -> Engine:
    """Charge the card of each order, once."""
    engine = Engine(bus=EventBus(on_error="raise"))

    async def charge(order: Order) -> None:
        name, delivery = order["order"], durable.current_delivery()
        if not once("charged", name):
            print(f"{name} came again, as event {delivery and delivery.id}: is charged already")
        elif order["number"] == HANGING:
            print(f"{name} is charged, but the bank's answer hangs")
            await anyio.sleep(PATIENCE)
        else:
            print(f"{name} is charged")
        await engine.bus.publish("payment.made", order)

    await engine.bus.subscribe("order.placed", "payments", charge)
    return engine


async def warehouse() -> Engine:
    """Send the parcel of each paid order."""
    engine = Engine(bus=EventBus(on_error="raise"))

    async def send(order: Order) -> None:
        name = order["order"]
        print(f"{name} is sent" if once("sent", name) else f"{name} came again: is sent already")
        await engine.bus.publish("parcel.sent", order)

    await engine.bus.subscribe("order.paid", "warehouse", send)
    return engine


# The books of the bank and the warehouse outlive their workers. One transaction looks up an order
# and records it, so an order that comes again is recognised.


def open_books() -> sqlite3.Connection:
    """Open the books: each request, for which order it was, and whether it was carried out."""
    books = sqlite3.connect(os.environ["BOOKS"], isolation_level=None)
    books.execute("CREATE TABLE IF NOT EXISTS requests (deed TEXT, name TEXT, done INT)")
    return books


def once(deed: str, name: str) -> bool:
    """Do a deed for an order unless it was done before; a real bank takes an "idempotency key"."""
    with closing(open_books()) as books:
        books.execute("BEGIN IMMEDIATE")
        before = books.execute("SELECT 1 FROM requests WHERE deed = ? AND name = ?", [deed, name])
        is_first = before.fetchone() is None
        books.execute("INSERT INTO requests VALUES (?, ?, ?)", [deed, name, is_first])
        books.execute("COMMIT")
    return is_first


def read_books() -> tuple[dict[tuple[str, str], int], list[str]]:
    """Return how often each deed was done for each order, and the orders that came again."""
    with closing(open_books()) as books:
        rows = books.execute("SELECT deed, name, sum(done) FROM requests GROUP BY deed, name")
        done = {(deed, name): times for deed, name, times in rows}
        again = books.execute("SELECT DISTINCT name FROM requests WHERE NOT done ORDER BY rowid")
        return done, [name for (name,) in again]


# The customers.


class Story:
    """Starts workers, and prints their output.

    Args:
        url: the transport's URL.
        tasks: the task group for the tasks that read the output.
    """

    def __init__(self, url: str, tasks: TaskGroup) -> None:
        self.url = url
        self.tasks = tasks
        self.hangs = anyio.Event()
        self.workers: dict[str, Process] = {}

    async def start(self, role: str) -> None:
        """Start a worker, and return when it is ready."""
        command = [sys.executable, "-m", "flexiflow", "bridge", f"{__file__}:{role}", "--quiet"]
        command += ["--transport", self.url, "--group", role, f"--lease={LEASE}"]
        self.workers[role] = await self.tasks.start(self.follow, role, command)

    async def follow(
        self, role: str, command: list[str], *, task_status: TaskStatus[Process]
    ) -> None:
        """Run a worker, and print each line that it writes."""
        command += OPTIONS[role].split()
        rest = ""
        async with await anyio.open_process(command, stdout=DEVNULL, stderr=PIPE) as process:
            told: Any = process.stderr
            async for text in TextReceiveStream(told):
                *lines, rest = (rest + text).split("\n")
                for line in lines:
                    say(role, line)
                    if line.startswith("ready"):
                        task_status.started(process)
                    elif line.endswith("hangs"):
                        self.hangs.set()


def say(who: str, what: str) -> None:
    """Print a line of the story."""
    print(f"{who:>9}: {what}", flush=True)


async def shop_and_wait(bus: EventBus, names: list[str], url: str, shipped: anyio.Event) -> None:
    """Run the story until every order is shipped."""
    async with anyio.create_task_group() as tasks:
        story = Story(url, tasks)
        async with anyio.create_task_group() as beginning:
            for role in OPTIONS:
                beginning.start_soon(story.start, role)
        for number, name in enumerate(names, 1):
            order = {"order": name, "number": number, "amount": 10 * number}
            await bus.publish("cart.submitted", order)
        say("customers", f"{len(names)} orders are placed")
        await story.hangs.wait()
        victim = story.workers["payments"]
        say("customers", f"kill -9 {victim.pid}: the payments die with that order in hand")
        victim.kill()
        await story.start("payments")
        await shipped.wait()
        for worker in story.workers.values():
            worker.terminate()


async def tell(url: str) -> bool:
    """Tell the story, and return whether every order was shipped and each card charged once."""
    run = secrets.token_hex(2)  # the transport may hold orders of an earlier run
    names = [f"{run}-{number}" for number in range(1, ORDERS + 1)]
    missing, shipped = set(names), anyio.Event()

    def receive(order: Order) -> None:
        missing.discard(order["order"])
        if not missing:
            shipped.set()

    bus = EventBus(on_error="raise")
    await bus.subscribe("order.shipped", "customers", receive)
    ways: dict[str, Any] = {"outgoing": ["cart.*"], "incoming": ["order.shipped"], "lease": LEASE}
    async with durable.open_bridge(bus, durable.transport_from_url(url), group="customers", **ways):
        with anyio.move_on_after(PATIENCE):
            await shop_and_wait(bus, names, url, shipped)
    done, again = read_books()
    is_right = all(done.get((deed, name)) == 1 for deed in ("charged", "sent") for name in names)
    say("customers", f"{ORDERS - len(missing)} of {ORDERS} orders are shipped")
    say("customers", f"each was charged and sent {'once' if is_right else 'NOT ONCE'}")
    say("customers", f"came again after that, without harm: {', '.join(again) or 'none'}")
    return is_right and not missing


def main() -> int:
    """Read the arguments, run the story, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--transport", metavar="URL", help="sqlite:FILE or redis://host:port")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BOOKS"] = str(Path(folder) / "books.db")
        try:
            is_well = anyio.run(tell, options.transport or f"sqlite:{folder}/events.db")
        except (durable.TransportError, ValueError) as exc:
            parser.error(str(exc))
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
