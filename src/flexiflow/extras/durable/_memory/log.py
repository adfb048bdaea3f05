"""A log of the transport in memory: the records of one partition, and those that are scheduled."""

from __future__ import annotations

from itertools import islice
from math import inf
from typing import TYPE_CHECKING, final

from flexiflow.extras.durable._memory.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flexiflow.extras.durable._records import Record


@final
class Log:
    """The records of one partition, by position.

    Args:
        partition: the number of the partition.
        window: see `Schedule`.

    Attributes:
        records: the records that were not deleted, in order.
        times: when each was stored; a record that an outsider has stored has no time.
        last: the position of the last record that was stored; 0 before the first.
        deleted: the latest time at which a record was stored that was deleted to make room; if
            that is not known, when it was deleted.
        schedule: the records that are scheduled.
    """

    __slots__ = ("_origins", "deleted", "last", "records", "schedule", "times")

    def __init__(self, partition: int, window: float) -> None:
        self.records: dict[int, Record] = {}
        self.times: dict[int, float] = {}
        self._origins: dict[int, int] = {}
        self.last = 0
        self.deleted = -inf
        self.schedule = Schedule(partition, window)

    @property
    def first(self) -> int:
        """The position of the first record that is there; of the next one if there is none."""
        return next(iter(self.records), self.last + 1)

    def origin_of(self, position: int) -> int:
        """Return the position of what a record is a copy of; its own if it was not redriven."""
        return self._origins.get(position, position)

    def append(
        self, record: Record, time: float | None = None, *, origin: int | None = None
    ) -> None:
        """Store a record.

        Args:
            record: the record.
            time: when it is stored; None if that is not known.
            origin: the position of what it is a copy of, if it is redriven.
        """
        self.last += 1
        self.records[self.last] = record
        if time is not None:
            self.times[self.last] = time
        if origin is not None:
            self._origins[self.last] = origin

    def put_due(self, now: float) -> int:
        """Store the scheduled records that are due, and return how many there were."""
        if self.schedule.next_at > now:
            return 0
        due = self.schedule.take_due(now)
        for record in due:
            self.append(record, now)
        return len(due)

    def behind(self, time: float) -> int:
        """Return the position behind which the first record follows of a time or later (Y5)."""
        late = (at for at in self.records if self.times.get(at, time) >= time)
        return next(late, self.last + 1) - 1

    def count_after(self, position: int) -> int:
        """Return how many records after a position are there."""
        return sum(1 for _ in self.since(position))

    def since(self, position: int) -> Iterator[tuple[int, Record]]:
        """Yield the records after a position, in order."""
        for each in range(max(position + 1, self.first), self.last + 1):
            if each in self.records:
                yield each, self.records[each]

    def make_room(self, surplus: int, floor: int, now: float) -> bool:
        """Delete the `surplus` oldest records, if none of them is after `floor`.

        Args:
            surplus: how many; none if it is below 1.
            floor: the last position up to which no group needs the log.
            now: the time of day.

        Returns:
            Whether there is room now; if not, nothing was deleted.
        """
        gone = [each for each in islice(self.records, max(surplus, 0)) if each <= floor]
        if len(gone) < surplus:
            return False
        for position in gone:
            del self.records[position]
            # After the clock was set back, later records have earlier times.
            self.deleted = max(self.deleted, self.times.pop(position, now))
            self._origins.pop(position, None)
        return True
