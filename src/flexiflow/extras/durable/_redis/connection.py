"""An open transport on Redis Streams: what a bridge and the command line ask of the servers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, final

import anyio

from flexiflow.extras._redis.script import digest_of
from flexiflow.extras.durable._errors import LogFull
from flexiflow.extras.durable._logs import (
    PAGE_BYTES,
    ConnectionBase,
    check_records,
    numbers_after,
    numbers_of,
    spread,
)
from flexiflow.extras.durable._membership import Agreement, Peer, agree
from flexiflow.extras.durable._records import DeadLetter, Failure, Standing, Stored
from flexiflow.extras.durable._redis.lease import (
    RedisLease,
    Right,
    fields,
    key_of,
    milliseconds,
    text,
)
from flexiflow.extras.durable._redis.scripts import (
    ACQUIRE,
    DEAD,
    FORGET,
    GROUPS,
    JOIN,
    LEAVE,
    LETTERS,
    PATTERNS,
    REDRIVE,
    STANDING,
    STORE,
    TAIL,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flexiflow.extras.durable._logs import LogLimits
    from flexiflow.extras.durable._records import Batch, Member, Record
    from flexiflow.extras.durable._redis.network import Network
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
        super().__init__(network.address, limits)
        self._network = network
        self._replicas = replicas
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
        parts = spread(batch, self.partitions)
        if len(parts) > 1:
            # First only make room in each, so that nothing is stored if one partition is full.
            for partition, records in parts.items():
                await self._store(batch, partition, records, for_good=False)
        for partition, records in parts.items():
            await self._store(batch, partition, records, for_good=True)

    async def _store(
        self, batch: Batch, partition: int, records: Sequence[Record], *, for_good: bool
    ) -> None:
        limits, known = self._limits, self._network.epochs.of(partition)
        status, *answer = await self._network.run(
            partition,
            STORE,
            batch.producer,
            batch.number,
            milliseconds(limits.window),
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
            known.note(epoch, last, records[-1].body)
            if news:
                known.hear(epoch, *news)

    async def join(self, member: Member) -> Sequence[str]:
        seen, agreement = self._seats.pop(member, _NO_SEAT)
        while True:
            status, state, answer = await self._network.run(
                0,
                JOIN,
                member.group,
                member.consumer,
                member.token,
                milliseconds(member.lease),
                json.dumps(member.patterns),
                seen,
                _digest(agreement.patterns),
            )
            if status == b"OK":
                break
            # The members have changed: compute from them what all agree on, and try again.
            seen, agreement = state, agree(member, map(_peer, answer))
        self._network.epochs.enter(member.group)
        await self._tell(member.group, answer, agreement.patterns)
        self._seats[member] = state, agreement
        return agreement.consumers

    async def _tell(self, group: str, generation: bytes, patterns: Sequence[str]) -> None:
        """Store in the other partitions what a group takes, before they give it anything (X15)."""
        told = generation, self._network.epochs.losses
        if self._told.get(group) != told:
            for partition in range(1, self.partitions):
                await self._network.run(partition, PATTERNS, group, _digest(patterns), generation)
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
        name, keys = answer
        right = Right(partition, name, digest, frozenset(map(key_of, keys)), self.is_exclusive)
        return RedisLease(self._network, member, right, max_event_bytes=self.max_event_bytes)

    async def standing(self, group: str) -> Standing:
        found = Standing(0, 0, 0, 0)
        for partition in range(self.partitions):
            _, counts, epoch, last = await self._network.run(partition, STANDING, group)
            self._network.epochs.of(partition).note(epoch, last)
            found = Standing(*map(sum, zip(found, counts, strict=True)))
        return found

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

    async def dead_letters(
        self, group: str, *, after: str | None = None, limit: int = 100
    ) -> Sequence[DeadLetter]:
        last = numbers_after(after, 3)
        found: list[DeadLetter] = []
        # Others may redrive a whole page meanwhile, but only at the end may the result be empty.
        while not found and (chosen := await self._page(group, last, limit)):
            for partition in range(self.partitions):
                names = _chosen(chosen, partition)
                if names:
                    _, entries = await self._network.run(partition, LETTERS, group, *names)
                    found += [_dead_letter(partition, *each) for each in entries]
        return sorted(found, key=lambda each: _number(each.id))

    async def _page(self, group: str, last: tuple[int, ...] | None, limit: int) -> list[str]:
        """Choose the dead letters of a page by their sizes, and return their ids (X14)."""
        sizes: dict[str, int] = {}
        for partition in range(self.partitions):
            start = _start(last, partition)
            _, entries = await self._network.run(partition, DEAD, group, start, limit, PAGE_BYTES)
            sizes.update((f"{name.decode()}-{partition}", size) for name, size in entries)
        chosen: list[str] = []
        room = PAGE_BYTES
        for name in sorted(sizes, key=_number)[:limit]:
            room -= sizes[name]
            if room < 0 and chosen:
                break
            chosen.append(name)
        return chosen

    async def redrive(self, group: str, ids: Sequence[str]) -> int:
        count = 0
        for partition in range(self.partitions):
            chosen = _chosen(ids, partition)
            if chosen:
                _, done = await self._network.run(partition, REDRIVE, group, *chosen)
                count += done
        return count

    async def tail(
        self, after: Sequence[str] | None, limit: int, wait: float
    ) -> tuple[Sequence[Stored], Sequence[str]]:
        positions = list(after) if after is not None else [""] * self.partitions
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


def _number(name: str) -> tuple[int, ...]:
    """Return the numbers in a dead letter's id: two of its entry, and the partition."""
    return tuple(map(int, name.split("-")))


def _start(last: tuple[int, ...] | None, partition: int) -> str:
    if last is None:
        return "-"
    entry = f"{last[0]}-{last[1]}"
    return entry if partition > last[2] else f"({entry}"


def _chosen(ids: Sequence[str], partition: int) -> list[str]:
    return [f"{ms}-{seq}" for ms, seq, place in numbers_of(ids, 3) if place == partition]


def _dead_letter(partition: int, position: bytes, entry: list[bytes]) -> DeadLetter:
    attempts, deliveries, *failure = entry[1:10:2]
    body, _, _ = fields(entry[10:])
    kind, message, traceback = (text(each) or "" for each in failure)
    name = position.decode()
    seconds = int(name.partition("-")[0]) / 1000
    return DeadLetter(
        f"{name}-{partition}",
        body,
        Failure(kind, message, traceback),
        int(attempts),
        int(deliveries),
        seconds,
    )


def _stored(partition: int, position: bytes, entry: list[bytes]) -> Stored:
    body, _, group = fields(entry)
    return Stored(partition, position.decode(), body, group)
