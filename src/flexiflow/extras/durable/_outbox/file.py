"""The user's file as a relay has it open (Y4)."""

from __future__ import annotations

import sqlite3
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeVar, final

from flexiflow.extras._process import FORKS, Home
from flexiflow.extras._sqlite.file import MOVED, identity_of
from flexiflow.extras._sqlite.opening import connect
from flexiflow.extras.durable._errors import TransportUnusable
from flexiflow.extras.durable._outbox.tables import are_there

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow.extras._sqlite.file import Identity
    from flexiflow.extras.durable._outbox.tables import Tables

T = TypeVar("T")

_BUSY_TIMEOUT: Final = 0.25
"""For how many seconds a thread waits for a lock; the relay tries again after that."""

_NO_FILE: Final = "there is no such file; prepare(connection) of the outbox would make it"
_NO_TABLES: Final = "it has no tables of this outbox; its prepare(connection) would make them"


class Trouble(Exception):
    """Events can't be handed on now.

    Args:
        reason: what was seen.
        is_busy: whether this is normal for a while, as when the file is locked.
        is_missing: whether there is no outbox in the file, or no file.
    """

    def __init__(self, reason: str, *, is_busy: bool = False, is_missing: bool = False) -> None:
        super().__init__(reason)
        self.is_busy = is_busy
        self.is_missing = is_missing


@final
class File:
    """The user's file, which is opened when it is first used, and after trouble with it.

    One thread at a time uses it. A forked child does not inherit the open file.

    Args:
        path: the file.
        tables: the tables that it should have.

    Attributes:
        version: the `PRAGMA data_version` of the last look at the rows, which `Box` notes here; -1
            after the file was opened.
    """

    def __init__(self, path: str, tables: Tables) -> None:
        self.version = -1
        self._path = path
        self._tables = tables
        self._database: sqlite3.Connection | None = None
        self._identity: Identity | None = None
        self._home = Home(path, TransportUnusable)
        self._lock = Lock()
        FORKS.register(self)

    def use(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do something with the database; a transaction that it leaves by an exception is undone.

        Raises:
            Trouble: the file can't be used now.
        """
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

    def close(self) -> None:
        """Close the file."""
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

    def _opened(self) -> sqlite3.Connection:
        identity = identity_of(self._path)
        if self._database is not None:
            if identity == self._identity:
                return self._database
            raise Trouble(MOVED)
        if identity is None:
            raise Trouble(_NO_FILE, is_missing=True)
        self._identity = identity
        self._database = database = connect(self._path, _BUSY_TIMEOUT)
        # What is handed on must outlast a loss of power, also if the user's connections do less.
        database.execute("PRAGMA synchronous = FULL")
        try:
            is_prepared = are_there(database, self._tables)
        except ValueError as exc:
            raise Trouble(str(exc)) from exc
        if not is_prepared:
            raise Trouble(_NO_TABLES, is_missing=True)
        self.version = -1
        return database

    def _let_go(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()
