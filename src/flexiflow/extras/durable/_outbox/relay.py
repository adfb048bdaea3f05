"""Hands on the events of an outbox to a transport, as long as a bridge is open (Y4).

A relay stands by until it has the lease of the file. Then it asks the transport for the last batch
that the transport knows. If the file does not know that batch, the file is an older copy, or one of
two copies that are in use. In that case the relay begins a new producer, since the transport would
ignore batches whose numbers it knows. After that the relay fixes a batch in the file, stores it in
the transport, and goes on to the next one; see `Box`. It asks again whenever it has had nothing to
do for a while.

Trouble with the file is logged once, and the relay tries again, at least once a second. The same
holds for a transport that takes no more events.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar, final

import anyio
from anyio import to_thread

from flexiflow._reporting import logger
from flexiflow.extras.durable._bridge.batcher import BYTES_AT_ONCE, MOST_AT_ONCE
from flexiflow.extras.durable._errors import LogFull, NotReplicated
from flexiflow.extras.durable._outbox.box import Box, Limits, Overtaken, Place
from flexiflow.extras.durable._outbox.file import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow.extras.durable._bridge.link import Link
    from flexiflow.extras.durable._outbox.tables import Tables
    from flexiflow.extras.durable._records import Batch
    from flexiflow.extras.durable._transport import Connection

T = TypeVar("T")

_FIRST_DELAY: Final = 0.05
_LONGEST_DELAY: Final = 1.0

_QUIET: Final = 5.0
"""For so many seconds it is not logged that the file is locked, or the transport's log full."""

_TURNS: Final = 3
"""How many times in the length of a lease a relay that stands by tries to take the lease."""

_ANY: Final = sys.maxsize


class Terms(NamedTuple):
    """What a relay is told of its outbox.

    Attributes:
        tables: its tables.
        interval: the seconds between two looks at the file.
        max_event_bytes: how many bytes its events may have.
    """

    tables: Tables
    interval: float
    max_event_bytes: int


