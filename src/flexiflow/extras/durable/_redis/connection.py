"""An open transport on Redis Streams: what a bridge and the command line ask of the servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, final
from zlib import crc32

from flexiflow.extras.durable._errors import LogFull
from flexiflow.extras.durable._logs import ConnectionBase, check_records, spread
from flexiflow.extras.durable._redis.entries import key_of, milliseconds
from flexiflow.extras.durable._redis.lease import RedisLease, Right
from flexiflow.extras.durable._redis.letters import Letters
from flexiflow.extras.durable._redis.members import Members, digest
from flexiflow.extras.durable._redis.schedules import Schedules
from flexiflow.extras.durable._redis.scripts import (
    ACQUIRE,
    FORGET,
    GROUPS,
    PRODUCED,
    STORE,
)
from flexiflow.extras.durable._redis.starts import Starts
from flexiflow.extras.durable._redis.surveys import standings, survey
from flexiflow.extras.durable._redis.tailing import Tailing
from flexiflow.extras.durable._surveys import Standing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flexiflow.extras.durable._lease import Lease
    from flexiflow.extras.durable._logs import LogLimits
    from flexiflow.extras.durable._records import (
        Batch,
        DeadLetter,
        Member,
        Record,
        Replayed,
        ScheduledRecord,
        Start,
        Stored,
    )
    from flexiflow.extras.durable._redis.network import Network
    from flexiflow.extras.durable._surveys import Survey


@final
class RedisConnection(ConnectionBase):
    """An open transport; see `Connection`, which describes its methods.

    Args:
        network: the servers.
        limits: the limits of the logs.
        replicas: how many replicas must confirm what is stored.
    """

    def __init__(self, network: Network, limits: LogLimits, replicas: int) -> None:
        super().__init__(network.address, limits, network.name)
        self._network = network
        self._replicas = replicas
        self._letters = Letters(network, self.partitions)
        self._schedules = Schedules(network, limits, replicas)
        self._starts = Starts(network, self.partitions)
        self._members = Members(network, self.partitions, self._starts)
        self._tailing = Tailing(network, self.partitions, self.max_event_bytes)

    async def open(self) -> None:
        """Check that the server can be used; migrate the keys of an earlier release."""
        network = self._network
        await network.check()
        await network.run(0, GROUPS)
        if network.is_former:
            # Any script migrates its partition; this one changes nothing else.
            for partition in range(1, self.partitions):
                await network.run(partition, GROUPS)

    async def store(self, batch: Batch) -> None:
        check_records(batch, self.max_event_bytes)
        parts = dict(spread(batch, self.partitions))
        if len(parts) > 1:
            # First only make room in each, so that nothing is stored if one partition is full.
            for partition, records in parts.items():
                await self._store(batch, partition, records, for_good=False)
        if batch.is_lasting:
            # Its number is written there once all of the batch is stored.
            home = self._home(batch.producer)
            parts[home] = parts.pop(home, ())
        for partition, records in parts.items():
            await self._store(batch, partition, records, for_good=True)

    def _home(self, producer: str) -> int:
        """Return the partition that has the number of the last batch of a lasting producer."""
        return crc32(producer.encode()) % self.partitions

    async def _store(
        self, batch: Batch, partition: int, records: Sequence[Record], *, for_good: bool
    ) -> None:
        limits, known = self._limits, self._network.epochs.of(partition)
        status, *answer = await self._network.run(
            partition,
            STORE,
            batch.producer,
            batch.number,
            "" if batch.is_lasting else milliseconds(limits.window),
            limits.max_length,
            int(for_good),
            known.stir,
            len(records),
            *(each for record in records for each in (_flat(record) if for_good else ())),
            replicas=self._replicas if for_good else 0,
        )
        if status == b"FULL":
            raise LogFull(self.address, limits.max_length)
        if answer:
            epoch, last, *news = answer
            known.note(epoch, last, records[-1].body if records else None)
            if news:
                known.hear(epoch, *news)

    async def produced(self, producer: str) -> int:
        home, last = self._home(producer), 0
        asked = dict.fromkeys(range(self.partitions), (producer,))
        answers = await self._network.run_all(PRODUCED, asked)
        for partition, (_, number, is_part) in answers.items():
            # A part of a lasting batch does not tell that all of the batch was stored.
            if partition == home or not is_part:
                last = max(last, number)
        return last

    async def schedule(
        self, ticket: str, record: Record, *, at: float | None = None, delay: float | None = None
    ) -> None:
        await self._schedules.add(ticket, record, at=at, delay=delay)

    async def cancel(self, ticket: str) -> bool:
        return await self._schedules.cancel(ticket)

    async def scheduled(
        self, *, after: ScheduledRecord | None = None, limit: int = 100
    ) -> Sequence[ScheduledRecord]:
        return await self._schedules.read(after, limit)

    async def join(self, member: Member) -> Sequence[str]:
        return await self._members.join(member)

    async def leave(self, member: Member) -> None:
        await self._members.leave(member)

    async def acquire(self, member: Member, partition: int) -> Lease | None:
        text = digest(member.patterns)
        status, *answer = await self._network.run(
            partition,
            ACQUIRE,
            member.group,
            milliseconds(member.lease),
            int(self.is_exclusive),
            text,
        )
        if status == b"TAKEN":
            return None
        name, keys, replay, begin = answer
        self._network.epochs.of(partition).note_begin(name, member.group, begin)
        lines = frozenset(map(key_of, keys))
        right = Right(partition, name, text, lines, replay, self.is_exclusive)
        return RedisLease(self._network, member, right, max_event_bytes=self.max_event_bytes)

    async def standing(self, group: str) -> Standing:
        parts = await standings(self._network, self.partitions, [group])
        return Standing.total(standing for ((standing, _),) in parts)

    async def groups(self) -> Sequence[str]:
        _, names = await self._network.run(0, GROUPS)
        return sorted(each.decode() for each in names)

    async def forget(self, group: str) -> None:
        self._members.forget(group)
        self._network.epochs.leave(group)
        # Partition 0, which has the names of the groups, comes last: so a group whose deletion was
        # interrupted is still listed, and can be forgotten again.
        for partition in reversed(range(self.partitions)):
            await self._network.run(partition, FORGET, group)

    async def replay(self, group: str, since: Start) -> Replayed:
        return await self._starts.replay(group, since)

    async def survey(self) -> Survey:
        return await survey(self._network, self.partitions, await self.groups())

    async def dead_letters(
        self, group: str, *, after: str | None = None, limit: int = 100
    ) -> Sequence[DeadLetter]:
        return await self._letters.read(group, after, limit)

    async def redrive(self, group: str, ids: Sequence[str]) -> int:
        return await self._letters.redrive(group, ids)

    async def discard(self, group: str, ids: Sequence[str]) -> int:
        return await self._letters.discard(group, ids)

    async def tail(
        self, after: Sequence[str] | None, limit: int, wait: float
    ) -> tuple[Sequence[Stored], Sequence[str]]:
        return await self._tailing.read(after, limit, wait)


def _flat(record: Record) -> Iterator[bytes | str | int]:
    yield (record.key is not None) + 2 * (record.group is not None)
    yield record.body
    if record.key is not None:
        yield record.key
    if record.group is not None:
        yield record.group
