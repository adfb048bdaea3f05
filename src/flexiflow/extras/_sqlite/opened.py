"""A connection with a file, which is opened when it is needed, and watched (X9)."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast, final

from flexiflow.extras._sqlite.file import MOVED, Watch, identity_of, rescue
from flexiflow.extras._sqlite.opening import open_database, open_file

if TYPE_CHECKING:
    from flexiflow.extras._sqlite.file import Identity
    from flexiflow.extras._sqlite.layout import Layout

_CLOSED: Final = "this connection was closed"


@final
class OpenedFile:
    """A connection, and what was found out about its file.

    Only one thread at a time may use it. Once a check of the file has failed, each later one fails,
    until the file is closed.

    Args:
        layout: the file.
    """

    __slots__ = ("_database", "_fault", "_identity", "_is_shut", "_layout", "_watch")

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._database: sqlite3.Connection | None = None
        self._watch: Watch | None = None
        # The file's identity, from when it was first opened until it is closed.
        self._identity: Identity | None = None
        # Why nothing is confirmed any more, if so.
        self._fault: str | None = None
        self._is_shut = False

    def database(self) -> sqlite3.Connection:
        """Return the connection; the file is opened if it is not.

        Raises:
            Exception: one of the layout's errors: the file can't be opened, has taken the place of
                the one that was open, was found to be wrong before, or was shut.
        """
        if self._is_shut:
            raise self._layout.errors.unavailable(self._layout.path, _CLOSED)
        if self._fault is not None:
            raise self._layout.errors.unusable(self._layout.path, self._fault)
        if self._database is None:
            self._open()
        return cast("sqlite3.Connection", self._database)

    def check(self) -> None:
        """Check that the file is still the one that others find; if not, confirm nothing any more.

        Raises:
            Exception: the layout's `unusable`: it is another file, or its locks were lost.
        """
        watch = cast("Watch", self._watch)
        self._fault = watch.find_problem()
        if self._fault is not None:
            _save(cast("sqlite3.Connection", self._database), watch)
            raise self._layout.errors.unusable(self._layout.path, self._fault)

    def roll_back(self) -> None:
        """End the transaction, if there is one."""
        if self._database is not None and self._database.in_transaction:
            # If this fails, the next BEGIN fails, too, and comes here again.
            with suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")

    def let_go(self) -> None:
        """Close the connection for now; the next use opens the very same file again."""
        database, watch = self._database, self._watch
        self._database = self._watch = None
        if database is None or watch is None:
            return
        if watch.find_problem() is not None:
            _save(database, watch)
        watch.close()
        database.close()

    def close(self) -> None:
        """Close the connection; the next use opens the file that is there then."""
        self._identity = self._fault = None
        self.let_go()

    def shut(self) -> None:
        """Close the connection for good; each later use fails."""
        self._is_shut = True
        self.close()

    def _open(self) -> None:
        path = self._layout.path
        if self._identity is None:
            database = open_database(self._layout)
        # Leave a file alone that has taken the place of the one that was open.
        elif identity_of(path) != self._identity:
            raise self._layout.errors.unusable(path, MOVED)
        else:
            database = open_file(self._layout)
        try:
            watch = Watch(path, self._layout.errors.unusable)
        except BaseException:
            database.close()
            raise
        self._database, self._watch = database, watch
        self._identity = watch.identity


def _save(database: sqlite3.Connection, watch: Watch) -> None:
    """Save what was confirmed before somebody meddled with the files, if that can do no harm."""
    if watch.is_alone:
        rescue(database)
    else:
        watch.keep_log(database)
