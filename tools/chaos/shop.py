"""A shop that is started to be killed: it enrolls events in its transactions, and handles them."""

from __future__ import annotations

import sqlite3
from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import uuid4

import anyio

from flexiflow.extras.durable import Outbox, first_time, transport_from_url
from tools.chaos.ledger import NAME
from tools.chaos.processes import BLAMELESS, attend

if TYPE_CHECKING:
    from flexiflow.extras.durable import Bridge
    from tools.chaos.processes import Pipe

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


async def be_a_shop(trade: Trade, said: Pipe, told: Pipe) -> None:
    """Sell and ship, until told to end.

    Args:
        trade: what the shop does.
        said: a word is written there when the shop is open, and for each transaction.
        told: its other end is closed when the shop must end.
    """
    connection = open_shop(trade.path)

    async def ship(message: list[str]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO calls VALUES (?)", message)
        if not trade.has_inbox or first_time(connection, "shop"):
            connection.execute("INSERT INTO shipped VALUES (?)", message)
        connection.execute("COMMIT")
        # A shop that is killed here has shipped, and has not acknowledged.
        await anyio.sleep(_LONGEST)

    async def sell(_: Bridge) -> None:
        random = Random(uuid4().int)
        said.send_bytes(b"open")
        while trade.is_selling:
            _sell(connection, random)
            said.send_bytes(b"sold")
            await anyio.sleep(random.random() * _LONGEST)

    transport, outbox = transport_from_url(trade.url), OUTBOX.at(trade.path, interval=0.005)
    options = {"lease": _LEASE, "max_deliveries": BLAMELESS}
    await attend(transport, GROUP, ship, told, [sell], outbox=outbox, **options)
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
