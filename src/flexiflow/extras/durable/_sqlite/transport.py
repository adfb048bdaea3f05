"""A transport in an SQLite file: embedded, without a server or a dependency.

This module has the methods that a bridge calls. Each hands a function of plain SQL statements, such
as `log.store`, `giving.give` or `settle`, to the `JobRunner`, which runs it in a thread, in a
transaction. The `Bell` wakes tasks of the same event loop after what others may wait for.
"""

from __future__ import annotations

import os
import reprlib
from contextlib import asynccontextmanager
from itertools import accumulate
from threading import Event
from time import time
from typing import TYPE_CHECKING, Final, NamedTuple, final
from weakref import WeakValueDictionary

import anyio
from anyio import from_thread, to_thread
from anyio.lowlevel import RunVar, checkpoint

from flexiflow._arguments import check_finite
from flexiflow.extras._sqlite.jobs import JobRunner
from flexiflow.extras._sqlite.layout import check_mode, check_path
from flexiflow.extras.durable._bell import Bell
from flexiflow.extras.durable._logs import (
    MAX_EVENT_BYTES,
    MAX_SCHEDULED,
    ConnectionBase,
    check_limits,
    numbers_after,
)
from flexiflow.extras.durable._records import Acknowledged, Noted, Room
from flexiflow.extras.durable._sqlite import giving, groups, leases, log
from flexiflow.extras.durable._sqlite.backup import back_up
from flexiflow.extras.durable._sqlite.schema import layout_of
from flexiflow.extras.durable._sqlite.settling import settle

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncGenerator, Callable, Sequence

    from flexiflow.extras.durable._logs import LogLimits
    from flexiflow.extras.durable._records import (
        Batch,
        DeadLetter,
        Delivery,
        Member,
        Outcome,
        Settled,
        Standing,
        Stored,
    )
    from flexiflow.extras.durable._transport import Connection, Lease

_BELLS: Final[RunVar[WeakValueDictionary[str, Bell]]] = RunVar("flexiflow.durable.bells")
"""In each event loop, a bell for each file."""

_SHORTEST: Final = 0.001

_QUIET: Final = frozenset((Acknowledged, Noted))
"""The outcomes after which there is nothing more to receive, so that nobody need be woken."""


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
        idempotency_window: for how many seconds after its last batch a producer is remembered (X2).
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
            await jobs.open()
            yield _SqliteConnection(self._path, self._limits, jobs, bell, self._poll_interval)

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
        self, path: str, limits: LogLimits, jobs: JobRunner, bell: Bell, interval: float
    ) -> None:
        super().__init__(path, limits)
        self.jobs = jobs
        self.bell = bell
        self.interval = interval

    async def store(self, batch: Batch) -> None:
        await self.jobs.write(
            lambda db: log.store(db, batch, self.address, self._limits, time()), rings=True
        )

    async def join(self, member: Member) -> Sequence[str]:
        return await self.jobs.write(lambda db: groups.join(db, member, time()))

    async def leave(self, member: Member) -> None:
        await self.jobs.write(lambda db: groups.leave(db, member))

    async def acquire(self, member: Member, partition: int) -> Lease | None:
        held = await self.jobs.write(
            lambda db: leases.acquire(db, member, partition, time(), is_exclusive=self.is_exclusive)
        )
        return None if held is None else _SqliteLease(self, held)

    async def standing(self, group: str) -> Standing:
        return await self.jobs.read(lambda db: groups.standing(db, group))

    async def groups(self) -> Sequence[str]:
        return await self.jobs.read(groups.groups)

    async def forget(self, group: str) -> None:
        await self.jobs.write(lambda db: groups.forget(db, group))

    async def dead_letters(
        self, group: str, *, after: str | None = None, limit: int = 100
    ) -> Sequence[DeadLetter]:
        (last,) = numbers_after(after, 1) or (0,)
        return await self.jobs.read(lambda db: groups.dead_letters(db, group, last, limit))

    async def redrive(self, group: str, ids: Sequence[str]) -> int:
        return await self.jobs.write(lambda db: groups.redrive(db, group, ids), rings=True)

    async def tail(
        self, after: Sequence[str] | None, limit: int, wait: float
    ) -> tuple[Sequence[Stored], Sequence[str]]:
        positions = await self.jobs.read(log.ends) if after is None else list(map(int, after))

        async def look() -> Sequence[Stored]:
            return await self.jobs.read(
                lambda db: log.tail(db, positions, limit, self.max_event_bytes)
            )

        return await self.bell.tail(look, positions, wait, self.interval)


