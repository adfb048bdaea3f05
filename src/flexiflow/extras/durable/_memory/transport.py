"""A transport within one process: it behaves as the others do, but nothing outlives the process."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

from contextlib import asynccontextmanager
from itertools import count, islice
from math import inf
from time import time
from typing import TYPE_CHECKING, Final, NamedTuple, final

import anyio
from anyio.lowlevel import checkpoint

from flexiflow.extras.durable._bell import Bell
from flexiflow.extras.durable._errors import LeaseLost, LogFull
from flexiflow.extras.durable._logs import (
    MAX_EVENT_BYTES,
    MAX_SCHEDULED,
    ConnectionBase,
    check_limits,
    check_records,
    numbers_after,
    numbers_of,
    spread,
)
from flexiflow.extras.durable._memory.groups import Group, Log
from flexiflow.extras.durable._records import (
    Buried,
    Followed,
    Postponed,
    Room,
    Settled,
    Standing,
    Stored,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Sequence

    from flexiflow.extras.durable._memory.groups import Reading
    from flexiflow.extras.durable._records import (
        Batch,
        DeadLetter,
        Delivery,
        Member,
        Outcome,
        Settling,
    )
    from flexiflow.extras.durable._transport import Connection, Lease

_ADDRESS: Final = "memory"


class _Produced(NamedTuple):
    """The last batch of a producer."""

    number: int
    at: float


@final
class MemoryTransport:
    """A transport that lasts as long as this object, for tests and within one process.

    All its users run in the same event loop at a time.

    Args:
        partitions: how many logs there are, 1 to 65,536, each read by one worker of a group at
            a time (X4); None for one log that all workers of a group share.
        max_length: how many records a log may hold, 1 to 10**12. Records that every group has
            settled are deleted when there is no room for new ones (X5).
        idempotency_window: for how many seconds after its last batch a producer is remembered (X2).
        max_event_bytes: how many bytes an event may have as stored, 1 to 10**12 (X14).
        max_scheduled: how many events may be scheduled at a time, 1 to 10**12; for each log (Y3).

    Raises:
        ValueError: a number out of its range.
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
        self._logs = [Log() for _ in range(self._limits.logs)]
        self._groups: dict[str, Group] = {}
        self._producers: dict[str, _Produced] = {}
        self._tokens = count(1)
        self._bell = Bell()

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Connection]:
        """Open a connection."""
        await checkpoint()
        yield _MemoryConnection(self)


@final
class _MemoryConnection(ConnectionBase):
    def __init__(self, transport: MemoryTransport) -> None:
        super().__init__(_ADDRESS, transport._limits)
        self._transport = transport

    async def store(self, batch: Batch) -> None:
        await checkpoint()
        transport, now = self._transport, anyio.current_time()
        check_records(batch, self.max_event_bytes)
        producers = transport._producers
        if batch.producer in producers and producers[batch.producer].number >= batch.number:
            return
        parts = spread(batch, self.partitions)
        for partition, records in parts.items():
            self._make_room(partition, len(records))
        for partition, records in parts.items():
            for record in records:
                transport._logs[partition].append(record)
        producers.pop(batch.producer, None)
        producers[batch.producer] = _Produced(batch.number, now)
        # The dict is in the order of storing: the one that stored last is last.
        while producers[oldest := next(iter(producers))].at < now - self._limits.window:
            del producers[oldest]
        transport._bell.ring()

    def _make_room(self, partition: int, wanted: int) -> None:
        log, max_length = self._transport._logs[partition], self.max_length
        readings = (group.readings[partition] for group in self._transport._groups.values())
        floor = min((each.floor for each in readings), default=log.last)
        if not log.make_room(len(log.records) + wanted - max_length, floor):
            raise LogFull(_ADDRESS, max_length)

    async def join(self, member: Member) -> Sequence[str]:
        await checkpoint()
        groups = self._transport._groups
        if member.group not in groups:
            groups[member.group] = Group(
                member.group, self._transport._logs, is_exclusive=self.is_exclusive
            )
        return groups[member.group].join(member, anyio.current_time())

    async def leave(self, member: Member) -> None:
        await checkpoint()
        group = self._transport._groups.get(member.group)
        if group is not None:
            group.leave(member)

    async def acquire(self, member: Member, partition: int) -> Lease | None:
        await checkpoint()
        transport, now = self._transport, anyio.current_time()
        group = transport._groups.get(member.group)
        if group is None:
            # The group was forgotten since the member joined; the member has to join again.
            return None
        reading, lines = group.readings[partition], set[str]()
        if member.patterns != group.patterns or (self.is_exclusive and reading.live(now)):
            return None
        token, until = next(transport._tokens), now + member.lease
        if self.is_exclusive:
            lines = reading.take_over(token, until)
        else:
            reading.leases[token] = until
        return _MemoryLease(transport, group, member, partition, token, lines)

    async def standing(self, group: str) -> Standing:
        await checkpoint()
        found = self._transport._groups.get(group)
        if found is None:
            return Standing(0, 0, 0, 0)
        parts = list(map(_standing, self._transport._logs, found.readings))
        pending, lag, missed, waiting = (sum(column) for column in zip(*parts, strict=True))
        return Standing(pending, lag, missed, len(found.dead), waiting)

    async def groups(self) -> Sequence[str]:
        await checkpoint()
        return sorted(self._transport._groups)

    async def forget(self, group: str) -> None:
        await checkpoint()
        self._transport._groups.pop(group, None)

    async def dead_letters(
        self, group: str, *, after: str | None = None, limit: int = 100
    ) -> Sequence[DeadLetter]:
        await checkpoint()
        found = self._transport._groups.get(group)
        dead = found.dead if found is not None else {}
        (last,) = numbers_after(after, 1) or (0,)
        return list(islice((each.letter for no, each in dead.items() if no > last), limit))

    async def redrive(self, group: str, ids: Sequence[str]) -> int:
        await checkpoint()
        found = self._transport._groups.get(group)
        letters = {} if found is None else found.dead
        taken = [letters.pop(number, None) for (number,) in numbers_of(ids, 1)]
        dead = [each for each in taken if each is not None]
        for _, record, partition in dead:
            self._transport._logs[partition].append(record)
        self._transport._bell.ring()
        return len(dead)

    async def tail(
        self, after: Sequence[str] | None, limit: int, wait: float
    ) -> tuple[Sequence[Stored], Sequence[str]]:
        logs, bell = self._transport._logs, self._transport._bell
        positions = [log.last for log in logs] if after is None else [int(each) for each in after]

        async def look() -> list[Stored]:
            await checkpoint()
            return [
                Stored(partition, str(position), record.body, record.group)
                for partition, log in enumerate(logs)
                for position, record in islice(log.since(positions[partition]), limit)
            ]

        return await bell.tail(look, positions, wait)


