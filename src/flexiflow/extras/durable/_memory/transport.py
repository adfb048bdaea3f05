"""A transport within one process: it behaves as the others do, but nothing outlives the process."""

from __future__ import annotations

from contextlib import asynccontextmanager
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, final

from anyio.lowlevel import checkpoint

from flexiflow._clock import time_of_day
from flexiflow.extras.durable._errors import ScheduleFull, no_group
from flexiflow.extras.durable._logs import (
    MAX_EVENT_BYTES,
    MAX_SCHEDULED,
    ConnectionBase,
    check_limits,
    check_record,
    check_records,
    numbers_after,
    numbers_of,
    spread,
)
from flexiflow.extras.durable._memory.group import Group
from flexiflow.extras.durable._memory.lease import MemoryLease
from flexiflow.extras.durable._memory.state import State
from flexiflow.extras.durable._records import Stored
from flexiflow.extras.durable._starts import begin, begin_again
from flexiflow.extras.durable._surveys import LogSurvey, Standing, Survey
from flexiflow.extras.durable._tickets import partition_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from flexiflow.extras.durable._lease import Lease
    from flexiflow.extras.durable._logs import LogLimits
    from flexiflow.extras.durable._memory.group import Dead
    from flexiflow.extras.durable._memory.log import Log
    from flexiflow.extras.durable._records import (
        Batch,
        DeadLetter,
        Member,
        Record,
        Replayed,
        ScheduledRecord,
        Start,
    )
    from flexiflow.extras.durable._transport import Connection


@final
class MemoryTransport:
    """A transport that lasts as long as this object, for tests and within one process.

    All its users run in the same event loop at a time.

    Args:
        partitions: how many logs there are, 1 to 65,536, each read by one worker of a group at
            a time (X4); None for one log that all workers of a group share.
        max_length: how many records a log may hold, 1 to 10**12. Records that every group has
            settled are deleted when there is no room for new ones (X5).
        idempotency_window: for how many seconds after its last batch a producer is remembered (X2),
            and the ticket of a scheduled event after that was put into its log or cancelled (Y3).
        max_event_bytes: how many bytes an event may have as stored, 1 to 10**12 (X14).
        max_scheduled: how many events may be scheduled at a time, 1 to 10**12; for each log (Y3).

    Raises:
        ValueError: a number out of its range.

    Example:
        >>> import anyio
        >>> from flexiflow.extras.durable import Batch, MemoryTransport, Record
        >>> async def main():
        ...     async with MemoryTransport(partitions=2).connect() as connection:
        ...         await connection.store(Batch("shop-1", 1, (Record(b"{}"),)))
        ...         print(connection.partitions, await connection.produced("shop-1"))
        >>> anyio.run(main)
        2 1
    """

    def __init__(
        self,
        *,
        partitions: int | None = None,
        max_length: int = 1_000_000,
        idempotency_window: float = 600.0,
        max_event_bytes: int = MAX_EVENT_BYTES,
        max_scheduled: int = MAX_SCHEDULED,
    ) -> None:
        self._limits = check_limits(
            partitions=partitions,
            max_length=max_length,
            idempotency_window=idempotency_window,
            max_event_bytes=max_event_bytes,
            max_scheduled=max_scheduled,
        )
        self._state = State(self._limits)

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Connection]:
        """Open a connection."""
        await checkpoint()
        yield _MemoryConnection(self._state, self._limits)


