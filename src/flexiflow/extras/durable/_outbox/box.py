"""The file of an outbox, as the bridge that hands on its events sees it (Y4).

The rows are handed on in batches. A batch is *fixed* in the file, that is its number and its last
row, before it is given to the transport; its rows are deleted afterwards, in the transaction that
fixes the next one. So wherever a process is killed, the next one gives the transport a batch of the
same number and rows again, and the transport stores it once (X2).

One relay at a time has the *lease* of the file. A relay whose lease has gone to another one changes
nothing: each transaction checks who has it. What it may still give to the transport has a number
that the transport knows.
"""

from __future__ import annotations

import sqlite3
from threading import Lock
from time import time
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar, final
from uuid import uuid4

from flexiflow.extras._process import FORKS, Home
from flexiflow.extras._sqlite.file import MOVED, identity_of
from flexiflow.extras._sqlite.opening import connect
from flexiflow.extras.durable._errors import TransportUnusable
from flexiflow.extras.durable._outbox.tables import are_there
from flexiflow.extras.durable._records import Batch, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flexiflow.extras._sqlite.file import Identity
    from flexiflow.extras.durable._outbox.tables import Tables

T = TypeVar("T")

_BUSY_TIMEOUT: Final = 0.25
"""For how many seconds a thread waits for a lock; the relay tries again after that."""

_RENEWALS: Final = 3
"""How many times a lease is renewed before it would run out."""

_NO_TABLES: Final = "it has no tables of this outbox; its prepare(connection) would make them"


class Trouble(Exception):
    """The file can't be used now.

    Args:
        reason: what was seen.
        is_busy: whether it is only locked.
    """

    def __init__(self, reason: str, *, is_busy: bool = False) -> None:
        super().__init__(reason)
        self.is_busy = is_busy


class Overtaken(Exception):
    """Another relay has the lease, or the file is not as this one has left it."""


class Place(NamedTuple):
    """How far a relay is.

    Attributes:
        producer: the producer's name, for the transport.
        number: the number of its last batch.
    """

    producer: str
    number: int


class Limits(NamedTuple):
    """The size of batches.

    Attributes:
        records: how many rows at most, 1 or more.
        size: how many bytes at most, unless it is a single row.
        body: how many bytes a row may have.
    """

    records: int
    size: int
    body: int


