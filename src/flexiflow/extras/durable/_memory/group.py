"""A group of the transport in memory: its members, readings and dead letters."""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, NamedTuple, final

from flexiflow.extras.durable._membership import Peer, agree
from flexiflow.extras.durable._memory.readings import Reading
from flexiflow.extras.durable._records import DeadLetter, Record
from flexiflow.extras.durable._surveys import GroupSurvey, MemberSurvey, Standing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexiflow.extras.durable._memory.entries import Grave
    from flexiflow.extras.durable._memory.log import Log
    from flexiflow.extras.durable._outcomes import Buried
    from flexiflow.extras.durable._records import Member


class Dead(NamedTuple):
    """A dead letter, and how to redrive it.

    Attributes:
        letter: the dead letter as users see it.
        record: the record that is stored when it is redriven.
        partition: the partition to store it in.
        origin: the position of the event there, as it was first stored.
    """

    letter: DeadLetter
    record: Record
    partition: int
    origin: int


@final
class Group:
    """A group: its members, how far it is in each log, and its dead letters.

    Records that were deleted before the group was made don't count as missed.

    Args:
        name: the group's name.
        logs: the logs that it reads.
        begins: for each of them the position behind which it begins.
        replay: the number of its replay.
        is_exclusive: whether one worker at a time leases a partition.

    Attributes:
        readings: how far it is in each log.
        dead: its dead letters by number, the oldest first.
        patterns: the patterns of the events that it takes.
        replay: grows with each replay, and with each new group of that name.
    """

    __slots__ = ("_alive", "_buried", "_logs", "_name", "dead", "patterns", "readings", "replay")

    def __init__(
        self,
        name: str,
        logs: Sequence[Log],
        begins: Sequence[int],
        replay: int,
        *,
        is_exclusive: bool,
    ) -> None:
        self._name = name
        self._logs = logs
        self.replay = replay
        self.readings = [Reading(begin, is_exclusive) for begin in begins]
        self.dead: dict[int, Dead] = {}
        self.patterns: tuple[str, ...] = ()
        # By the consumer's name, the members, and until when each is alive without joining again.
        self._alive: dict[str, tuple[Peer, float]] = {}
        self._buried = count(1)

    def join(self, member: Member, now: float) -> Sequence[str]:
        """Add a member, or keep it alive; return the names of those that may receive, sorted."""
        self._alive = {name: each for name, each in self._alive.items() if each[1] > now}
        self.patterns, consumers = agree(member, (peer for peer, _ in self._alive.values()))
        peer = Peer(member.consumer, member.token, member.patterns)
        self._alive[member.consumer] = peer, now + member.lease
        return consumers

    def leave(self, member: Member) -> None:
        """Remove a member."""
        current = self._alive.get(member.consumer)
        if current is not None and current[0].token == member.token:
            del self._alive[member.consumer]

    def bury(self, outcome: Buried, grave: Grave, partition: int, now: float) -> None:
        """Make a record a dead letter."""
        number, record = next(self._buried), grave.record
        letter = DeadLetter(
            str(number), record.body, outcome.failure, outcome.attempts, outcome.deliveries, now
        )
        again = Record(record.body, record.key, self._name)
        self.dead[number] = Dead(letter, again, partition, grave.origin)

    def begin_again(self, begins: Sequence[int], replay: int, now: float) -> None:
        """Begin again behind a position in each log, with a new number of the replay (Y5)."""
        self.replay = replay
        for log, reading, begin in zip(self._logs, self.readings, begins, strict=True):
            reading.begin_again(log, begin, now)
        dead = self.dead.items()
        self.dead = {no: each for no, each in dead if each.origin <= begins[each.partition]}

    def standings(self) -> list[Standing]:
        """Return how far the group is in each log."""
        dead = Counter(each.partition for each in self.dead.values())
        parts = enumerate(zip(self.readings, self._logs, strict=True))
        return [
            Standing(
                reading.pending, reading.lag(log), reading.missed, dead[partition], reading.waiting
            )
            for partition, (reading, log) in parts
        ]

    def survey(self, now: float, today: float) -> GroupSurvey:
        """Return what a person wants to see of the group (Y6).

        Args:
            now: the time by the clock that leases are measured with.
            today: the same moment, in seconds since 1970.
        """
        members = sorted(
            MemberSurvey(name, peer.patterns, today + until - now)
            for name, (peer, until) in self._alive.items()
            if until > now
        )
        parts = zip(self.readings, self._logs, strict=True)
        times = (reading.oldest(log) for reading, log in parts)
        oldest = min((each for each in times if each is not None), default=None)
        return GroupSurvey(self._name, tuple(members), tuple(self.standings()), oldest, self.replay)
