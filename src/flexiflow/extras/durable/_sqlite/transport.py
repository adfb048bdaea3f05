"""A transport in an SQLite file: embedded, without a server or a dependency."""

from __future__ import annotations

import os
import reprlib
from contextlib import asynccontextmanager
from threading import Event
from typing import TYPE_CHECKING, Final, final
from weakref import WeakValueDictionary

from anyio import from_thread, to_thread
from anyio.lowlevel import RunVar

from flexiflow._arguments import check_finite
from flexiflow.extras._sqlite.jobs import JobRunner
from flexiflow.extras._sqlite.layout import check_mode, check_path
from flexiflow.extras.durable._bell import Bell
from flexiflow.extras.durable._logs import MAX_EVENT_BYTES, MAX_SCHEDULED, check_limits
from flexiflow.extras.durable._sqlite.backup import back_up
from flexiflow.extras.durable._sqlite.connection import SqliteConnection
from flexiflow.extras.durable._sqlite.schema import layout_of
from flexiflow.extras.durable._sqlite.tables import identity_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from flexiflow.extras.durable._transport import Connection

_BELLS: Final[RunVar[WeakValueDictionary[str, Bell]]] = RunVar("flexiflow.durable.bells")
"""In each event loop, a bell for each file."""

_SHORTEST: Final = 0.001


@final
class SqliteTransport:
    """A transport in a file, for all processes of one machine.

    A batch is stored once the disk has confirmed it (SQLite's write-ahead log with
    `synchronous=FULL`). Workers in the same event loop are woken at once when something is stored;
    workers in other processes look every `poll_interval` seconds. Leases are timed by the machine's
    clock.

    Args:
        path: the file, created if it does not exist; on a local disk, in a folder that exists.
        partitions: how many logs there are, 1 to 65,536, each read by one worker of a group at
            a time (X4); None for one log that all workers of a group share. A file keeps the number
            it was created with.
        max_length: how many records a log may hold, 1 to 10**12. Records that every group has
            settled are deleted when there is no room for new ones (X5).
        idempotency_window: for how many seconds after its last batch a producer is remembered (X2),
            and the ticket of a scheduled event after that was put into its log or cancelled (Y3).
        poll_interval: the seconds between looks for what other processes have stored, 0.001 or
            more.
        busy_timeout: for how many seconds to wait for another process that is writing, 0 or more.
        max_event_bytes: how many bytes an event may have as stored, 1 to 10**12 (X14).
        max_scheduled: how many events may be scheduled at a time, 1 to 10**12; for each log (Y3).
        mode: the permissions of a file that is created, whatever the umask is; its owner must be
            allowed to read and write. An existing file keeps its own (X9).

    Raises:
        TypeError: `path` is no path.
        ValueError: a number out of its range, or a path that names no file.

    Example:
        >>> import tempfile
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.extras.durable import SqliteTransport, open_bridge
        >>> async def main(folder):
        ...     bus, transport = EventBus(), SqliteTransport(f"{folder}/events.db")
        ...     async with open_bridge(bus, transport, outgoing=["order.*"]) as bridge:
        ...         await bus.publish("order.placed", "A7")
        ...         print(bridge.statistics().stored)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     anyio.run(main, folder)
        1
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        partitions: int | None = None,
        max_length: int = 1_000_000,
        idempotency_window: float = 600.0,
        poll_interval: float = 0.05,
        busy_timeout: float = 5.0,
        max_event_bytes: int = MAX_EVENT_BYTES,
        max_scheduled: int = MAX_SCHEDULED,
        mode: int = 0o600,
    ) -> None:
        self._path = check_path(path, "MemoryTransport() keeps events")
        self._limits = check_limits(
            partitions=partitions,
            max_length=max_length,
            idempotency_window=idempotency_window,
            max_event_bytes=max_event_bytes,
            max_scheduled=max_scheduled,
        )
        self._poll_interval = check_finite("poll_interval", poll_interval, least=_SHORTEST)
        check_finite("busy_timeout", busy_timeout, least=0)
        self._layout = layout_of(self._path, partitions, busy_timeout, check_mode(mode))

    @property
    def path(self) -> str:
        """The file."""
        return self._path

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Connection]:
        """Open the file; one with the former layout is migrated (X16).

        Raises:
            TransportUnavailable: it is locked for longer than `busy_timeout`, or the disk is full.
            TransportUnusable: it belongs to other software, was created with another number of
                partitions, can't be opened or written, is where SQLite can't keep a write-ahead
                log, or is a symbolic link that leads nowhere. Raised by each later call if the
                file, or what SQLite keeps beside it, was deleted, moved or replaced, or was opened
                and closed by hand in this process, or if this process was forked from the one that
                opened the file (X9).
        """
        bells = _BELLS.get(WeakValueDictionary[str, Bell]())
        _BELLS.set(bells)
        bell = bells.setdefault(self._path, Bell())
        async with JobRunner(self._layout, bell.ring) as jobs:
            name = await jobs.read(identity_of)
            yield SqliteConnection(self._path, self._limits, jobs, bell, self._poll_interval, name)

    async def backup(self, file: str | os.PathLike[str]) -> None:
        """Copy the transport's file, as it is at one moment, while others go on using it (X9).

        Copying the file by other means misses what SQLite keeps beside it; in a process that has it
        open it also drops SQLite's locks.

        The copy accepts the original's tickets, so that scheduled events can still be cancelled
        after it has taken the original's place (Y3). Hence no ticket tells the two apart.

        Args:
            file: the path of the copy. It appears when the copy is complete, and only its owner can
                read and write it.

        Raises:
            TypeError: `file` is no path.
            FileExistsError: there is something at that path already.
            OSError: nothing can be created there.
            TransportUnavailable: the transport's file is locked for longer than `busy_timeout`, or
                there is no room for the copy.
            TransportUnusable: the transport's path has no file of a transport, or somebody meddles
                with that file.
        """
        if not isinstance(file, (str, os.PathLike)):
            raise TypeError(f"file must be a str or a pathlib.Path, not {reprlib.repr(file)}")
        is_left = Event()

        def pause() -> None:
            from_thread.check_cancelled()
            if is_left.is_set():
                raise InterruptedError

        try:
            await to_thread.run_sync(
                back_up, self._path, os.fspath(file), self._layout.busy_timeout, pause
            )
        finally:
            # Stops the thread also when asyncio cancels the task, which leaves the thread behind.
            is_left.set()
