"""The events that wait to be stored: in batches, one at a time, each stored once (X2, X5)."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, final

import anyio

from flexiflow.extras._process import Home
from flexiflow.extras._woken import let_go_on
from flexiflow.extras.durable._bridge.link import Signal
from flexiflow.extras.durable._errors import EventTooLarge, TransportUnusable, left
from flexiflow.extras.durable._records import Batch

if TYPE_CHECKING:
    from flexiflow.extras.durable._bridge.link import Link
    from flexiflow.extras.durable._records import Record
    from flexiflow.extras.durable._transport import Connection

MOST_AT_ONCE: Final = 500
"""The most records in a batch; fewer where a log may hold only fewer."""

BYTES_AT_ONCE: Final = 4 * 1024 * 1024
"""The most bytes in a batch of several records: more might not be transferred in time."""


class _Parcel:
    """Records that are stored together; for each of them a publisher waits.

    Once taken, a parcel is being stored: no record is added to it or withdrawn from it.
    """

    __slots__ = ("done", "is_taken", "problem", "records", "size")

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.size = 0
        self.is_taken = False
        self.done = anyio.Event()
        self.problem: Exception | None = None


@final
class Batcher:
    """Stores the records of publishers in batches, and wakes each publisher afterwards.

    Records that arrive while a batch is being stored form the next one, with those that its
    publishers publish as they go on.

    Args:
        link: what the parts of the bridge share.
        connection: the connection to store them by.
        producer: the producer's name, for the transport.
    """

    def __init__(self, link: Link, connection: Connection, producer: str) -> None:
        self._home = Home(connection.address, TransportUnusable)
        self._link = link
        self._connection = connection
        self._producer = producer
        self._most = min(MOST_AT_ONCE, connection.max_length)
        self._max_event_bytes = connection.max_event_bytes
        self._parcels: deque[_Parcel] = deque()
        self._wanted = Signal()
        self._emptied: anyio.Event | None = None
        self._number = 1
        self._is_closed = False
        self._cause: BaseException | None = None
        self._scope = anyio.CancelScope(shield=True)

    async def put(self, name: str, record: Record) -> None:
        """Store a record, and return when it is stored.

        A publisher that is cancelled before its batch is being stored withdraws the record.

        Args:
            name: the event's name, for messages.
            record: the record.

        Raises:
            EventTooLarge: it has more bytes than the transport takes.
            TransportError: it was not stored, or it is not known whether it was.
        """
        # In a forked child the batcher's task does not run, and this would wait for ever.
        self._home.check()
        if self._is_closed:
            raise left(self._connection.address, self._cause)
        parcel, size = self._parcels[-1] if self._parcels else None, len(record.body)
        if size > self._max_event_bytes:
            raise EventTooLarge(name, size, self._max_event_bytes)
        if (
            parcel is None
            or parcel.is_taken
            or len(parcel.records) == self._most
            or (parcel.size + size > BYTES_AT_ONCE and parcel.size)
        ):
            parcel = _Parcel()
            self._parcels.append(parcel)
            self._wanted.set()
        parcel.records.append(record)
        parcel.size += size
        try:
            await parcel.done.wait()
        except BaseException:
            if not parcel.is_taken:
                parcel.records.remove(record)
                parcel.size -= size
            raise
        if parcel.problem is not None:
            # Each publisher raises the same exception, with a traceback of its own.
            raise parcel.problem.with_traceback(None)

    async def run(self) -> None:
        """Store what comes until `close` is called; shielded from cancellation."""
        with self._scope:
            while True:
                await self._wanted.wait()
                await self._drain()

    async def _drain(self) -> None:
        while self._parcels:
            parcel = self._parcels[0]
            parcel.is_taken = True
            if parcel.records:
                await self._store(parcel)
            if self._is_closed:
                return
            self._parcels.popleft()
            parcel.done.set()
            await let_go_on()
        if self._emptied is not None:
            self._emptied.set()

    async def emptied(self) -> None:
        """Wait until nothing is left to store."""
        if self._parcels:
            self._emptied = anyio.Event()
            await self._emptied.wait()

    def close(self, cause: BaseException | None = None) -> None:
        """Stop storing, and fail the publishers that still wait.

        Args:
            cause: what ended the bridge; None if its block ended without an error.
        """
        self._is_closed = True
        self._cause = cause
        self._scope.cancel()
        for parcel in self._parcels:
            parcel.problem = left(self._connection.address, cause)
            parcel.done.set()
        self._parcels.clear()

    async def _store(self, parcel: _Parcel) -> None:
        batch = Batch(self._producer, self._number, tuple(parcel.records))
        deadline = anyio.current_time() + self._link.settings.store_timeout
        try:
            await self._link.outlast(partial(self._connection.store, batch), until=deadline)
        except Exception as exc:  # noqa: BLE001  any exception is the publishers' failure
            parcel.problem = exc
        else:
            self._link.counters.stored += len(batch.records)
        # A batch that failed may be stored all the same: its number must not be used again.
        self._number += 1
