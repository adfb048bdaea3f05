"""A shop with a database of its own, for the tests of outbox and inbox."""

import json
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flexiflow import EventBus
from flexiflow.extras.durable import Outbox, Transport, open_bridge
from tests.durable.bridge.helpers import GROUP, NAME, Handler
from tests.helpers import PATIENCE

OUTBOX = Outbox("outbox_", source="shop")
EVENTS = "outbox_events"
RELAY = "outbox_relay"


OPENED: list[sqlite3.Connection] = []
"""The connections that a test has opened, for closing them."""


def connect(path: Path | str = ":memory:", **options: Any) -> sqlite3.Connection:
    """Open a database, in which transactions are begun by hand unless options say otherwise."""
    options = {"isolation_level": None, "check_same_thread": False, **options}
    connection: sqlite3.Connection = sqlite3.connect(path, **options)
    OPENED.append(connection)
    return connection


def prepared(path: Path | str = ":memory:", outbox: Outbox = OUTBOX) -> sqlite3.Connection:
    """Open a database with the tables, and one of orders."""
    connection = connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE IF NOT EXISTS orders (number INTEGER)")
    outbox.prepare(connection)
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Generator[None]:
    """Begin a transaction, and commit it, or roll it back after an exception."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def place(connection: sqlite3.Connection, *numbers: int, key: str | None = None) -> None:
    """Store orders and their events, all in one transaction."""
    with transaction(connection):
        for number in numbers:
            connection.execute("INSERT INTO orders VALUES (?)", (number,))
            OUTBOX.enroll(connection, NAME, number, key=key)


def enrolled(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """Return the events that wait."""
    rows = connection.execute(f"SELECT body FROM {EVENTS} ORDER BY number")  # noqa: S608  a constant
    return [json.loads(body) for (body,) in rows]


def waiting(path: Path) -> int:
    """Return how many events wait in a file."""
    connection = connect(path)
    (count,) = connection.execute(f"SELECT count(*) FROM {EVENTS}").fetchone()  # noqa: S608  as above
    connection.close()
    return int(count)


def relaying(path: Path, transport: Transport, **options: Any) -> Any:
    """Open a bridge that only hands on the events of the outbox."""
    defaults: dict[str, Any] = {"lease": 0.3, "store_timeout": PATIENCE}
    file = OUTBOX.at(path, interval=0.005)
    return open_bridge(EventBus(), transport, outbox=file, **(defaults | options))


async def stored(transport: Transport) -> list[Any]:
    """Return the payloads of all events in a log."""
    async with transport.connect() as connection:
        found, _ = await connection.tail(["0"] * connection.partitions, 10_000, 0)
    return [json.loads(each.body)["data"] for each in found]


__all__ = ["GROUP", "NAME", "Handler"]
