"""The scheduled records of one log in memory, in the order of their times (Y3)."""

from __future__ import annotations

from bisect import bisect_right, insort
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, NamedTuple, final

from flexiflow.extras.durable._records import ScheduledRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flexiflow.extras.durable._records import Record


class _Used(NamedTuple):
    """A ticket whose record is scheduled no more.

    Attributes:
        is_cancelled: whether the record was cancelled; if not, it was put into the log.
        at: when.
    """

    is_cancelled: bool
    at: float


@final
class Schedule:
    """Records that wait for their time, and the tickets that were used before.

    Args:
        partition: the partition of the log.
        window: for how many seconds a ticket is remembered after its record is scheduled no more.
    """

    __slots__ = ("_order", "_partition", "_records", "_used", "_window")

    def __init__(self, partition: int, window: float) -> None:
        self._partition = partition
        self._window = window
        # Sorted; the records are in the dictionary, by their tickets.
        self._order: list[tuple[float, str]] = []
        self._records: dict[str, ScheduledRecord] = {}
        # In the order in which the tickets were used.
        self._used: dict[str, _Used] = {}

    def __len__(self) -> int:
        """Return how many records wait for their time."""
        return len(self._order)

    @property
    def next_at(self) -> float:
        """When the next record is due; infinite if there is none."""
        return self._order[0][0] if self._order else inf

    def knows(self, ticket: str) -> bool:
        """Return whether a ticket was used before."""
        return ticket in self._records or ticket in self._used

    def add(self, ticket: str, record: Record, due: float) -> None:
        """Schedule a record."""
        insort(self._order, (due, ticket))
        self._records[ticket] = ScheduledRecord(ticket, self._partition, due, record)

    def cancel(self, ticket: str, now: float) -> bool:
        """Delete a record; return whether it was, or had been, deleted in time."""
        found = self._records.get(ticket)
        if found is not None:
            del self._order[bisect_right(self._order, (found.due, ticket)) - 1]
            self._note(ticket, now, is_cancelled=True)
        used = self._used.get(ticket)
        return used is not None and used.is_cancelled

    def take_due(self, now: float) -> list[Record]:
        """Remove the records that are due, and return them in the order of their times."""
        count = bisect_right(self._order, now, key=lambda each: each[0])
        tickets = [ticket for _, ticket in self._order[:count]]
        del self._order[:count]
        records = [self._records[ticket].record for ticket in tickets]
        for ticket in tickets:
            self._note(ticket, now, is_cancelled=False)
        return records

    def _note(self, ticket: str, now: float, *, is_cancelled: bool) -> None:
        """Note that a ticket was used, and forget those that were used long ago."""
        del self._records[ticket]
        self._used[ticket] = _Used(is_cancelled, now)
        while self._used[oldest := next(iter(self._used))].at < now - self._window:
            del self._used[oldest]

    def after(self, last: ScheduledRecord | None) -> Iterator[ScheduledRecord]:
        """Yield the records after one, in order; all of them if there is none."""
        start = 0 if last is None else bisect_right(self._order, (last.due, last.ticket))
        return (self._records[ticket] for _, ticket in islice(self._order, start, None))
