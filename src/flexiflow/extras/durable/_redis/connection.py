"""An open transport on Redis Streams: what a bridge and the command line ask of the servers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, final
from zlib import crc32

import anyio

from flexiflow.extras._redis.script import digest_of
from flexiflow.extras.durable._errors import LogFull
from flexiflow.extras.durable._logs import PAGE_BYTES, ConnectionBase, check_records, spread
from flexiflow.extras.durable._membership import Agreement, Peer, agree
from flexiflow.extras.durable._records import Standing, Stored
from flexiflow.extras.durable._redis.entries import fields, key_of, milliseconds
from flexiflow.extras.durable._redis.lease import RedisLease, Right
from flexiflow.extras.durable._redis.letters import Letters
from flexiflow.extras.durable._redis.schedules import Schedules
from flexiflow.extras.durable._redis.scripts import (
    ACQUIRE,
    FORGET,
    GROUPS,
    JOIN,
    LEAVE,
    PATTERNS,
    PRODUCED,
    STORE,
    TAIL,
)
from flexiflow.extras.durable._redis.starts import Starts, kept, parse, restore
from flexiflow.extras.durable._redis.surveys import look_at, survey

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flexiflow.extras.durable._logs import LogLimits
    from flexiflow.extras.durable._records import (
        Batch,
        DeadLetter,
        Member,
        Record,
        Replayed,
        ScheduledRecord,
        Start,
        Survey,
    )
    from flexiflow.extras.durable._redis.network import Network
    from flexiflow.extras.durable._redis.starts import Beginning
    from flexiflow.extras.durable._transport import Lease

# The seconds between looks of `tail`.
_GLANCE: Final = 0.05


_NO_SEAT: Final = b"", Agreement((), [])


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
        # The number of the members' state that was last seen, and what they agree on in that state.
        self._seats: dict[Member, tuple[bytes, Agreement]] = {}
        # By group: the generation of its patterns that the partitions were told of, and how many
        # losses had been seen by then.
        self._told: dict[str, tuple[bytes, int]] = {}
        # The partition at which `tail` begins, so that each has its turn.
        self._first = 0

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
        for partition in range(self.partitions):
            _, number, is_part = await self._network.run(partition, PRODUCED, producer)
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
        seen, agreement = self._seats.pop(member, _NO_SEAT)
        start = parse("oldest", self.partitions)
        while True:
            status, *answer = await self._network.run(
                0,
                JOIN,
                member.group,
                member.consumer,
                member.token,
                milliseconds(member.lease),
                json.dumps(member.patterns),
                seen,
                _digest(agreement.patterns),
                *start.in_partition(0),
                kept(start),
            )
            if status == b"OK":
                break
            seen, agreement = _NO_SEAT
            if status == b"LOOK":
                # The members have changed: compute from them what all agree on, and try again.
                seen, peers, is_there = answer
                agreement = agree(member, map(_peer, peers))
                if not is_there:
                    start = await self._starts.check(member.group, member.start)
        state, generation, is_made, text, made = answer
        self._network.epochs.enter(member.group)
        if not is_made:
            start = restore(text, made, self.partitions)
        await self._tell(member.group, generation, agreement.patterns, start)
        self._seats[member] = state, agreement
        return agreement.consumers

    async def _tell(
        self, group: str, generation: bytes, patterns: Sequence[str], start: Beginning
    ) -> None:
        """Store in the other partitions what a group takes, before they give it anything (X15).

        Where the group is not there yet, it is made, and begins where its first member said.
        """
        told, digest = (generation, self._network.epochs.losses), _digest(patterns)
        if self._told.get(group) != told:
            for partition in range(1, self.partitions):
                place = *start.in_partition(partition), start.epochs[partition]
                await self._network.run(partition, PATTERNS, group, digest, generation, *place)
            self._told[group] = told

    async def leave(self, member: Member) -> None:
        self._seats.pop(member, None)
        await self._network.run(0, LEAVE, member.group, member.consumer, member.token)
        self._network.epochs.leave(member.group)

    async def acquire(self, member: Member, partition: int) -> Lease | None:
        digest = _digest(member.patterns)
        status, *answer = await self._network.run(
            partition,
            ACQUIRE,
            member.group,
            milliseconds(member.lease),
            int(self.is_exclusive),
            digest,
        )
        if status == b"TAKEN":
            return None
        name, keys, replay, begin = answer
        self._network.epochs.of(partition).note_begin(name, member.group, begin)
        lines = frozenset(map(key_of, keys))
        right = Right(partition, name, digest, lines, replay, self.is_exclusive)
        return RedisLease(self._network, member, right, max_event_bytes=self.max_event_bytes)

    async def standing(self, group: str) -> Standing:
        found = [await look_at(self._network, each, group) for each in range(self.partitions)]
        return Standing.total(part for part, _ in found)

    async def groups(self) -> Sequence[str]:
        _, names = await self._network.run(0, GROUPS)
        return sorted(each.decode() for each in names)

    async def forget(self, group: str) -> None:
        self._told.pop(group, None)
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
        positions = [""] * self.partitions
        if after is not None:
            # A stream takes "0" as "0-0", but the script compares both parts.
            positions = [each if "-" in each else f"{each}-0" for each in after]
        found: list[Stored] = []
        await self._look(positions, limit, found)
        with anyio.move_on_after(wait):
            while not found:
                await anyio.sleep(_GLANCE)
                await self._look(positions, limit, found)
        return found, positions

    async def _look(self, positions: list[str], limit: int, found: list[Stored]) -> None:
        most = self.max_event_bytes
        room = max(PAGE_BYTES, most)
        for each in range(self._first, self._first + self.partitions):
            partition = each % self.partitions
            _, entries, last, room = await self._network.run(
                partition, TAIL, positions[partition], limit, room, most
            )
            found += [_stored(partition, *each) for each in entries]
            positions[partition] = last.decode()
            if not room:
                self._first = (partition + bool(entries)) % self.partitions
                return


def _digest(patterns: Sequence[str]) -> str:
    return digest_of(json.dumps(patterns).encode())


def _peer(answer: Sequence[bytes]) -> Peer:
    consumer, token, patterns = answer
    return Peer(consumer.decode(), token.decode(), tuple(json.loads(patterns)))


def _flat(record: Record) -> Iterator[bytes | str | int]:
    yield (record.key is not None) + 2 * (record.group is not None)
    yield record.body
    if record.key is not None:
        yield record.key
    if record.group is not None:
        yield record.group


def _stored(partition: int, position: bytes, entry: list[bytes]) -> Stored:
    return Stored(partition, position.decode(), *fields(entry))
