"""Events that are stored in the user's own transaction, and handed on if it commits (Y4)."""

from __future__ import annotations

import reprlib
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, final
from uuid import uuid4

from flexiflow._arguments import check_count, check_finite
from flexiflow._bus import EventBus, dispatcher_of
from flexiflow._names import check_event_name, check_is_event
from flexiflow.extras._process import Home
from flexiflow.extras._sqlite.layout import check_path
from flexiflow.extras.durable._bridge.arguments import check_codec
from flexiflow.extras.durable._bridge.carrying import carried
from flexiflow.extras.durable._bridge.cloudevents import JSON, Encoder
from flexiflow.extras.durable._bridge.held import handing_on
from flexiflow.extras.durable._bridge.place import check_key
from flexiflow.extras.durable._bridge.relaying import OutboxFile
from flexiflow.extras.durable._bridge.schemas import check_schemas
from flexiflow.extras.durable._errors import EventTooLarge, TransportUnusable
from flexiflow.extras.durable._outbox.relay import Relay, Terms
from flexiflow.extras.durable._outbox.statements import statements_of
from flexiflow.extras.durable._outbox.tables import (
    are_there,
    check_transaction,
    is_in_transaction,
    is_missing,
    make,
    tables_of,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from flexiflow._names import Topic
    from flexiflow.extras.durable._bridge.cloudevents import Codec
    from flexiflow.extras.durable._bridge.schemas import Schema

T = TypeVar("T")

_CALLER: Final = "enroll"
_NO_INSTRUMENTS: Final[dict[str, str]] = {}


@final
class Outbox:
    """Stores events in the user's own transactions, in the user's own database (Y4).

    An event that was enrolled is handed on to a transport if and only if the transaction commits:
    once, and in the order in which transactions commit. A bridge does that, in any process, if it
    was opened with `outbox=outbox.at(path)`.

    Threads may share an outbox, each with a connection of its own, and so may forked processes.

    Args:
        prefix: what the names of its tables begin with. A database may have several outboxes.
        source: the publisher's name, which CloudEvents requires.
        schemas: how the payloads of some events are written, as for `open_bridge` (Y1).
        codec: encodes the payloads of all others (X7).
        bus: the bus whose instruments say what travels with an event, as its trace (Y2); None for
            nothing. The event's depth travels in any case.
        max_event_bytes: how many bytes an encoded event may have; at most as many as the transport
            takes (X14).

    Raises:
        ValueError: an argument out of its range; two schemas of one event.
        TypeError: an argument of the wrong type.

    Example:
        >>> import sqlite3
        >>> from flexiflow.extras.durable import Outbox
        >>> outbox = Outbox(source="shop")
        >>> db = sqlite3.connect(":memory:", isolation_level=None)
        >>> outbox.prepare(db)
        >>> _ = db.execute("BEGIN IMMEDIATE")
        >>> with db:
        ...     outbox.enroll(db, "order.placed", {"id": "A7"}, key="A7")
        >>> db.close()
    """

    __slots__ = (
        "_begin",
        "_encoder",
        "_home",
        "_insert",
        "_max_event_bytes",
        "_prefix",
        "_registry",
        "_tables",
    )

    def __init__(
        self,
        prefix: str = "outbox_",
        *,
        source: str = "flexiflow",
        schemas: Iterable[Schema[Any]] = (),
        codec: Codec = JSON,
        bus: EventBus | None = None,
        max_event_bytes: int = 4 * 1024 * 1024,
    ) -> None:
        self._tables = tables_of(prefix)
        self._prefix = prefix
        if not isinstance(source, str):
            raise TypeError(f"source must be a str, not {reprlib.repr(source)}")
        if not source:
            raise ValueError("source must not be empty: the publisher's name would be right")
        if bus is not None and not isinstance(bus, EventBus):
            raise TypeError(f"bus must be an EventBus or None, not {reprlib.repr(bus)}")
        check_codec(codec)
        self._max_event_bytes = check_count("max_event_bytes", max_event_bytes)
        self._registry = None if bus is None else dispatcher_of(bus).registry
        self._insert = statements_of(self._tables).insert
        self._begin = partial(_begin, source, codec, check_schemas(schemas))
        self._home, self._encoder = self._begin()

    def __repr__(self) -> str:
        """Name the prefix."""
        return f"<Outbox {self._prefix!r}>"

    def prepare(self, connection: sqlite3.Connection) -> None:
        """Make the outbox's tables in a database; does nothing if they are there.

        If a transaction is open, they are made in it, and the caller must commit it. Otherwise they
        are made in a transaction of their own.

        Args:
            connection: an open connection to the database.

        Raises:
            ValueError: there are tables of these names that are not those of an outbox; nothing
                has changed.
            RuntimeError: the connection is closed.
            TypeError: it is no connection of `sqlite3`.
        """
        is_inside = is_in_transaction(connection, "prepare")
        if are_there(connection, self._tables):
            return
        if is_inside:
            make(connection, self._tables)
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have made them meanwhile.
            if not are_there(connection, self._tables):
                make(connection, self._tables)
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def enroll(
        self,
        connection: sqlite3.Connection,
        event: Topic[T] | str,
        data: T,
        *,
        key: str | None = None,
    ) -> None:
        """Store an event in the open transaction; it is handed on if that commits (Y4).

        No handler of this process is called.

        Args:
            connection: the user's connection, in whose transaction the event belongs.
            event: the event's name.
            data: the payload.
            key: the event's key; events of one key are handled one at a time, in order (X4).

        Raises:
            RuntimeError: no transaction is open, the connection is closed, or the database does
                not have the tables.
            ValueError: a malformed name.
            TypeError: an argument of the wrong type.
            NotEncodable: the payload, or the key, can't be stored.
            EventTooLarge: it has more than `max_event_bytes`.
            sqlite3.Error: what SQLite raises, as where another process writes for too long.
        """
        check_transaction(connection, _CALLER)
        check_is_event(event, "what is asked and answered stays in its process")
        name = check_event_name(event)
        if not self._home.is_here:
            # A forked child must not give its events the ids that its parent gives.
            self._home, self._encoder = self._begin()
        registry = self._registry
        extra = _NO_INSTRUMENTS if registry is None else carried(registry.instruments)
        held = handing_on.get()
        depth = 1 if held is None else held.event.depth + 1
        body = self._encoder.encode(name, data, check_key(name, key), depth, extra)
        if len(body) > self._max_event_bytes:
            raise EventTooLarge(name, len(body), self._max_event_bytes)
        try:
            connection.execute(self._insert, (key, body))
        except sqlite3.OperationalError as exc:
            if not is_missing(exc, self._tables.events):
                raise
            raise RuntimeError(
                f"the database has no table {self._tables.events}: prepare(connection) of this "
                "outbox, called once, would make it"
            ) from exc

    def at(self, path: str | os.PathLike[str], *, interval: float = 0.05) -> OutboxFile:
        """Return the outbox in a file, for `open_bridge(..., outbox=...)`.

        The file need not be there yet, nor its tables; the bridge waits for both.

        Args:
            path: the file of the database.
            interval: how often to look for events that were committed, in seconds, more than 0.

        Raises:
            ValueError: `path` is no path of a file, or `interval` is out of its range.
            TypeError: `path` is no path.
        """
        found = check_path(path, "no bridge can see a database that is")
        check_finite("interval", interval)
        terms = Terms(self._tables, interval, self._max_event_bytes)
        return OutboxFile(found, partial(Relay, found, terms))


def _begin(source: str, codec: Codec, schemas: dict[str, Schema[Any]]) -> tuple[Home, Encoder]:
    """Return the current process, and an encoder for it."""
    home = Home("the outbox", TransportUnusable)
    return home, Encoder(source, uuid4().hex, codec, schemas)