@final
class _MemoryLease:
    def __init__(
        self,
        transport: MemoryTransport,
        group: Group,
        member: Member,
        partition: int,
        token: int,
        lines: Collection[str],
    ) -> None:
        self.partition = partition
        self.token = token
        self.lines = lines
        self._transport = transport
        self._of = group
        self._member = member
        # The room of the last `receive`, and the event that is set by the first change after it.
        self._room = Room(1)
        self._seen = transport._bell.rung

    async def receive(self, room: Room) -> Sequence[Delivery]:
        await checkpoint()
        reading = self._reading()
        self._room, self._seen = room, self._transport._bell.rung
        if not self._is_taker():
            return []
        log = self._transport._logs[self.partition]
        most = self._transport._limits.max_event_bytes
        return reading.give(log, room, self.token, anyio.current_time(), most=most)

    async def wait(self, seconds: float) -> None:
        await checkpoint()
        deadline = min(anyio.current_time() + seconds, self._next_at())
        with anyio.CancelScope(deadline=deadline):
            await self._seen.wait()

    def _next_at(self) -> float:
        """Return when there may be something to receive, if nothing changes."""
        reading, log = self._reading(), self._transport._logs[self.partition]
        if not self._is_taker():
            return inf
        return reading.next_at(log, self._room, self.token, anyio.current_time())

    async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
        await checkpoint()
        group, now = self._group(), anyio.current_time()
        reading, log = group.readings[self.partition], self._transport._logs[self.partition]
        lost: list[str] = []
        keys: list[str] = []
        for outcome in outcomes:
            if isinstance(outcome, Followed):
                reading.follow(outcome.key, self.token, now)
                keys.append(outcome.key)
                continue
            is_lost, dead = reading.settle(log, self._clamped(outcome), self.token, now)
            if is_lost:
                lost.append(outcome.position)
            if dead is not None and isinstance(outcome, Buried):
                group.bury(outcome, dead, self.partition, time())
        self._transport._bell.ring()
        # Only now raise if the lease is lost: the ends of its attempts are to be written, too.
        self._reading()
        return Settled(lost, [key for key in keys if reading.is_over(key, self.token)])

    def _clamped(self, outcome: Settling) -> Settling:
        """Return the outcome, with a delay no longer than `longest_delay`."""
        if isinstance(outcome, Postponed) and outcome.delay is not None:
            return outcome._replace(delay=min(outcome.delay, self._member.longest_delay))
        return outcome

    async def renew(self, positions: Sequence[str] = ()) -> Sequence[str]:
        await checkpoint()
        reading = self._reading()
        reading.leases[self.token] = anyio.current_time() + self._member.lease
        return reading.lost(positions, self.token)

    async def release(self) -> None:
        await checkpoint()
        self._reading().leases.pop(self.token)
        self._transport._bell.ring()

    def _is_taker(self) -> bool:
        return self._member.patterns == self._group().patterns

    def _group(self) -> Group:
        # A new group of the same name knows nothing of this lease.
        if self._transport._groups.get(self._member.group) is not self._of:
            raise self._lost()
        return self._of

    def _reading(self) -> Reading:
        reading = self._group().readings[self.partition]
        if self.token not in reading.leases:
            raise self._lost()
        return reading

    def _lost(self) -> LeaseLost:
        return LeaseLost(self._member.consumer, self._member.group, self.partition)


def _standing(log: Log, reading: Reading) -> tuple[int, int, int, int]:
    lag = sum(position > reading.given for position in log.records)
    return reading.pending, lag, reading.missed, reading.waiting