@final
class Box:
    """The file of an outbox, and its connection; used by one thread at a time.

    Every method may raise `Trouble`; then the file is opened again by the next one.

    Args:
        path: the file.
        tables: the outbox's tables.
        limits: the size of batches.
        lease: for how many seconds to have the lease, unless it is renewed.
    """

    def __init__(self, path: str, tables: Tables, limits: Limits, lease: float) -> None:
        self._path = path
        self._tables = tables
        self._limits = limits
        self._lease = lease
        self._holder = uuid4().hex
        self._renewed = 0.0
        self._database: sqlite3.Connection | None = None
        self._identity: Identity | None = None
        self._version = -1
        self._home = Home(path, TransportUnusable)
        self._lock = Lock()
        FORKS.register(self)

    def acquire(self) -> Place | None:
        """Return how far the last relay came, if this one has the lease from now on; else None."""
        return self._use(self._acquire)

    def begin_anew(self, place: Place) -> Place:
        """Begin a new producer; the last batch of the old one is stored."""
        return self._use(lambda db: self._begin_anew(db, place))

    def is_wanted(self) -> bool:
        """Return whether to advance: there are rows, or the lease has to be renewed."""
        return self._use(self._is_wanted)

    def ends(self) -> tuple[int, int]:
        """Return the numbers of the first and the last row; 0 for both if there is none."""
        events = f"FROM main.{self._tables.events}"
        # One query for both would look at every row.
        select = f"SELECT (SELECT min(number) {events}), (SELECT max(number) {events})"
        first, last = self._use(lambda db: db.execute(select).fetchone())
        return first or 0, last or 0

    def advance(self, place: Place, *, is_stored: bool, until: int) -> Batch | None:
        """Delete the rows of the batch that is fixed, if it is stored, and fix the next one.

        Args:
            place: how far the relay is.
            is_stored: whether the transport has stored the batch.
            until: the last row to take.

        Returns:
            The batch that is fixed; None if there are no rows.

        Raises:
            Overtaken: nothing has changed.
        """
        return self._use(lambda db: self._advance(db, place, until, is_stored=is_stored))

    def close(self) -> None:
        """Give up the lease, and close the file."""
        update = f"UPDATE main.{self._tables.relay} SET holder = NULL WHERE holder = ?"  # noqa: S608  as above
        try:
            self._use(lambda db: db.execute(update, (self._holder,)))
        finally:
            with self._lock:
                self._let_go()

    def pause(self) -> None:
        """Close the file, which a child must not inherit; see `FORKS`."""
        self._lock.acquire()
        self._let_go()

    def resume(self) -> None:
        """Allow the file to be opened again."""
        self._lock.release()

    def start_over(self) -> None:
        """Let the child's copy fail, rather than wait for ever."""
        self._lock.release()

    def _use(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._home.check()
        with self._lock:
            try:
                return work(self._opened())
            except sqlite3.Error as exc:
                code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
                is_busy = code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
                self._let_go()
                raise Trouble(str(exc), is_busy=is_busy) from exc
            except BaseException:
                # What was begun is rolled back.
                self._let_go()
                raise

    def _opened(self) -> sqlite3.Connection:
        if self._database is not None:
            if identity_of(self._path) == self._identity:
                return self._database
            raise Trouble(MOVED)
        self._identity = identity_of(self._path)
        self._database = database = connect(self._path, _BUSY_TIMEOUT)
        # Whatever the user's connections do: what is handed on must outlast a loss of power.
        database.execute("PRAGMA synchronous = FULL")
        try:
            is_prepared = are_there(database, self._tables)
        except ValueError as exc:
            raise Trouble(str(exc)) from exc
        if not is_prepared:
            raise Trouble(_NO_TABLES)
        self._version = -1
        return database

    def _let_go(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def _acquire(self, db: sqlite3.Connection) -> Place | None:
        if self._is_taken(db):
            return None
        db.execute("BEGIN IMMEDIATE")
        relay = self._tables.relay
        db.execute(f"INSERT OR IGNORE INTO main.{relay} (only_one) VALUES (1)")  # noqa: S608  as above
        if self._is_taken(db):
            db.execute("ROLLBACK")
            return None
        db.execute(f"UPDATE main.{relay} SET producer = ? WHERE producer IS NULL", (uuid4().hex,))  # noqa: S608  as above
        self._renew(db)
        found = db.execute(f"SELECT producer, batch FROM main.{relay}").fetchone()  # noqa: S608  as above
        db.execute("COMMIT")
        return Place(*found)

    def _is_taken(self, db: sqlite3.Connection) -> bool:
        """Return whether another relay has the lease."""
        now = time()
        select = (
            f"SELECT 1 FROM main.{self._tables.relay} "  # noqa: S608  as above
            "WHERE holder != ? AND since <= ? AND until > ?"
        )
        return db.execute(select, (self._holder, now, now)).fetchone() is not None

    def _renew(self, db: sqlite3.Connection) -> None:
        self._renewed = now = time()
        db.execute(
            f"UPDATE main.{self._tables.relay} SET holder = ?, since = ?, until = ?",  # noqa: S608  as above
            (self._holder, now, now + self._lease),
        )

    def _last(self, db: sqlite3.Connection, place: Place) -> int | None:
        """Return the last row of the batch that is fixed, or None; check that all is as it was."""
        select = f"SELECT producer, batch, holder, last FROM main.{self._tables.relay}"  # noqa: S608  as above
        found = db.execute(select).fetchone()
        if found is None or found[:3] != (*place, self._holder):
            raise Overtaken
        last: int | None = found[3]
        return last

    def _begin_anew(self, db: sqlite3.Connection, place: Place) -> Place:
        db.execute("BEGIN IMMEDIATE")
        self._delete(db, self._last(db, place))
        begun = Place(uuid4().hex, 0)
        db.execute(
            f"UPDATE main.{self._tables.relay} SET producer = ?, batch = ?, last = NULL",  # noqa: S608  as above
            begun,
        )
        db.execute("COMMIT")
        return begun

    def _is_wanted(self, db: sqlite3.Connection) -> bool:
        version = self._version_of(db)
        # The clock may have been set back.
        if not 0 <= time() - self._renewed < self._lease / _RENEWALS:
            return True
        if version == self._version:
            return False
        self._version = version
        select = f"SELECT 1 FROM main.{self._tables.events} LIMIT 1"  # noqa: S608  as above
        return db.execute(select).fetchone() is not None

    def _version_of(self, db: sqlite3.Connection) -> int:
        """Return a number that changes when another connection has committed."""
        return int(db.execute("PRAGMA main.data_version").fetchone()[0])

    def _advance(
        self, db: sqlite3.Connection, place: Place, until: int, *, is_stored: bool
    ) -> Batch | None:
        db.execute("BEGIN IMMEDIATE")
        # Nobody else can commit anything now.
        self._version = self._version_of(db)
        last, number, rows = self._last(db, place), place.number, list[tuple[int, Record]]()
        if is_stored:
            self._delete(db, last)
        elif last is not None:
            rows = list(self._rows(db, last, -1))
        trouble: str | None = None
        if not rows:
            # Nothing was fixed, or its rows were deleted by hand.
            rows, trouble = self._fitting(self._rows(db, until, self._limits.records))
            number, last = (number + 1, rows[-1][0]) if rows else (number, None)
        self._renew(db)
        db.execute(f"UPDATE main.{self._tables.relay} SET batch = ?, last = ?", (number, last))  # noqa: S608  as above
        db.execute("COMMIT")
        if trouble is not None:
            raise Trouble(trouble)
        records = tuple(record for _, record in rows)
        return Batch(place.producer, number, records, is_lasting=True) if rows else None

    def _delete(self, db: sqlite3.Connection, last: int | None) -> None:
        db.execute(f"DELETE FROM main.{self._tables.events} WHERE number <= ?", (last,))  # noqa: S608  as above

    def _rows(self, db: sqlite3.Connection, until: int, most: int) -> Iterator[tuple[int, Record]]:
        """Yield the first rows with their numbers, up to a number."""
        select = (
            f"SELECT number, key, body FROM main.{self._tables.events} "  # noqa: S608  as above
            "WHERE number <= ? ORDER BY number LIMIT ?"
        )
        for number, key, body in db.execute(select, (until, most)):
            yield number, Record(body, key)

    def _fitting(
        self, rows: Iterator[tuple[int, Record]]
    ) -> tuple[list[tuple[int, Record]], str | None]:
        """Return the first rows that fit into a batch, and what is wrong if none does."""
        found: list[tuple[int, Record]] = []
        size = 0
        for number, record in rows:
            length = len(record.body)
            size += length
            is_too_large = length > self._limits.body
            if found and (is_too_large or size > self._limits.size):
                break
            if is_too_large:
                return [], (
                    f"event {number} in it has {length} bytes, and the transport takes "
                    f"{self._limits.body}: a transport with a higher max_event_bytes would be right"
                )
            found.append((number, record))
        return found, None