@final
class _MemoryConnection(ConnectionBase):
    def __init__(self, state: State, limits: LogLimits) -> None:
        super().__init__(state.address, limits, state.name, state.turns)
        self._state = state

    async def store(self, batch: Batch) -> None:
        await checkpoint()
        state = self._state
        check_records(batch, self.max_event_bytes)
        if state.producers.last_of(batch.producer) >= batch.number:
            return
        parts = spread(batch, self.partitions)
        today = state.put_due(parts)
        for partition, records in parts.items():
            state.make_room(partition, len(records), today)
        for partition, records in parts.items():
            for record in records:
                state.logs[partition].append(record, today)
        state.producers.note(batch, state.now())
        state.bell.ring()

    async def produced(self, producer: str) -> int:
        await checkpoint()
        return self._state.producers.last_of(producer)

    async def schedule(
        self, ticket: str, record: Record, *, at: float | None = None, delay: float | None = None
    ) -> None:
        await checkpoint()
        state = self._state
        partition = partition_of(ticket, state.name, self.partitions)
        schedule = state.logs[partition].schedule
        check_record(record, self.max_event_bytes)
        today = state.put_due([partition])
        if schedule.knows(ticket):
            return
        if len(schedule) >= self._limits.max_scheduled:
            raise ScheduleFull(self.address, self._limits.max_scheduled)
        schedule.add(ticket, record, at if at is not None else today + (delay or 0.0))
        state.bell.ring()

    async def cancel(self, ticket: str) -> bool:
        await checkpoint()
        state = self._state
        partition = partition_of(ticket, state.name, self.partitions)
        return state.logs[partition].schedule.cancel(ticket, time_of_day())

    async def scheduled(
        self, *, after: ScheduledRecord | None = None, limit: int = 100
    ) -> Sequence[ScheduledRecord]:
        await checkpoint()
        parts = (log.schedule.after(after) for log in self._state.logs)
        return list(islice(merge(*parts, key=lambda each: (each.due, each.ticket)), limit))

    async def join(self, member: Member) -> Sequence[str]:
        await checkpoint()
        state, name = self._state, member.group
        if name not in state.groups:
            state.put_due()
            begins = begin(name, state.logs, member.start)
            state.groups[name] = Group(
                name, state.logs, begins, state.new_replay(), is_exclusive=self.is_exclusive
            )
        return state.groups[name].join(member, state.now())

    async def leave(self, member: Member) -> None:
        await checkpoint()
        group = self._state.groups.get(member.group)
        if group is not None:
            group.leave(member)

    async def acquire(self, member: Member, partition: int) -> Lease | None:
        await checkpoint()
        state, now = self._state, self._state.now()
        group = state.groups.get(member.group)
        if group is None:
            # The group was forgotten since the member joined; the member has to join again.
            return None
        reading, lines = group.readings[partition], set[str]()
        if member.patterns != group.patterns or (self.is_exclusive and reading.live(now)):
            return None
        token, until = next(state.tokens), now + member.lease
        if self.is_exclusive:
            lines = reading.take_over(token, until)
        else:
            reading.leases[token] = until
        return MemoryLease(state, self._limits, group, member, partition, token, lines)

    async def standing(self, group: str) -> Standing:
        await checkpoint()
        self._state.put_due()
        found = self._state.groups.get(group)
        return Standing.total([] if found is None else found.standings())

    async def groups(self) -> Sequence[str]:
        await checkpoint()
        return sorted(self._state.groups)

    async def forget(self, group: str) -> None:
        await checkpoint()
        self._state.groups.pop(group, None)

    async def replay(self, group: str, since: Start) -> Replayed:
        await checkpoint()
        found = self._state.groups.get(group)
        if found is None:
            raise no_group(group)
        self._state.put_due()
        begins, replayed = begin_again(self._state.logs, since)
        found.begin_again(begins, self._state.new_replay(), self._state.now())
        self._state.bell.ring()
        return replayed

    async def survey(self) -> Survey:
        await checkpoint()
        state = self._state
        today = state.put_due()
        logs = tuple(map(_survey, state.logs))
        groups = (group.survey(state.now(), today) for _, group in sorted(state.groups.items()))
        return Survey(today, logs, tuple(groups), sum(each.size or 0 for each in logs))

    async def dead_letters(
        self, group: str, *, after: str | None = None, limit: int = 100
    ) -> Sequence[DeadLetter]:
        await checkpoint()
        found = self._state.groups.get(group)
        dead = found.dead if found is not None else {}
        (last,) = numbers_after(after, 1) or (0,)
        return list(islice((each.letter for no, each in dead.items() if no > last), limit))

    async def redrive(self, group: str, ids: Sequence[str]) -> int:
        await checkpoint()
        dead = self._take_dead(group, ids)
        today = self._state.put_due({each.partition for each in dead})
        for each in dead:
            self._state.logs[each.partition].append(each.record, today, origin=each.origin)
        self._state.bell.ring()
        return len(dead)

    async def discard(self, group: str, ids: Sequence[str]) -> int:
        await checkpoint()
        return len(self._take_dead(group, ids))

    def _take_dead(self, group: str, ids: Sequence[str]) -> list[Dead]:
        """Delete dead letters, and return those that there were."""
        found = self._state.groups.get(group)
        letters = {} if found is None else found.dead
        taken = [letters.pop(number, None) for (number,) in numbers_of(ids, 1)]
        return [each for each in taken if each is not None]

    async def tail(
        self, after: Sequence[str] | None, limit: int, wait: float
    ) -> tuple[Sequence[Stored], Sequence[str]]:
        state = self._state
        state.put_due()
        positions = [log.last for log in state.logs] if after is None else [*map(int, after)]

        async def look() -> list[Stored]:
            await checkpoint()
            state.put_due()
            return [
                Stored(partition, str(at), record.body, record.group, log.times.get(at))
                for partition, log in enumerate(state.logs)
                for at, record in islice(log.since(positions[partition]), limit)
            ]

        return await state.bell.tail(look, positions, wait, due_in=state.due_in)


def _survey(log: Log) -> LogSurvey:
    size = sum(len(each.body) for each in log.records.values())
    return LogSurvey(len(log.records), log.times.get(log.first), len(log.schedule), size)
