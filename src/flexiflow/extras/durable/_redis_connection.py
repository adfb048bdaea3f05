"""An open transport on Redis Streams."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple, final

import anyio

from flexiflow.extras.durable._errors import (
    ConsumerInUse,
    GroupMismatch,
    LogFull,
    TransportUnusable,
)
from flexiflow.extras.durable._numbers import parts_of, place_of
from flexiflow.extras.durable._partitions import spread
from flexiflow.extras.durable._redis_lease import RedisLease, fields, milliseconds, text
from flexiflow.extras.durable._redis_scripts import (
    ACQUIRE,
    DEAD,
    FORGET,
    FOUND,
    GROUPS,
    JOIN,
    LAYOUT,
    LEAVE,
    REDRIVE,
    STANDING,
    STORE,
    TAIL,
)
from flexiflow.extras.durable._transport import DeadLetter, Failure, Standing, Stored

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flexiflow.extras.durable._redis_network import Network
    from flexiflow.extras.durable._transport import Batch, Lease, Member, Record

# How often one who looks on does so, in seconds.
_GLANCE: Final = 0.05


class Settings(NamedTuple):
    """What a transport was asked to be; see `RedisTransport`."""

    partitions: int | None
    max_length: int
    idempotency_window: float
    replicas: int
    timeout: float


@final
class RedisConnection:
    """An open transport.

    Args:
        network: the servers.
        settings: what it was asked to be.
    """

    def __init__(self, network: Network, settings: Settings) -> None:
        self._network = network
        self._settings = settings
        self._founded: set[str] = set()

    async def open(self) -> None:
        """See that the server is one that can be used."""
        await self._network.check()
        wanted = _layout(self._settings.partitions)
        _, found = await self._network.run(0, LAYOUT, wanted)
        if found.decode() != wanted:
            raise TransportUnusable(
                self.address,
                f"its log was laid out with partitions={found.decode()}, not {wanted}: "
                "give the same number, or another prefix",
            )

    @property
    def address(self) -> str:
        """Where it is, without any secret."""
        return self._network.address

    @property
    def partitions(self) -> int:
        """How many partitions there are."""
        return self._settings.partitions or 1

    @property
    def is_exclusive(self) -> bool:
        """Whether one worker of a group at a time may lease a partition."""
        return self._settings.partitions is not None

    @property
    def max_length(self) -> int:
        """How many records a log may hold."""
        return self._settings.max_length

    async def store(self, batch: Batch) -> None:
        """Store all records, in order."""
        parts = spread(batch, self.partitions)
        if len(parts) > 1:
            # Nothing is to be stored where one partition is full.
            for partition, records in parts.items():
                await self._store(batch, partition, records, for_good=False)
        for partition, records in parts.items():
            await self._store(batch, partition, records, for_good=True)

    async def _store(
        self, batch: Batch, partition: int, records: Sequence[Record], *, for_good: bool
    ) -> None:
        settings = self._settings
        status, *_ = await self._network.run(
            partition,
            STORE,
            batch.producer,
            batch.number,
            milliseconds(settings.idempotency_window),
            settings.max_length,
            int(for_good),
            len(records),
            *(each for record in records for each in (_flat(record) if for_good else ())),
            replicas=settings.replicas if for_good else 0,
        )
        if status == b"FULL":
            raise LogFull(self.address, settings.max_length)

    async def join(self, member: Member) -> Sequence[str]:
        """Become a member of a group, or go on being one."""
        status, *answer = await self._network.run(
            0,
            JOIN,
            member.group,
            member.consumer,
            member.token,
            milliseconds(member.lease),
            json.dumps(member.patterns),
        )
        if status == b"TAKEN":
            raise ConsumerInUse(member.consumer, member.group)
        if status == b"OTHERS":
            raise GroupMismatch(member.group, json.loads(answer[0]), member.patterns)
        names, is_new = answer
        if is_new or member.group not in self._founded:
            await self._found(member.group)
        return sorted(each.decode() for each in names)

    async def _found(self, group: str) -> None:
        for partition in range(1, self.partitions):
            await self._network.run(partition, FOUND, group)
        self._founded.add(group)

    async def leave(self, member: Member) -> None:
        """Be a member no more."""
        await self._network.run(0, LEAVE, member.group, member.consumer, member.token)

    async def acquire(self, member: Member, partition: int) -> Lease | None:
        """Lease a partition, for the member's seconds; None where it is another's."""
        lease = milliseconds(member.lease)
        status, *answer = await self._network.run(
            partition, ACQUIRE, member.group, lease, int(self.is_exclusive)
        )
        if status == b"TAKEN":
            return None
        seconds = self._settings.timeout
        return RedisLease(self._network, member, partition, answer[0], seconds=seconds)

    async def standing(self, group: str) -> Standing:
        """Tell how far a group is, over all partitions."""
        answers = [
            await self._network.run(partition, STANDING, group)
            for partition in range(self.partitions)
        ]
        columns = zip(*(each[1] for each in answers), strict=True)
        return Standing(*map(sum, columns))

    async def groups(self) -> Sequence[str]:
        """Name the groups that have ever had a member."""
        _, names = await self._network.run(0, GROUPS)
        return sorted(each.decode() for each in names)

    async def forget(self, group: str) -> None:
        """Delete a group, with its dead letters."""
        self._founded.discard(group)
        # The names are in the first one: what was interrupted shows, and can be repeated.
        for partition in reversed(range(self.partitions)):
            await self._network.run(partition, FORGET, group)

    async def dead_letters(
        self, group: str, *, after: str | None = None, limit: int = 100
    ) -> Sequence[DeadLetter]:
        """List dead letters, the oldest first."""
        last = place_of(after, 3)
        found: list[DeadLetter] = []
        for partition in range(self.partitions):
            start = _start(last, partition)
            _, entries = await self._network.run(partition, DEAD, group, start, limit)
            found += [_dead_letter(partition, *each) for each in entries]
        return list(islice(sorted(found, key=lambda each: _number(each.id)), limit))

    async def redrive(self, group: str, ids: Sequence[str]) -> int:
        """Store dead letters anew, for their group alone, and delete them."""
        count = 0
        for partition in range(self.partitions):
            chosen = list(_chosen(ids, partition))
            if chosen:
                _, done = await self._network.run(partition, REDRIVE, group, *chosen)
                count += done
        return count

    async def tail(
        self, after: Sequence[str] | None, limit: int, wait: float
    ) -> tuple[Sequence[Stored], Sequence[str]]:
        """Look on, without being a group."""
        positions = list(after) if after is not None else [""] * self.partitions
        found: list[Stored] = []
        await self._look(positions, limit, found)
        with anyio.move_on_after(wait):
            while not found:
                await anyio.sleep(_GLANCE)
                await self._look(positions, limit, found)
        return found, positions

    async def _look(self, positions: list[str], limit: int, found: list[Stored]) -> None:
        for partition, position in enumerate(positions):
            _, entries, last = await self._network.run(partition, TAIL, position, limit)
            found += [_stored(partition, *each) for each in entries]
            positions[partition] = last.decode()


def _layout(partitions: int | None) -> str:
    return str(partitions)


def _flat(record: Record) -> Iterator[bytes | str | int]:
    yield (record.key is not None) + 2 * (record.group is not None)
    yield record.body
    if record.key is not None:
        yield record.key
    if record.group is not None:
        yield record.group


def _number(name: str) -> tuple[int, ...]:
    """Tell apart the parts of a dead letter's id: that of its entry, and the partition."""
    return tuple(map(int, name.split("-")))


def _start(last: tuple[int, ...] | None, partition: int) -> str:
    if last is None:
        return "-"
    entry = f"{last[0]}-{last[1]}"
    return entry if partition > last[2] else f"({entry}"


def _chosen(ids: Sequence[str], partition: int) -> Iterator[str]:
    for name in ids:
        parts = parts_of(name, 3)
        # What is no id of ours is nobody's.
        if parts is not None and parts[2] == partition:
            yield f"{parts[0]}-{parts[1]}"


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
