"""A transport around the one in memory, each of whose calls a fault can override."""

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from anyio import current_time

from flexiflow.extras.durable import (
    Batch,
    Connection,
    DeadLetter,
    Delivery,
    Followed,
    Member,
    MemoryTransport,
    Outcome,
    Record,
    Replayed,
    Room,
    ScheduledRecord,
    Settled,
    Standing,
    Start,
    Stored,
    Survey,
)
from flexiflow.extras.durable._logs import MAX_EVENT_BYTES, MAX_SCHEDULED
from flexiflow.extras.durable._memory.group import Group
from flexiflow.extras.durable._memory.log import Log
from flexiflow.extras.durable._memory.readings import Reading

if TYPE_CHECKING:
    from flexiflow.extras.durable import Lease
    from flexiflow.extras.durable._memory.entries import Entry


class PlainLease:
    """A lease that does what the one in memory does."""

    def __init__(self, lease: Any, transport: "PlainTransport", member: Member) -> None:
        self.lease: Lease = lease
        self.transport = transport
        self.member = member

    @property
    def partition(self) -> int:
        return self.lease.partition

    @property
    def token(self) -> int:
        return self.lease.token

    @property
    def group(self) -> Group:
        return self.transport.memory._state.groups[self.member.group]

    @property
    def reading(self) -> Reading:
        return self.group.readings[self.partition]

    @property
    def log(self) -> Log:
        return self.transport.memory._state.logs[self.partition]

    @property
    def is_late(self) -> bool:
        """Whether it has run out."""
        return self.token not in self.reading.live(current_time())

    def entries(self, outcomes: Sequence[Outcome]) -> "list[Entry]":
        """Return the group's entries of the records that are to be settled."""
        places = [int(each.position) for each in outcomes if not isinstance(each, Followed)]
        kept = {**self.reading._pending, **self.reading._waiting}
        return [kept[place] for place in places if place in kept]

    @property
    def lines(self) -> Collection[str]:
        return self.lease.lines

    @property
    def replay(self) -> int:
        return self.lease.replay

    async def receive(self, room: Room) -> Sequence[Delivery]:
        return await self.lease.receive(room)

    async def wait(self, seconds: float) -> None:
        await self.lease.wait(seconds)

    async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
        return await self.lease.settle(outcomes)

    async def renew(self, positions: Sequence[str] = ()) -> Sequence[str]:
        return await self.lease.renew(positions)

    async def release(self) -> None:
        await self.lease.release()


class PlainTransport:
    """A transport that does what the one in memory does; it is also its own connection."""

    lease_type = PlainLease
    connection: Connection

    def __init__(
        self,
        *,
        partitions: int | None = None,
        max_length: int = 1_000_000,
        idempotency_window: float = 600.0,
        max_event_bytes: int = MAX_EVENT_BYTES,
        max_scheduled: int = MAX_SCHEDULED,
    ) -> None:
        self.max_scheduled = max_scheduled
        self.memory = MemoryTransport(
            partitions=partitions,
            max_length=max_length,
            idempotency_window=idempotency_window,
            max_event_bytes=max_event_bytes,
            max_scheduled=max_scheduled,
        )

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator["PlainTransport"]:
        async with self.memory.connect() as self.connection:
            yield self
        self.closed()

    def closed(self) -> None:
        """Do nothing; for a fault to override."""

    @property
    def address(self) -> str:
        return self.connection.address

    @property
    def partitions(self) -> int:
        return self.connection.partitions

    @property
    def is_exclusive(self) -> bool:
        return self.connection.is_exclusive

    @property
    def max_length(self) -> int:
        return self.connection.max_length

    @property
    def max_event_bytes(self) -> int:
        return self.connection.max_event_bytes

    async def store(self, batch: Batch) -> None:
        await self.connection.store(batch)

    async def produced(self, producer: str) -> int:
        return await self.connection.produced(producer)

    def new_ticket(self, key: str | None) -> str:
        return self.connection.new_ticket(key)

    async def schedule(
        self, ticket: str, record: Record, *, at: float | None = None, delay: float | None = None
    ) -> None:
        await self.connection.schedule(ticket, record, at=at, delay=delay)

    async def cancel(self, ticket: str) -> bool:
        return await self.connection.cancel(ticket)

    async def scheduled(
        self, *, after: ScheduledRecord | None = None, limit: int = 100
    ) -> Sequence[ScheduledRecord]:
        return await self.connection.scheduled(after=after, limit=limit)

    async def replay(self, group: str, since: Start) -> Replayed:
        return await self.connection.replay(group, since)

    async def survey(self) -> Survey:
        return await self.connection.survey()

    async def discard(self, group: str, ids: Sequence[str]) -> int:
        return await self.connection.discard(group, ids)

    async def join(self, member: Member) -> Sequence[str]:
        return await self.connection.join(member)

    async def leave(self, member: Member) -> None:
        await self.connection.leave(member)

    async def acquire(self, member: Member, partition: int) -> PlainLease | None:
        lease = await self.connection.acquire(member, partition)
        return None if lease is None else self.lease_type(lease, self, member)

    async def standing(self, group: str) -> Standing:
        return await self.connection.standing(group)

    async def groups(self) -> Sequence[str]:
        return await self.connection.groups()

    async def forget(self, group: str) -> None:
        await self.connection.forget(group)

    async def dead_letters(
        self, group: str, *, after: str | None = None, limit: int = 100
    ) -> Sequence[DeadLetter]:
        return await self.connection.dead_letters(group, after=after, limit=limit)

    async def redrive(self, group: str, ids: Sequence[str]) -> int:
        return await self.connection.redrive(group, ids)

    async def tail(
        self, after: Sequence[str] | None, limit: int, wait: float
    ) -> tuple[Sequence[Stored], Sequence[str]]:
        return await self.connection.tail(after, limit, wait)


async def damage(transport: Any, partition: int, position: str) -> None:
    """Delete a stored record behind the back of a transport in memory."""
    memory: MemoryTransport = getattr(transport, "memory", transport)
    del memory._state.logs[partition].records[int(position)]


async def insert(transport: Any, partition: int, body: bytes) -> None:
    """Store a body behind the back of a transport in memory."""
    memory: MemoryTransport = getattr(transport, "memory", transport)
    memory._state.logs[partition].append(Record(body))


async def empty(transport: Any) -> None:
    """Lose all that a transport in memory holds, and count it as missed, as a server's loss is."""
    memory: MemoryTransport = getattr(transport, "memory", transport)
    for group in memory._state.groups.values():
        for log, reading in zip(memory._state.logs, group.readings, strict=True):
            lag = sum(position > reading.given for position in log.records)
            reading.missed += reading.pending + reading.waiting + lag
            reading.leases.clear()
            reading._pending.clear()
            reading._waiting.clear()
            reading.given = log.last
    for log in memory._state.logs:
        log.records.clear()
