"""A connection to the SQLite transport's file: the methods that a bridge calls.

Each hands a function of plain SQL statements, such as `storing.store` or `groups.join`, to the
`JobRunner`, which runs it in a thread, in a transaction. The `Bell` wakes tasks of the same event
loop after what others may wait for.
"""

from __future__ import annotations

from functools import partial
from math import inf
from time import time
from typing import TYPE_CHECKING, TypeVar, final

from flexiflow.extras.durable._logs import ConnectionBase, check_record, numbers_after
from flexiflow.extras.durable._records import ScheduledRecord
from flexiflow.extras.durable._sqlite import groups, leases, log, schedule, storing
from flexiflow.extras.durable._sqlite.lease import SqliteLease
from flexiflow.extras.durable._sqlite.replaying import replay
from flexiflow.extras.durable._sqlite.starts import look_for, scan
from flexiflow.extras.durable._sqlite.survey import survey
from flexiflow.extras.durable._tickets import partition_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from flexiflow.extras._sqlite.jobs import JobRunner
    from flexiflow.extras.durable._bell import Bell
    from flexiflow.extras.durable._lease import Lease
    from flexiflow.extras.durable._logs import LogLimits
    from flexiflow.extras.durable._records import (
        Batch,
        DeadLetter,
        Member,
        Record,
        Replayed,
        Start,
        Stored,
    )
    from flexiflow.extras.durable._sqlite.starts import LogScan
    from flexiflow.extras.durable._surveys import Standing, Survey

T = TypeVar("T")


@final
class SqliteConnection(ConnectionBase):
    """A connection, as `Connection` describes it.

    Args:
        path: the file.
        limits: the transport's limits.
        jobs: does what the connection wants from the file.
        bell: wakes those who wait.
        interval: the seconds between looks for what other processes have done.
        name: tells the file from all others, in tickets.
    """

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

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
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
        if await self._read(lambda db: groups.id_of(db, member.group)) is not None:
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
        return await self._read(lambda db: groups.standing(db, group))

    async def groups(self) -> Sequence[str]:
        return await self.jobs.read(groups.groups)

    async def forget(self, group: str) -> None:
        await self.jobs.write(lambda db: groups.forget(db, group))

    async def replay(self, group: str, since: Start) -> Replayed:
        # The logs are not read for a group that is not there, nor before what is due is in them.
        await self._read(lambda db: groups.known_id_of(db, group))
        found = await scan(self.jobs, since)
        return await self._change(lambda db: replay(db, group, found, time()), rings=True)

    async def survey(self) -> Survey:
        return await self._read(lambda db: survey(db, time()))

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
        positions = await self._read(log.ends) if after is None else list(map(int, after))
        next_due = inf

        def find(db: sqlite3.Connection) -> tuple[Sequence[Stored], float]:
            found = log.tail(db, positions, limit, self.max_event_bytes)
            return found, schedule.next_of_all(db)

        async def look() -> Sequence[Stored]:
            nonlocal next_due
            found, next_due = await self._read(find)
            return found

        return await self._bell.tail(
            look, positions, wait, self._interval, lambda: next_due - time()
        )
