"""The logs and groups of the transport in memory: plain data, without I/O and without a clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count, islice
from typing import TYPE_CHECKING, NamedTuple, final

from flexiflow.extras.durable._errors import ConsumerInUse, GroupMismatch
from flexiflow.extras.durable._transport import (
    Acknowledged,
    Buried,
    DeadLetter,
    Delivery,
    Noted,
    Record,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flexiflow.extras.durable._transport import Member, Outcome


@final
class Log:
    """The records of one partition, by position.

    Attributes:
        records: those that are there still, in order.
        last: the position of the last one that was stored; 0 before.
    """

    __slots__ = ("last", "records")

    def __init__(self) -> None:
        self.records: dict[int, Record] = {}
        self.last = 0

    @property
    def first(self) -> int:
        """The position of the first record that is there, or else of the next one."""
        return next(iter(self.records), self.last + 1)

    def append(self, record: Record) -> None:
        """Store a record."""
        self.last += 1
        self.records[self.last] = record

    def since(self, position: int) -> Iterator[tuple[int, Record]]:
        """Go through what comes after a position, in order."""
        for each in range(max(position + 1, self.first), self.last + 1):
            if each in self.records:
                yield each, self.records[each]

    def make_room(self, surplus: int, floor: int) -> bool:
        """Delete so many of the oldest records, if none of them is after `floor`."""
        gone = [each for each in islice(self.records, max(surplus, 0)) if each <= floor]
        if len(gone) < surplus:
            return False
        for position in gone:
            del self.records[position]
        return True


@dataclass(slots=True)
class _Held:
    """A pending record: its counts, and the token of the lease that holds it, or None."""

    attempts: int
    deliveries: int
    holder: int | None


@final
@dataclass(slots=True)
class Reading:
    """How far a group is in one partition.

    Attributes:
        given: the position up to which records were given to workers.
        missed: how many were gone before they were settled.
        leases: until when each lease holds, by its token.
    """

    given: int
    missed: int = 0
    leases: dict[int, float] = field(default_factory=dict[int, float])
    _pending: dict[int, _Held] = field(default_factory=dict[int, _Held])

    @property
    def pending(self) -> int:
        """How many records are pending."""
        return len(self._pending)

    @property
    def floor(self) -> int:
        """The last position such that everything up to it is settled."""
        return min(self._pending, default=self.given + 1) - 1

    def expire(self, now: float) -> None:
        """End the leases whose time is over."""
        for token in [each for each, until in self.leases.items() if until <= now]:
            del self.leases[token]

    def give(self, log: Log, limit: int, token: int) -> list[Delivery]:
        """Give records to the holder of a lease: first those that nobody holds."""
        given: list[Delivery] = []
        for position in sorted(self._pending):
            if len(given) == limit:
                return given
            held = self._pending[position]
            if held.holder in self.leases:
                continue
            if position not in log.records:
                del self._pending[position]
                self.missed += 1
                continue
            held.holder = token
            is_suspect = held.deliveries > 0
            held.deliveries = max(held.deliveries, 1)
            given.append(_delivery(position, log.records[position], held, is_suspect=is_suspect))
        for position, record in islice(log.since(self.given), limit - len(given)):
            held = self._pending[position] = _Held(0, 1, token)
            self._pass_over(position)
            given.append(_delivery(position, record, held, is_suspect=False))
        if len(given) < limit:
            # What was deleted at the very end has nothing after it that would tell.
            self._pass_over(log.last + 1)
            self.given = log.last
        return given

    def _pass_over(self, position: int) -> None:
        """Count what is gone before a position."""
        self.missed += position - self.given - 1
        self.given = position

    def settle(self, log: Log, outcome: Outcome, token: int) -> Record | None:
        """Write down what became of a record; give it if it is to be a dead letter."""
        position = int(outcome.position)
        held = self._pending.get(position)
        if held is None or held.holder != token:
            return None
        if isinstance(outcome, (Acknowledged, Buried)):
            del self._pending[position]
            return self._dead(log, position) if isinstance(outcome, Buried) else None
        held.attempts = outcome.attempts
        held.deliveries = outcome.deliveries
        held.holder = token if isinstance(outcome, Noted) else None
        return None

    def _dead(self, log: Log, position: int) -> Record | None:
        # Without its body it can't be a letter, and is not to vanish unseen.
        record = log.records.get(position)
        self.missed += record is None
        return record


class Dead(NamedTuple):
    """A dead letter, and where it came from.

    Attributes:
        letter: what a user sees of it.
        record: what is stored when it is redriven.
        partition: where.
    """

    letter: DeadLetter
    record: Record
    partition: int


class _Alive(NamedTuple):
    """A member, and until when it is one if it is silent."""

    member: Member
    until: float


@final
class Group:
    """A group: who is in it, how far it is in each log, and what it has given up.

    What is gone from a log before the group was made is not missed by it.

    Args:
        name: the group's name.
        logs: what it reads.

    Attributes:
        readings: how far it is, for each log.
        dead: its dead letters and their partitions by their numbers, the oldest first.
    """

    __slots__ = ("_alive", "_buried", "_name", "dead", "readings")

    def __init__(self, name: str, logs: Sequence[Log]) -> None:
        self._name = name
        self.readings = [Reading(log.first - 1) for log in logs]
        self.dead: dict[int, Dead] = {}
        self._alive: dict[str, _Alive] = {}
        self._buried = count(1)

    def join(self, member: Member, now: float) -> Sequence[str]:
        """Let a member in, or stay in, and name all that are alive."""
        self._alive = {name: each for name, each in self._alive.items() if each.until > now}
        for name, (other, _) in self._alive.items():
            if name == member.consumer and other.token != member.token:
                raise ConsumerInUse(member.consumer, member.group)
            if name != member.consumer and other.patterns != member.patterns:
                raise GroupMismatch(member.group, other.patterns, member.patterns)
        self._alive[member.consumer] = _Alive(member, now + member.lease)
        return sorted(self._alive)

    def leave(self, member: Member) -> None:
        """Let a member go."""
        current = self._alive.get(member.consumer)
        if current is not None and current.member.token == member.token:
            del self._alive[member.consumer]

    def bury(self, outcome: Buried, record: Record, partition: int, now: float) -> None:
        """Make a record a dead letter."""
        number = next(self._buried)
        letter = DeadLetter(
            str(number), record.body, outcome.failure, outcome.attempts, outcome.deliveries, now
        )
        self.dead[number] = Dead(letter, Record(record.body, record.key, self._name), partition)


def _delivery(position: int, record: Record, held: _Held, *, is_suspect: bool) -> Delivery:
    return Delivery(
        str(position), record.body, record.group, held.attempts, held.deliveries, is_suspect
    )
