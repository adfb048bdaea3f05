"""A transport around the one in memory, each of whose calls a fault can change."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from flexiflow.extras.durable import (
    Batch,
    Connection,
    DeadLetter,
    Delivery,
    Member,
    MemoryTransport,
    Outcome,
    Standing,
    Stored,
)
from flexiflow.extras.durable._groups import Group, Reading

if TYPE_CHECKING:
    from flexiflow.extras.durable import Lease


class FaultyLease:
    """A lease that does what the one in memory does."""

    def __init__(self, lease: Any, transport: "FaultyTransport", member: Member) -> None:
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
        return self.transport.memory._groups[self.member.group]

    @property
    def reading(self) -> Reading:
        return self.group.readings[self.partition]

    async def receive(self, limit: int, wait: float) -> Sequence[Delivery]:
        return await self.lease.receive(limit, wait)

    async def settle(self, outcomes: Sequence[Outcome]) -> None:
        await self.lease.settle(outcomes)

    async def renew(self) -> Standing:
        return await self.lease.renew()

    async def release(self) -> None:
        await self.lease.release()


class FaultyTransport:
    """A transport that does what the one in memory does; its own connection, too."""

    lease_type = FaultyLease
    connection: Connection

    def __init__(self, *, partitions: int | None = None, max_length: int = 1_000_000) -> None:
        self.memory = MemoryTransport(partitions=partitions, max_length=max_length)

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator["FaultyTransport"]:
        async with self.memory.connect() as self.connection:
            yield self

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

    async def store(self, batch: Batch) -> None:
        await self.connection.store(batch)

    async def join(self, member: Member) -> Sequence[str]:
        return await self.connection.join(member)

    async def leave(self, member: Member) -> None:
        await self.connection.leave(member)

    async def acquire(self, member: Member, partition: int) -> FaultyLease | None:
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
    """Delete a stored record behind the back of a transport that is in memory."""
    memory: MemoryTransport = getattr(transport, "memory", transport)
    del memory._logs[partition].records[int(position)]
