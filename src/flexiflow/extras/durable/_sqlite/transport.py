"""A transport in an SQLite file: embedded, without a server or a dependency.

This module has the methods that a bridge calls. Each hands a function of plain SQL statements, such
as `log.store`, `giving.give` or `settle`, to the `JobRunner`, which runs it in a thread, in a
transaction. The `Bell` wakes tasks of the same event loop after what others may wait for.
"""

from __future__ import annotations

import os
import reprlib
from contextlib import asynccontextmanager
from functools import partial
from math import inf
from threading import Event
from time import time
from typing import TYPE_CHECKING, Final, TypeVar, final
from weakref import WeakValueDictionary

from anyio import from_thread, to_thread
from anyio.lowlevel import RunVar

from flexiflow._arguments import check_finite
from flexiflow.extras._sqlite.jobs import JobRunner
from flexiflow.extras._sqlite.layout import check_mode, check_path
from flexiflow.extras.durable._bell import Bell
from flexiflow.extras.durable._logs import (
    MAX_EVENT_BYTES,
    MAX_SCHEDULED,
    ConnectionBase,
    check_limits,
    check_record,
    numbers_after,
)
from flexiflow.extras.durable._records import ScheduledRecord
from flexiflow.extras.durable._sqlite import groups, leases, log, schedule, storing
from flexiflow.extras.durable._sqlite.backup import back_up
from flexiflow.extras.durable._sqlite.lease import SqliteLease
from flexiflow.extras.durable._sqlite.replaying import replay
from flexiflow.extras.durable._sqlite.schema import layout_of
from flexiflow.extras.durable._sqlite.starts import look_for, scan
from flexiflow.extras.durable._sqlite.survey import survey
from flexiflow.extras.durable._sqlite.tables import identity_of
from flexiflow.extras.durable._tickets import partition_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncGenerator, Callable, Sequence

    from flexiflow.extras.durable._logs import LogLimits
    from flexiflow.extras.durable._records import (
        Batch,
        DeadLetter,
        Member,
        Record,
        Replayed,
        Standing,
        Start,
        Stored,
        Survey,
    )
    from flexiflow.extras.durable._sqlite.starts import LogScan
    from flexiflow.extras.durable._transport import Connection, Lease

_BELLS: Final[RunVar[WeakValueDictionary[str, Bell]]] = RunVar("flexiflow.durable.bells")
"""In each event loop, a bell for each file."""

_SHORTEST: Final = 0.001

