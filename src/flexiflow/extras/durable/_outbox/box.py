"""The transactions of a relay in the file of an outbox (Y4).

The rows are handed on in batches. Before a batch is given to the transport, it is *fixed*: its
number and its last row are written to the file. Its rows are deleted afterwards, in the transaction
that fixes the next one. So wherever a process is killed, the next one gives the transport a batch
of the same number and rows again, and the transport stores it once (X2). The batch loses its last
rows only if the transport does not know the number, and takes less at once than it did.

One relay at a time has the *lease* of the file. A relay whose lease has gone to another one changes
nothing: each transaction checks who has it. What it may still give to the transport has a number
that the transport knows.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Final, NamedTuple, final
from uuid import uuid4

from flexiflow.extras.durable._outbox.file import File, Trouble
from flexiflow.extras.durable._outbox.statements import statements_of
from flexiflow.extras.durable._records import Batch, Record

if TYPE_CHECKING:
    import sqlite3

    from flexiflow.extras.durable._outbox.tables import Tables

_RENEWALS: Final = 3
"""How many times a lease is renewed before it would run out."""


class Overtaken(Exception):
    """Another relay has the lease, or the file has changed since this relay wrote to it."""


class Place(NamedTuple):
    """How far a relay has come.

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
    """The file of an outbox; used by one thread at a time.

    Every method that looks at the file may raise `Trouble`; the next one opens the file again.

    Args:
        path: the file.
        tables: the outbox's tables.
        limits: the size of batches.
        lease: for how many seconds to have the lease, unless it is renewed.
    """

    def __init__(self, path: str, tables: Tables, limits: Limits, lease: float) -> None:
        self._file = File(path, tables)
        self._statements = statements_of(tables)
        self._limits = limits
        self._lease = lease
        self._holder = uuid4().hex
        self._renewed = 0.0

    @property
    def is_due(self) -> bool:
        """Whether the lease should be renewed now."""
        # The clock may have been set back.
        return not 0 <= time() - self._renewed < self._lease / _RENEWALS

    def acquire(self) -> Place | None:
        """Take the lease, and return how far the last relay came; None if another one has it."""
        return self._file.use(self._acquire)

    def renew(self, place: Place) -> None:
        """Renew the lease.

        Raises:
            Overtaken: it has gone to another relay.
        """
        self._file.use(lambda db: self._renew_at(db, place))

    def begin_anew(self, place: Place) -> Place:
        """Begin a new producer, and delete the rows of the old one's last batch, which is stored.

        Raises:
            Overtaken: nothing has changed.
        """
        return self._file.use(lambda db: self._begin_anew(db, place))

    def has_news(self) -> bool:
        """Return whether there are rows, and anything was committed since the last look."""
        return self._file.use(self._has_news)

    def ends(self) -> tuple[int, int]:
        """Return the numbers of the first and the last row; 0 for both if there is none."""
        first, last = self._file.use(lambda db: db.execute(self._statements.ends).fetchone())
        return first or 0, last or 0

    def advance(self, place: Place, *, is_stored: bool, until: int) -> Batch | None:
        """Delete the rows of the batch that is fixed, if it is stored, and fix the next one.

        Args:
            place: how far the relay has come.
            is_stored: whether the transport has stored the batch; False if it has no part of it.
            until: the last row to take.

        Returns:
            The batch that is fixed; None if there are no rows.

        Raises:
            Overtaken: nothing has changed.
        """
        return self._file.use(lambda db: self._advance(db, place, until, is_stored=is_stored))

    def close(self) -> None:
        """Give up the lease, and close the file."""
        try:
            self._file.use(lambda db: db.execute(self._statements.give_up, (self._holder,)))
        finally:
            self._file.close()

    def _acquire(self, db: sqlite3.Connection) -> Place | None:
        if self._is_taken(db):
            return None
        db.execute("BEGIN IMMEDIATE")
        db.execute(self._statements.make_relay)
        if self._is_taken(db):
            db.execute("ROLLBACK")
            return None
        db.execute(self._statements.name_producer, (uuid4().hex,))
        self._renew(db)
        producer, batch, *_ = db.execute(self._statements.state).fetchone()
        db.execute("COMMIT")
        return Place(producer, batch)

    def _is_taken(self, db: sqlite3.Connection) -> bool:
        """Return whether another relay has the lease."""
        now = time()
        return db.execute(self._statements.taken, (self._holder, now, now)).fetchone() is not None

    def _renew(self, db: sqlite3.Connection) -> None:
        self._renewed = now = time()
        db.execute(self._statements.renew, (self._holder, now, now + self._lease))

    def _renew_at(self, db: sqlite3.Connection, place: Place) -> None:
        db.execute("BEGIN IMMEDIATE")
        self._last(db, place)
        self._renew(db)
        db.execute("COMMIT")

    def _last(self, db: sqlite3.Connection, place: Place) -> int | None:
        """Return the last row of the batch that is fixed, or None; check that all is as it was."""
        found = db.execute(self._statements.state).fetchone()
        if found is None or found[:3] != (*place, self._holder):
            raise Overtaken
        last: int | None = found[3]
        return last

    def _begin_anew(self, db: sqlite3.Connection, place: Place) -> Place:
        db.execute("BEGIN IMMEDIATE")
        db.execute(self._statements.delete, (self._last(db, place),))
        begun = Place(uuid4().hex, 0)
        db.execute(self._statements.begin_anew, begun)
        db.execute("COMMIT")
        return begun

    def _has_news(self, db: sqlite3.Connection) -> bool:
        version = _version_of(db)
        if version == self._file.version:
            return False
        self._file.version = version
        return db.execute(self._statements.any_row).fetchone() is not None

    def _advance(
        self, db: sqlite3.Connection, place: Place, until: int, *, is_stored: bool
    ) -> Batch | None:
        db.execute("BEGIN IMMEDIATE")
        # Nobody else can commit anything now.
        self._file.version = _version_of(db)
        last, number = self._last(db, place), place.number
        rows, trouble = list[tuple[int, Record]](), None
        if is_stored:
            db.execute(self._statements.delete, (last,))
        elif last is not None:
            rows, trouble = self._fitting(db, last)
        if not (rows or trouble):
            # Nothing was fixed, or its rows were deleted by hand.
            rows, trouble = self._fitting(db, until)
            number += bool(rows)
        self._renew(db)
        db.execute(self._statements.fix, (number, rows[-1][0] if rows else None))
        db.execute("COMMIT")
        if trouble is not None:
            raise Trouble(trouble)
        records = tuple(record for _, record in rows)
        return Batch(place.producer, number, records, is_lasting=True) if rows else None

    def _fitting(
        self, db: sqlite3.Connection, until: int
    ) -> tuple[list[tuple[int, Record]], str | None]:
        """Return the first rows that fit into a batch, and what is wrong if none does.

        Args:
            db: the database.
            until: the last row to take.
        """
        limits, found, size = self._limits, list[tuple[int, Record]](), 0
        for number, key, body in db.execute(self._statements.rows, (until, limits.records)):
            length = len(body)
            size += length
            is_too_large = length > limits.body
            if found and (is_too_large or size > limits.size):
                break
            if is_too_large:
                return [], (
                    f"event {number} in it has {length} bytes, and the transport takes "
                    f"{limits.body}: a transport with a higher max_event_bytes would be right"
                )
            found.append((number, Record(body, key)))
        return found, None


def _version_of(db: sqlite3.Connection) -> int:
    """Return a number that changes when another connection has committed."""
    return int(db.execute("PRAGMA main.data_version").fetchone()[0])
