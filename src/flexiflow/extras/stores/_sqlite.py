"""A store in an SQLite file: embedded, without a server or a dependency."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, final
from weakref import finalize

from flexiflow._arguments import check_finite
from flexiflow._errors import StateConflict
from flexiflow._stores import Stored
from flexiflow._text import show
from flexiflow.extras._sqlite.jobs import JobRunner
from flexiflow.extras._sqlite.layout import Errors, Layout, check_mode, check_path
from flexiflow.extras.stores import _statements as statements
from flexiflow.extras.stores._arguments import (
    check_history,
    check_limit,
    check_name,
    check_save,
    check_until,
)
from flexiflow.extras.stores._errors import StoreUnavailable, StoreUnusable
from flexiflow.extras.stores._snapshots import decode

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Mapping, Sequence
    from typing import Self


@final
class SqliteStateStore:
    """A store in a file, for all processes of one machine (K2).

    What `save` and `delete` have done is on the disk when they return (SQLite's write-ahead log
    with `synchronous=FULL`). All that several tasks ask for at the same time is one transaction,
    done by one thread. The file is opened by the first call, and may be used by several event
    loops, on any backend.

    It is closed when `async with` ends, or the outermost of several. Without that, `close` closes
    it, and else it is closed when the store is freed or Python ends; nothing is lost by that. The
    next call opens it again.

    A snapshot is kept as JSON: a tuple in it comes back as a list.

    Each method raises `StoreUnavailable` if the file is locked for longer than `busy_timeout`, or
    the disk is full. It raises `StoreUnusable` if the file belongs to other software or was written
    by a newer release, can't be opened or written, is where SQLite can't keep a write-ahead log, or
    is a symbolic link that leads nowhere. It also does so, until the store is closed, after the
    file, or what SQLite keeps beside it, was deleted, moved or replaced, or was opened and closed
    by hand in this process; and in a process that was forked while the file was open (X9).

    Args:
        path: the file, created if it does not exist; on a local disk, in a folder that exists.
        history: how many former versions of each component are kept, 0 to 10**12.
        busy_timeout: for how many seconds to wait for another process that is writing, 0 or more.
        mode: the permissions of a file that is created, whatever the umask is; its owner must be
            allowed to read and write. An existing file keeps its own.

    Raises:
        TypeError: `path` is no path.
        ValueError: a number out of its range, or a path that names no file.

    Example:
        >>> import tempfile
        >>> import anyio
        >>> from flexiflow.extras.stores import SqliteStateStore
        >>> async def main(folder):
        ...     store = SqliteStateStore(f"{folder}/orders.db")
        ...     await store.save("A7", "paid", None, expected=0)
        ...     print((await store.load("A7")).state)
        ...     store.close()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     anyio.run(main, folder)
        paid
    """

    __slots__ = ("__weakref__", "_entered", "_history", "_jobs", "_path")

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        history: int = 0,
        busy_timeout: float = 5.0,
        mode: int = 0o600,
    ) -> None:
        self._path = check_path(path, "MemoryStateStore() keeps states")
        self._history = check_history(history)
        layout = Layout(
            self._path,
            check_finite("busy_timeout", busy_timeout, least=0),
            check_mode(mode),
            Errors(StoreUnavailable, StoreUnusable),
            check=partial(statements.check, path=self._path),
            lay_out=partial(statements.lay_out, path=self._path),
        )
        self._jobs = JobRunner(layout)
        self._entered = 0
        # A connection that is freed without being closed is a ResourceWarning.
        finalize(self, self._jobs.abandon)

    def __repr__(self) -> str:
        """Show the file."""
        return f"<{type(self).__name__} {show(self._path)}>"

    @property
    def path(self) -> str:
        """The file."""
        return self._path

    async def __aenter__(self) -> Self:
        """Open the file."""
        await self._jobs.open()
        self._entered += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the file after what is being done, unless another `async with` goes on."""
        self._entered -= 1
        if not self._entered:
            await self._jobs.aclose()

    def close(self) -> None:
        """Close the file when the running calls have ended; wait for these calls."""
        self._jobs.close()

    async def load(self, name: str) -> Stored | None:
        """Return what is stored of a component, or None.

        Raises:
            ValueError: no component of that name can be stored; it is too long, or no UTF-8.
        """
        check_name(name)
        row = await self._jobs.read(lambda db: statements.load(db, name))
        return None if row is None else self._stored(name, row)

    async def save(
        self,
        name: str,
        state: str,
        data: Mapping[str, Any] | None,
        *,
        expected: int,
        due: float | None = None,
    ) -> int:
        """Store a component's state, and return the version; it is durable then.

        Args:
            name: the component's name, of at most 65,536 bytes in UTF-8.
            state: its state, no longer than that.
            data: what it has besides, as JSON; or None.
            expected: the version that this one replaces; 0 if nothing is stored.
            due: when it is to be loaded at the latest, in seconds since 1970; infinite or None
                for never.

        Raises:
            StateConflict: another version is stored, or none; nothing has changed.
            TypeError: `data` is not JSON; nothing has changed.
            ValueError: `data` holds a number that is no JSON, or another argument is out of its
                range; nothing has changed.
        """
        text, time = check_save(name, state, data, expected, due)
        history = self._history

        def work(db: sqlite3.Connection) -> int | StateConflict:
            return statements.save(db, name, state, text, time, expected, history)

        version = await self._jobs.write(work)
        if isinstance(version, StateConflict):
            raise version
        return version

    async def due(self, until: float, limit: int) -> Sequence[str]:
        """Return the names of components whose `due` is not after `until`, the earliest first.

        A component whose `due` is None or infinite is never returned, whatever `until` is.

        Of several that are due at the same time, the one whose name is first in the order of its
        characters comes first.

        Args:
            until: in seconds since 1970; may be infinite.
            limit: how many names to return at most, 0 to 10**12.

        Raises:
            ValueError: an argument out of its range.
        """
        check_until(until)
        check_limit(limit)
        return await self._jobs.read(lambda db: statements.due(db, until, limit))

    async def delete(self, name: str) -> None:
        """Forget a component, and its former versions; nothing happens if none is stored.

        Raises:
            ValueError: no component of that name can be stored.
        """
        check_name(name)
        await self._jobs.write(lambda db: statements.delete(db, name))

    async def versions(self, name: str) -> Sequence[Stored]:
        """Return the current version of a component and at most `history` former ones.

        The newest is the first. What was saved by a store without `history` left nothing behind.

        Raises:
            ValueError: no component of that name can be stored.
        """
        check_name(name)
        rows = await self._jobs.read(lambda db: statements.versions(db, name, self._history))
        return [self._stored(name, row) for row in rows]

    def _stored(self, name: str, row: statements.Row) -> Stored:
        version, state, data, due = row
        try:
            return Stored(version, state, decode(data), due)
        except ValueError as error:
            raise StoreUnusable(
                self._path,
                f"the data stored of component {show(name)} is not what a store writes: {error}",
            ) from None
