"""A shop that is started to be killed: it enrolls events in its transactions, and handles them."""

from __future__ import annotations

import logging
import sqlite3
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import uuid4

import anyio

from flexiflow import EventBus
from flexiflow.extras.durable import Outbox, first_time, open_bridge, transport_from_url
from tools.chaos.ledger import NAME

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

# As in `worker`.
for _name in ("coredis", "trio"):
    if find_spec(_name) is not None:
        import_module(_name)

GROUP: Final = "shop"
OUTBOX: Final = Outbox("outbox_", source="shop")
_TABLES: Final = """
CREATE TABLE orders (number TEXT);
CREATE TABLE calls (number TEXT);
CREATE TABLE shipped (number TEXT);
"""
_LEASE: Final = 0.5
_BUSY: Final = 60.0
_LONGEST: Final = 0.01
"""The longest time in seconds between two transactions."""
_MOST: Final = 3
"""The most orders in a transaction."""
_FAILING: Final = 0.25
"""How many of the transactions are rolled back."""


class Trade(NamedTuple):
    """What a shop does.

    Attributes:
        path: the shop's database.
        url: the transport.
        is_selling: whether there are new orders; else those that wait are only handled.
        has_inbox: whether the handler asks its inbox.
    """

    path: str
    url: str
    is_selling: bool = True
    has_inbox: bool = True


def open_shop(path: str) -> sqlite3.Connection:
    """Open the shop's database, and make what is missing."""
    connection = sqlite3.connect(path, timeout=_BUSY, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'orders'").fetchone():
        connection.executescript(_TABLES)
    OUTBOX.prepare(connection)
    return connection


def be_a_shop(
    backend: str, trade: Trade, said: Connection[bytes, bytes], told: Connection[bytes, bytes]
) -> None:
    """Sell and ship in a process of its own, until it is told to end.

    Args:
        backend: the backend to run on.
        trade: what it does.
        said: a byte is written there for each transaction.
        told: its other end is closed when the shop must end.
    """
    logging.disable(logging.CRITICAL)
    anyio.run(partial(_trade, trade, said, told), backend=backend)


async def _trade(
    trade: Trade, said: Connection[bytes, bytes], told: Connection[bytes, bytes]
) -> None:
    connection = open_shop(trade.path)

    async def ship(message: list[str]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO calls VALUES (?)", message)
        if not trade.has_inbox or first_time(connection, "shop"):
            connection.execute("INSERT INTO shipped VALUES (?)", message)
        connection.execute("COMMIT")
        # A shop that is killed here has shipped, and has not acknowledged.
        await anyio.sleep(_LONGEST)

    async def sell() -> None:
        random = Random(uuid4().int)
        while trade.is_selling:
            _sell(connection, random)
            said.send_bytes(b"sold")
            await anyio.sleep(random.random() * _LONGEST)

    bus = EventBus(on_error="raise")
    await bus.subscribe(NAME, "shop", ship)
    bridge = open_bridge(
        bus,
        transport_from_url(trade.url),
        incoming=[NAME],
        group=GROUP,
        retry_delay=0.01,
        lease=_LEASE,
        outbox=OUTBOX.at(trade.path, interval=0.005),
    )
    async with bridge, anyio.create_task_group() as tasks:
        said.send_bytes(b"open")
        tasks.start_soon(sell)
        await anyio.wait_readable(told)
        tasks.cancel_scope.cancel()
    connection.close()


def _sell(connection: sqlite3.Connection, random: Random) -> None:
    """Store some orders and their events, and commit them, or not."""
    connection.execute("BEGIN IMMEDIATE")
    for _ in range(random.randint(1, _MOST)):
        number = uuid4().hex
        connection.execute("INSERT INTO orders VALUES (?)", (number,))
        OUTBOX.enroll(connection, NAME, [number], key=number[:1])
    connection.execute("ROLLBACK" if random.random() < _FAILING else "COMMIT")


def read_shop(path: str) -> dict[str, list[tuple[str]]]:
    """Return what is in each table of the shop."""
    connection = open_shop(path)
    found = {
        name: connection.execute(f"SELECT number FROM {name}").fetchall()  # noqa: S608  constants
        for name in ("orders", "calls", "shipped")
    }
    connection.close()
    return found