class _Outlook(NamedTuple):
    """What a lease saw when it looked for something to receive.

    Attributes:
        due: when there may be something, as the event loop's clock tells it.
        rung: set if there may be something before.
    """

    due: float
    rung: anyio.Event


@final
class _SqliteLease:
    def __init__(self, connection: _SqliteConnection, held: leases.HeldLease) -> None:
        self.partition = held.partition
        self.token = held.token
        self.lines = held.lines
        self._jobs = connection.jobs
        self._bell = connection.bell
        self._held = held
        self._interval = connection.interval
        self._max_event_bytes = connection.max_event_bytes
        self._room = Room(1)
        self._seen = _Outlook(0, self._bell.rung)
        # Records that were given to a call which was cancelled; a later call takes them.
        self._given: list[Delivery] = []

    async def receive(self, room: Room) -> Sequence[Delivery]:
        self._room = room
        if self._given:
            # If the lease has run out since, others may have been given some of them.
            self._given[:] = await self._jobs.read(
                lambda db: giving.still_held(db, self._held, self._given)
            )
        else:
            await self._give(room)
        # An earlier call, which was cancelled, may have been given some in the meantime.
        return self._take(_fitting(self._given, room))

    async def _give(self, room: Room) -> None:
        look = self._looking(room)
        await self._jobs.write_where_wanted(
            lambda db: not self._given and look(db),
            lambda db: giving.give(db, self._held, room, self._max_event_bytes, time()),
            self._given.extend,
        )

    def _looking(self, room: Room) -> Callable[[sqlite3.Connection], bool]:
        """Return a function that looks whether there is something to receive, and notes when.

        It runs in the thread. Whatever comes after `_looking` was called sets the bell that is
        noted, so that `wait` does not sleep through it.
        """
        now, rung = anyio.current_time(), self._bell.rung

        def look(db: sqlite3.Connection) -> bool:
            ahead = giving.ahead(db, self._held, room, time())
            self._seen = _Outlook(now + ahead, rung)
            return ahead <= 0

        return look

    def _take(self, count: int) -> Sequence[Delivery]:
        taken, self._given[:count] = self._given[:count], []
        return taken

    async def wait(self, seconds: float) -> None:
        await checkpoint()
        until = anyio.current_time() + seconds
        while not self._given:
            due, rung = self._seen
            left = min(due, until) - anyio.current_time()
            if left <= 0:
                return
            with anyio.move_on_after(min(left, self._interval)):
                await rung.wait()
                if not self._held.is_exclusive:
                    # Most likely it is for this log: `receive` looks, and takes it in one turn.
                    return
            await self._jobs.read(self._looking(self._room))

    async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
        # A record that was let go may be given to others, or to this lease again.
        rings = not _QUIET.issuperset(map(type, outcomes))
        settled = await self._jobs.write(
            lambda db: settle(db, self._held, outcomes, time()), rings=rings
        )
        if settled is None:
            raise leases.lost(self._held)
        return settled

    async def renew(self, positions: Sequence[str] = ()) -> Sequence[str]:
        return await self._jobs.write(lambda db: leases.renew(db, self._held, positions, time()))

    async def release(self) -> None:
        await self._jobs.write(lambda db: leases.release(db, self._held, self._given), rings=True)


def _fitting(given: Sequence[Delivery], room: Room) -> int:
    """Return how many of the first deliveries there is room for."""
    sizes = accumulate(len(each.body) for each in given[: room.records])
    return sum(size <= room.size for size in sizes)
