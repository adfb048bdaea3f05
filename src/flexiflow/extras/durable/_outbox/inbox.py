"""What was handled already, noted in the user's own transactions (Y4)."""

from __future__ import annotations

import reprlib
import sqlite3
from time import time
from typing import Final

from flexiflow._arguments import check_seconds
from flexiflow.extras.durable._bridge.held import current_delivery
from flexiflow.extras.durable._outbox.tables import check_transaction, is_missing

_CALLER: Final = "first_time"
_WEEK: Final = 7 * 24 * 3600.0

_MAKE: Final = """
CREATE TABLE IF NOT EXISTS main.flexiflow_inbox (source TEXT, id TEXT, reader TEXT, name TEXT,
    replay INTEGER, until REAL NOT NULL, PRIMARY KEY (source, id, reader, name, replay))
    WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS main.flexiflow_inbox_until ON flexiflow_inbox (until)"""
_TABLE: Final = "flexiflow_inbox"
# Not `OR IGNORE`, which would take any constraint of a table of the user's own for a note.
_NOTE: Final = """INSERT INTO main.flexiflow_inbox (source, id, reader, name, replay, until)
VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (source, id, reader, name, replay) DO NOTHING"""
# A few for each new one, so that no single transaction has to delete very many.
_PRUNE: Final = """
DELETE FROM main.flexiflow_inbox WHERE (source, id, reader, name, replay) IN (
    SELECT source, id, reader, name, replay FROM main.flexiflow_inbox
    WHERE until < ? ORDER BY until LIMIT 10)"""


def first_time(connection: sqlite3.Connection, name: str, *, keep: float = _WEEK) -> bool:
    """Return whether this is the first time that a handler's transaction sees the stored event.

    Call it in a handler of events that a bridge receives, in the handler's own transaction. The
    call leaves a note in the same transaction. So it returns True once for each event, group, name
    and replay, if the transaction of that call is committed (Y4). Let the handler do nothing if
    this returns False: then its transaction takes effect once, although the event may come again.

    If a handler of the stored event publishes another event, a call in a handler of that event is
    still about the stored event: a second call with the same name returns False. So call it once
    for each stored event and name.

    The notes are in a table `flexiflow_inbox`, which is made when it is first needed.

    Args:
        connection: the user's connection, in whose transaction the handler does its work.
        name: what tells the handlers of an event apart, if several have an inbox in the database.
        keep: for how many seconds to keep the note, more than 0. It is needed as long as the event
            can come again: for all its attempts, and while it is a dead letter.

    Raises:
        RuntimeError: no transaction is open, the connection is closed, or the caller does not
            handle a stored event.
        ValueError: `keep` is not more than 0; `name` is empty.
        TypeError: an argument of the wrong type.
        sqlite3.Error: what SQLite raises, for example if another table has that name.

    Example:
        >>> import sqlite3
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.extras.durable import MemoryTransport, first_time, open_bridge
        >>> db = sqlite3.connect(":memory:", isolation_level=None)
        >>> def pack(order):
        ...     with db:
        ...         db.execute("BEGIN IMMEDIATE")
        ...         print(order, first_time(db, "warehouse"))
        >>> async def main():
        ...     bus, transport = EventBus(), MemoryTransport()
        ...     await bus.subscribe("order.placed", "warehouse", pack)
        ...     async with open_bridge(bus, transport, incoming=["order.*"], group="all") as bridge:
        ...         await bridge.schedule("order.placed", "A7", delay=0)
        ...         while not bridge.statistics().acknowledged:
        ...             await anyio.sleep(0.001)
        >>> anyio.run(main)
        A7 True
        >>> db.close()
    """
    check_seconds("keep", keep)
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, not {reprlib.repr(name)}")
    if not name:
        raise ValueError("name must not be empty: the handler's own name would be right")
    check_transaction(connection, _CALLER)
    delivery = current_delivery()
    if delivery is None:
        raise RuntimeError(
            "first_time is for the handler of an event that a bridge has received, while it "
            "handles it, and nothing is being handled here"
        )
    now = time()
    names = map(_stored, (delivery.source, delivery.id, delivery.group, name))
    note = (*names, delivery.replay, now + keep)
    try:
        is_first = connection.execute(_NOTE, note).rowcount == 1
    except sqlite3.OperationalError as exc:
        if not is_missing(exc, _TABLE):
            raise
        for statement in _MAKE.split(";"):
            connection.execute(statement)
        is_first = connection.execute(_NOTE, note).rowcount == 1
    if is_first:
        connection.execute(_PRUNE, (now,))
    return is_first


def _stored(text: str) -> str | bytes:
    """Return how a text is stored: as bytes if it has lone surrogates, which JSON may bring."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="surrogatepass")
    return text
