"""A transport in a file of SQLite's: embedded, without a server and without a dependency."""

from __future__ import annotations

import os
import reprlib
from contextlib import asynccontextmanager
from time import time
from typing import TYPE_CHECKING, Final, final

from flexiflow._arguments import check_int
from flexiflow.extras.durable import _sqlite_groups as groups
from flexiflow.extras.durable import _sqlite_leases as leases
from flexiflow.extras.durable import _sqlite_log as log
from flexiflow.extras.durable._numbers import check_finite, place_of
from flexiflow.extras.durable._partitions import check_partitions
from flexiflow.extras.durable._sqlite_bell import bell_of
from flexiflow.extras.durable._sqlite_desk import Desk
from flexiflow.extras.durable._sqlite_schema import Layout
from flexiflow.extras.durable._transport import Returned

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from flexiflow.extras.durable._sqlite_bell import Bell
    from flexiflow.extras.durable._transport import (
        Batch,
        Connection,
        DeadLetter,
        Delivery,
        Lease,
        Member,
        Outcome,
        Standing,
        Stored,
    )

_SHORTEST: Final = 0.001

_NOWHERE: Final = ("", ":memory:")


@final
class SqliteTransport:
    """A transport in a file, for all processes of one machine.

    A batch is stored when the disk has confirmed it (SQLite's write-ahead log with
    `synchronous=FULL`). Within one event loop workers are woken at once by what is stored; those of
    other processes look every `poll_interval` seconds. Leases go by the machine's clock.

    Args:
        path: the file, made if it is not there; on a local disk, in a folder that is there.
        partitions: how many logs there are, each read by one worker of a group at a time (X4); None
            for one log that all workers of a group share. A file keeps the number it was made with.
        max_length: how many records a log holds, 1 or more. Those that every group has settled
            make room for new ones (X5).
        idempotency_window: for how many seconds after its last batch a producer is remembered (X2).
        poll_interval: how often to look for what other processes stored, 0.001 s or
            more.
        busy_timeout: for how many seconds to wait for another process that is writing, 0 or more.

    Raises:
        TypeError: `path` is no path.
        ValueError: a number out of its range, or a path that means no file.
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
    ) -> None:
        self._path = _checked_path(path)
        check_int("max_length", max_length, "1 or more", least=1)
        check_finite("idempotency_window", idempotency_window)
        check_finite("poll_interval", poll_interval, least=_SHORTEST)
        check_finite("busy_timeout", busy_timeout, least=0)
        self._layout = Layout(self._path, check_partitions(partitions), busy_timeout)
        self._limits = log.Limits(self._path, partitions or 1, max_length, idempotency_window)
        self._poll_interval = poll_interval

    @property
    def path(self) -> str:
        """The file."""
        return self._path

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Connection]:
        """Open the file.

        Raises:
            TransportUnavailable: it is locked for longer than `busy_timeout`, or the disk is full.
            TransportUnusable: it is something else's, was made with another number of partitions,
                can't be opened or written, or is where SQLite can't keep a write-ahead log.
        """
        bell = bell_of(self._path)
        async with Desk(self._layout, bell) as desk:
            await desk.open()
            yield _SqliteConnection(desk, bell, self._limits, self._layout, self._poll_interval)


@final
class _SqliteConnection:
    def __init__(
        self, desk: Desk, bell: Bell, limits: log.Limits, layout: Layout, interval: float
    ) -> None:
        self._desk = desk
        self._bell = bell
        self._limits = limits
        self._is_exclusive = layout.partitions is not None
        self._interval = interval

    @property
    def address(self) -> str:
        return self._limits.path

    @property
    def partitions(self) -> int:
        return self._limits.partitions

    @property
    def is_exclusive(self) -> bool:
        return self._is_exclusive

    @property
    def max_length(self) -> int:
        return self._limits.max_length

    async def store(self, batch: Batch) -> None:
        await self._desk.write(lambda db: log.store(db, batch, self._limits, time()), rings=True)

    async def join(self, member: Member) -> Sequence[str]:
        return await self._desk.write(lambda db: groups.join(db, member, time()))

    async def leave(self, member: Member) -> None:
        await self._desk.write(lambda db: groups.leave(db, member))

    async def acquire(self, member: Member, partition: int) -> Lease | None:
        held = await self._desk.write(
            lambda db: leases.acquire(
                db, member, partition, time(), is_exclusive=self._is_exclusive
            )
        )
        return None if held is None else _SqliteLease(self._desk, self._bell, held, self._interval)

    async def standing(self, group: str) -> Standing:
        return await self._desk.read(lambda db: groups.standing(db, group))

    async def groups(self) -> Sequence[str]:
        return await self._desk.read(groups.groups)

    async def forget(self, group: str) -> None:
        await self._desk.write(lambda db: groups.forget(db, group))

    async def dead_letters(
        self, group: str, *, after: str | None = None, limit: int = 100
    ) -> Sequence[DeadLetter]:
        (last,) = place_of(after, 1) or (0,)
        return await self._desk.read(lambda db: groups.dead_letters(db, group, last, limit))

    async def redrive(self, group: str, ids: Sequence[str]) -> int:
        return await self._desk.write(lambda db: groups.redrive(db, group, ids), rings=True)

    async def tail(
        self, after: Sequence[str] | None, limit: int, wait: float
    ) -> tuple[Sequence[Stored], Sequence[str]]:
        if after is None:
            positions = await self._desk.read(log.ends)
        else:
            positions = [int(each) for each in after]

        async def look() -> Sequence[Stored]:
            return await self._desk.read(lambda db: log.tail(db, positions, limit))

        found = await self._bell.wait_for(look, wait, self._interval)
        for partition, position, _, _ in found:
            positions[partition] = int(position)
        return found, [str(each) for each in positions]


@final
class _SqliteLease:
    def __init__(self, desk: Desk, bell: Bell, held: leases.Held, interval: float) -> None:
        self._desk = desk
        self._bell = bell
        self._held = held
        self._interval = interval
        # Given, and not taken by a call that was cancelled.
        self._given: list[Delivery] = []

    @property
    def partition(self) -> int:
        return self._held.partition

    @property
    def token(self) -> int:
        return self._held.token

    async def receive(self, limit: int, wait: float) -> Sequence[Delivery]:
        return await self._bell.wait_for(lambda: self._look(limit), wait, self._interval)

    async def _look(self, limit: int) -> Sequence[Delivery]:
        is_waiting = await self._desk.read(lambda db: leases.is_waiting(db, self._held, time()))
        if is_waiting and not self._given:
            await self._give(limit)
        taken, self._given[:limit] = self._given[:limit], []
        return taken

    async def _give(self, limit: int) -> None:
        await self._desk.write(
            lambda db: leases.give(db, self._held, limit, time()), keep=self._given.extend
        )

    async def settle(self, outcomes: Sequence[Outcome]) -> None:
        rings = any(isinstance(each, Returned) for each in outcomes)
        await self._desk.write(
            lambda db: leases.settle(db, self._held, outcomes, time()), rings=rings
        )

    async def renew(self) -> Standing:
        return await self._desk.write(lambda db: leases.renew(db, self._held, time()))

    async def release(self) -> None:
        await self._desk.write(
            lambda db: leases.release(db, self._held, self._given, time()), rings=True
        )


def _checked_path(path: str | os.PathLike[str]) -> str:
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be a str or a pathlib.Path, not {reprlib.repr(path)}")
    if os.fspath(path) in _NOWHERE:
        raise ValueError(
            f"path must name a file, not {path!r}; MemoryTransport() keeps events in memory"
        )
    return os.path.realpath(path)