T = TypeVar("T")


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
            yield _SqliteConnection(self._path, self._limits, jobs, bell, self._poll_interval, name)

    async def backup(self, file: str | os.PathLike[str]) -> None:
        """Copy the transport's file, as it is at one moment, while others go on using it (X9).

        Copying the file by other means misses what SQLite keeps beside it; in a process that has it
        open it also drops SQLite's locks.

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


@final
class _SqliteConnection(ConnectionBase):
    def __init__(
        self,
        path: str,
        limits: LogLimits,
        jobs: JobRunner,
        bell: Bell,
        interval: float,
        name: str,
    ) -> None:
        super().__init__(path, limits, name)
        self.jobs = jobs
        self._bell = bell
        self._interval = interval

    async def _look(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do a job that reads, after what is due was put into the logs."""

        def look(db: sqlite3.Connection) -> tuple[T] | None:
            return None if schedule.is_due(db, time()) else (work(db),)

        while (found := await self.jobs.read(look)) is None:
            await self.jobs.write(lambda db: schedule.put_all_due(db, time()), rings=True)
        return found[0]

    async def _change(
        self, work: Callable[[sqlite3.Connection], T | None], *, rings: bool = False
    ) -> T:
        """Do a job that reads and writes, as often as it returns None: so much was due before."""
        while (found := await self.jobs.write(work, rings=rings)) is None:
            pass
        return found

    async def store(self, batch: Batch) -> None:
        def store(db: sqlite3.Connection) -> bool:
            return storing.store(db, batch, self.address, self._limits, time())

        while not await self.jobs.write(store, rings=True):
            pass

    async def produced(self, producer: str) -> int:
        return await self.jobs.read(lambda db: storing.produced(db, producer))

    async def schedule(
        self, ticket: str, record: Record, *, at: float | None = None, delay: float | None = None
    ) -> None:
        partition = partition_of(ticket, self._name, self.partitions)
        check_record(record, self.max_event_bytes)

        def work(db: sqlite3.Connection) -> bool | None:
            now = time()
            wanted = ScheduledRecord(
                ticket, partition, now + (delay or 0.0) if at is None else at, record
            )
            return schedule.schedule(db, wanted, self.address, self._limits, now)

        if await self._change(work):
            # Workers may have to be given it earlier than they know.
            self._bell.ring()

    async def cancel(self, ticket: str) -> bool:
        partition_of(ticket, self._name, self.partitions)
        window = self._limits.window
        return await self.jobs.write(lambda db: schedule.cancel(db, ticket, window, time()))

    async def scheduled(
        self, *, after: ScheduledRecord | None = None, limit: int = 100
    ) -> Sequence[ScheduledRecord]:
        return await self.jobs.read(lambda db: schedule.scheduled(db, after, limit))

    async def join(self, member: Member) -> Sequence[str]:
        while True:
            found = await self._found(member)
            consumers = await self.jobs.write(partial(self._join, member, found))
            if consumers is not None:
                return consumers

    async def _found(self, member: Member) -> list[LogScan] | None:
        """Look for where a member's group begins, if that is at a time, and there is none yet."""
        if not isinstance(member.start, int | float):
            return None
        if await self._look(lambda db: groups.id_of(db, member.group)) is not None:
            return None
        return await look_for(self.jobs, member.start)

    def _join(
        self, member: Member, found: list[LogScan] | None, db: sqlite3.Connection
    ) -> list[str] | None:
        return groups.join(db, member, found, time())

    async def leave(self, member: Member) -> None:
        await self.jobs.write(lambda db: groups.leave(db, member))

    async def acquire(self, member: Member, partition: int) -> Lease | None:
        held = await self.jobs.write(
            lambda db: leases.acquire(db, member, partition, time(), is_exclusive=self.is_exclusive)
        )
        if held is None:
            return None
        return SqliteLease(self.jobs, self._bell, held, self._interval, self.max_event_bytes)

    async def standing(self, group: str) -> Standing:
        return await self._look(lambda db: groups.standing(db, group))

    async def groups(self) -> Sequence[str]:
        return await self.jobs.read(groups.groups)

    async def forget(self, group: str) -> None:
        await self.jobs.write(lambda db: groups.forget(db, group))

    async def replay(self, group: str, since: Start) -> Replayed:
        # The logs are not read for a group that is not there, nor before what is due is in them.
        await self._look(lambda db: groups.known_id_of(db, group))
        found = await scan(self.jobs, since)
        return await self._change(lambda db: replay(db, group, found, time()), rings=True)

    async def survey(self) -> Survey:
        return await self._look(lambda db: survey(db, time()))

    async def dead_letters(
        self, group: str, *, after: str | None = None, limit: int = 100
    ) -> Sequence[DeadLetter]:
        (last,) = numbers_after(after, 1) or (0,)
        return await self.jobs.read(lambda db: groups.dead_letters(db, group, last, limit))

    async def redrive(self, group: str, ids: Sequence[str]) -> int:
        return await self._change(lambda db: groups.redrive(db, group, ids, time()), rings=True)

    async def discard(self, group: str, ids: Sequence[str]) -> int:
        return await self.jobs.write(lambda db: groups.discard(db, group, ids))

    async def tail(
        self, after: Sequence[str] | None, limit: int, wait: float
    ) -> tuple[Sequence[Stored], Sequence[str]]:
        positions = await self._look(log.ends) if after is None else list(map(int, after))
        next_due = inf

        def find(db: sqlite3.Connection) -> tuple[Sequence[Stored], float]:
            found = log.tail(db, positions, limit, self.max_event_bytes)
            return found, schedule.next_of_all(db)

        async def look() -> Sequence[Stored]:
            nonlocal next_due
            found, next_due = await self._look(find)
            return found

        return await self._bell.tail(
            look, positions, wait, self._interval, lambda: next_due - time()
        )