@final
class Relay:
    """Hands on the events of one outbox.

    Args:
        path: the file.
        terms: what is to be known of the outbox.
        link: what the parts of the bridge share.
        connection: the connection to the transport.

    Raises:
        ValueError: the transport takes only smaller events than the outbox.
    """

    def __init__(self, path: str, terms: Terms, link: Link, connection: Connection) -> None:
        most = connection.max_event_bytes
        if terms.max_event_bytes > most:
            raise ValueError(
                f"the outbox takes events of {terms.max_event_bytes} bytes, and the transport "
                f"those of {most}: Outbox(..., max_event_bytes={most}) would be right"
            )
        limits = Limits(min(MOST_AT_ONCE, connection.max_length), BYTES_AT_ONCE, most)
        self._path = path
        self._interval = terms.interval
        self._link = link
        self._connection = connection
        self._box = Box(path, terms.tables, limits, link.settings.lease)
        self._standing_by = min(link.settings.lease / _TURNS, _LONGEST_DELAY)
        # So it does not matter how many threads others use.
        self._threads = anyio.CapacityLimiter(1)
        self._leaving = anyio.Event()
        self._ended = anyio.Event()
        self._delay = _FIRST_DELAY
        # The last row that is to be handed on; all until the bridge is left.
        self._until = _ANY
        # Since when there has been trouble, and whether that was logged.
        self._since: float | None = None
        self._is_told = False

    async def run(self) -> None:
        """Hand on events until `leave` was called, and what was committed by then is stored."""
        while not await self._is_done():
            if self._since is not None:
                await self._rest(self._delay)
                self._delay = min(2 * self._delay, _LONGEST_DELAY)
        self._ended.set()

    def leave(self) -> None:
        """Hand on what is committed by now, and end."""
        self._leaving.set()

    async def ended(self) -> None:
        """Wait until `run` has come to its end."""
        await self._ended.wait()

    async def close(self) -> None:
        """Give up the lease, for another relay to have it at once."""
        try:
            await self._do(self._box.close)
        except Trouble as exc:
            logger.debug("the lease of the outbox %s could not be given up: %s", self._path, exc)
        if self._leaving.is_set() and not self._ended.is_set():
            logger.warning("events in the outbox %s may be handed on only later", self._path)

    async def _is_done(self) -> bool:
        """Be the relay, or stand by for a while; return whether all is done after `leave`."""
        try:
            place = await self._do(self._box.acquire)
            if place is not None:
                await self._hand_on(place)
                return True
            return await self._stand_by()
        except Trouble as exc:
            self._seen(exc)
            # Without an outbox there is nothing to hand on; else try until the time is over.
            return exc.is_missing and self._leaving.is_set()
        except Overtaken:
            return False

    async def _stand_by(self) -> bool:
        """Let another relay work for a while; return whether all is done after `leave`."""
        first, last = await self._do(self._box.ends)
        self._over()
        if self._leaving.is_set():
            self._until = min(self._until, last)
            if not first or first > self._until:
                return True
        await self._rest(self._standing_by)
        return False

    async def _hand_on(self, place: Place) -> None:
        """Hand on events, until all that was committed before `leave` is stored."""
        place, batch = await self._begin(place)
        while True:
            self._over()
            if batch is not None:
                place = await self._store(batch)
                batch = await self._advance(place, is_stored=True)
            elif self._until != _ANY:
                return
            elif self._leaving.is_set():
                _, self._until = await self._do(self._box.ends)
                if self._until:
                    place, batch = await self._begin(place)
            else:
                await self._rest(self._interval)
                if await self._do(self._box.has_news):
                    place, batch = await self._begin(place)
                elif self._box.is_due:
                    await self._do(partial(self._box.renew, place))

    async def _begin(self, place: Place) -> tuple[Place, Batch | None]:
        """Fix the next batch when others may have used a copy of the file meanwhile.

        Returns:
            The place to go on at: that of a new producer if the transport knows a later batch. And
            the batch, or None if there are no rows.
        """
        known = await self._link.outlast(partial(self._connection.produced, place.producer))
        if known <= place.number:
            return place, await self._advance(place, is_stored=known == place.number)
        # This finds out whether another relay of the same file has stored those batches.
        begun = await self._do(partial(self._box.begin_anew, place))
        logger.warning(
            "the outbox %s knows its batch %d, and %s knows batch %d of it: it is an older copy, "
            "or another copy of it is in use; some of its events may be handed on again",
            self._path,
            place.number,
            self._connection.address,
            known,
        )
        return begun, await self._advance(begun)

    async def _store(self, batch: Batch) -> Place:
        """Store a batch, and return the place after it."""
        await self._link.outlast(partial(self._try_to_store, batch))
        self._link.counters.stored += len(batch.records)
        self._link.counters.relayed += len(batch.records)
        return Place(batch.producer, batch.number)

    async def _try_to_store(self, batch: Batch) -> None:
        try:
            await self._connection.store(batch)
        except (LogFull, NotReplicated) as exc:
            self._seen(Trouble(str(exc), is_busy=True))
            raise

    async def _advance(self, place: Place, *, is_stored: bool = False) -> Batch | None:
        advance = partial(self._box.advance, place, is_stored=is_stored, until=self._until)
        return await self._do(advance)

    async def _do(self, work: Callable[[], T]) -> T:
        """Do something with the file, in a thread."""
        return await to_thread.run_sync(work, limiter=self._threads)

    async def _rest(self, seconds: float) -> None:
        """Wait for so many seconds, or until the bridge is left."""
        if self._leaving.is_set():
            await anyio.sleep(seconds)
        with anyio.move_on_after(seconds):
            await self._leaving.wait()

    def _seen(self, trouble: Trouble) -> None:
        """Note the trouble, and log it once, but not before it lasts longer than usual."""
        self._link.counters.outbox_trouble = str(trouble)
        now = anyio.current_time()
        if self._since is None:
            self._since, self._delay = now, _FIRST_DELAY
        if not self._is_told and not (trouble.is_busy and now - self._since < _QUIET):
            self._is_told = True
            logger.warning(
                "the outbox %s can't hand on events: %s; trying until it can", self._path, trouble
            )

    def _over(self) -> None:
        """Note that there is no trouble any more."""
        self._link.counters.outbox_trouble = None
        if self._is_told:
            logger.info("the outbox %s hands on events again", self._path)
        self._since, self._is_told = None, False
