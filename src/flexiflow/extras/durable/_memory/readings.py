"""How far a group of the transport in memory is in a log: plain data, without I/O or a clock.

A group has a `Reading` for each log, which knows what was given, to which lease, and what waits.
Times are passed in, as seconds of any clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import chain, islice, takewhile
from math import inf
from typing import TYPE_CHECKING, cast, final

from flexiflow.extras.durable._filling import Filling
from flexiflow.extras.durable._membership import KEPT_FOR
from flexiflow.extras.durable._memory.entries import (
    NOBODY,
    SETTLED,
    Entry,
    Grave,
    Settlement,
    begin_attempt,
    end_attempt,
)
from flexiflow.extras.durable._outcomes import Acknowledged, Buried, Noted, Postponed, Returned

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flexiflow.extras.durable._memory.log import Log
    from flexiflow.extras.durable._outcomes import Settling
    from flexiflow.extras.durable._records import Delivery, Record, Room


@final
@dataclass(slots=True)
class Reading:
    """How far a group is in one partition.

    Attributes:
        given: the position up to which records were given to workers.
        is_exclusive: whether one worker at a time leases the partition.
        missed: how many records were deleted before they were settled.
        leases: when each lease runs out, by its token; includes those that have run out (X11).
    """

    given: int
    is_exclusive: bool = False
    missed: int = 0
    leases: dict[int, float] = field(default_factory=dict[int, float])
    _pending: dict[int, Entry] = field(default_factory=dict[int, Entry])
    _waiting: dict[int, Entry] = field(default_factory=dict[int, Entry])
    # A heap of the times at which waiting records are due, each with the position.
    _dues: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    # Positions after `given` that are passed over, since the group has begun again.
    _passed: set[int] = field(default_factory=set[int])

    @property
    def pending(self) -> int:
        """How many records were given and are not settled, not counting those that wait."""
        return len(self._pending)

    @property
    def waiting(self) -> int:
        """How many records wait."""
        return len(self._waiting)

    def lag(self, log: Log) -> int:
        """Return how many records were not yet given."""
        new = takewhile(lambda at: at > self.given, reversed(log.records))
        return sum(at not in self._passed for at in new)

    def oldest(self, log: Log) -> float | None:
        """Return when the oldest record was stored that is not settled; None if not known."""
        held = {at: each.stored for at, each in chain(self._pending.items(), self._waiting.items())}
        new = (at for at, _ in log.since(self.given) if at not in self._passed)
        times = {**held, **{at: log.times.get(at) for at in islice(new, 1)}}
        return times[min(times)] if times else None

    def begin_again(self, log: Log, begin: int, now: float) -> None:
        """Give all records behind a position anew, except copies of what is given anew (Y5).

        A copy counts as being where the record is that it is a copy of: if that is not given anew,
        what became of the copy stays as it is.
        """
        self.leases = {}
        known = {*self._pending, *self._waiting, *self._passed}
        for entries in (self._pending, self._waiting):
            for position in [at for at, each in entries.items() if each.origin > begin]:
                del entries[position]
        self._passed = {
            position
            for position, record in log.since(begin)
            if record.group is not None
            and (log.origin_of(position) > begin or position <= self.given or position in known)
        }
        # What was deleted does not count as missed, either.
        self._passed |= {*range(begin + 1, log.last + 1)} - log.records.keys()
        self.given = begin
        self._dues = [(each.due, at) for at, each in self._waiting.items() if each.due != inf]
        heapify(self._dues)
        for entry in [each for each in self._waiting.values() if each.due == inf]:
            # What it has waited for may have been dropped.
            self.follow(cast("str", entry.key), entry.holder, now)

    @property
    def floor(self) -> int:
        """The last position such that all records up to it are settled, or kept outside the log."""
        in_log = (at for at, entry in self._pending.items() if entry.record is None)
        # Copies may be pending behind what is given, if the group has begun again.
        return min(chain(in_log, (self.given + 1,))) - 1

    def live(self, now: float) -> set[int]:
        """Return the tokens of the leases that have not run out."""
        return {token for token, until in self.leases.items() if until > now}

    def take_over(self, token: int, until: float) -> set[str]:
        """Lease the partition exclusively; return the keys of records that wait or have waited."""
        self.leases = {token: until}
        for entry in self._waiting.values():
            entry.holder = token
        entries = chain(self._waiting.values(), self._pending.values())
        return {entry.key for entry in entries if entry.key is not None}

    def give(
        self, log: Log, room: Room, token: int, now: float, *, most: int
    ) -> Sequence[Delivery]:
        """Give records to a lease, as `Lease.receive` says."""
        filling, live = Filling(room, most), self.live(now) | {token}
        is_full = len(self._waiting) >= room.waiting
        self._give_left(log, filling, token, live, now)
        self._give_due(filling, room.again, token, live, now)
        if not is_full:
            self._give_new(log, filling, token)
        self._forget_leases(now)
        return filling.given

    def _give_left(
        self, log: Log, filling: Filling, token: int, live: set[int], now: float
    ) -> None:
        """Give the records that are held by leases that have run out, or are gone."""
        for position in sorted(self._pending):
            entry = self._pending[position]
            if entry.holder in live:
                continue
            record = entry.record or log.records.get(position)
            if record is None or entry.is_done:
                self._drop(self._pending, position, token, now)
                self.missed += not entry.is_done
            elif begin_attempt(filling, position, record, entry):
                self._move(entry, token)
            else:
                return

    def _give_due(
        self, filling: Filling, most: int, token: int, live: set[int], now: float
    ) -> None:
        """Give up to `most` records that have waited and are due, in the order of their times."""
        passed: list[tuple[float, int]] = []
        has_room = True
        while has_room and most and self._dues and self._dues[0][0] <= now:
            due, position = heappop(self._dues)
            entry = self._waiting[position]
            if entry.is_done:
                self._drop(self._waiting, position, token, now)
                continue
            is_free = entry.holder == token or entry.holder not in live
            record = cast("Record", entry.record)
            has_room = not is_free or begin_attempt(filling, position, record, entry)
            if is_free and has_room:
                most -= 1
                self._pending[position] = self._waiting.pop(position)
                self._move(entry, token)
            else:
                passed.append((due, position))
        for each in passed:
            heappush(self._dues, each)

    def _wait_until(self, position: int, entry: Entry, due: float) -> None:
        """Make a record wait until a time; in the line of its key if that is infinite."""
        entry.due = due
        self._waiting[position] = entry
        if due != inf:
            heappush(self._dues, (due, position))

    def _drop(self, entries: dict[int, Entry], position: int, token: int, now: float) -> None:
        """Drop a record that is done or was deleted; the next one in its key's line is due."""
        entry = entries.pop(position)
        if entry.key is not None:
            self.follow(entry.key, token if self.is_exclusive else entry.holder, now)

    def _move(self, entry: Entry, token: int) -> None:
        """Make a lease the holder of a record, and of its key's line behind it."""
        if entry.record is not None and entry.key is not None:
            for each in self._waiting.values():
                if (each.key, each.holder, each.due) == (entry.key, entry.holder, inf):
                    each.holder = token
        entry.holder = token

    def _give_new(self, log: Log, filling: Filling, token: int) -> None:
        """Give the records that are new to the group, and count those that are missing."""
        before, limit, count = self.given, filling.left, 0
        is_all = True
        new = ((at, record) for at, record in log.since(before) if at not in self._passed)
        for position, record in islice(new, limit):
            entry = Entry(0, 0, token, log.origin_of(position), log.times.get(position))
            if not begin_attempt(filling, position, record, entry):
                is_all = False
                break
            self._pending[position] = entry
            self.given = position
            count += 1
        if is_all and count < limit:
            # Count records that were deleted at the very end, too: nothing after them shows a gap.
            self.given = log.last
        passed = self._passed.intersection(range(before + 1, self.given + 1))
        self._passed -= passed
        self.missed += self.given - before - count - len(passed)

    def _forget_leases(self, now: float) -> None:
        """Delete the leases that ran out more than `KEPT_FOR` seconds ago and hold nothing."""
        over = [token for token, until in self.leases.items() if until < now - KEPT_FOR]
        if over:
            entries = chain(self._waiting.values(), self._pending.values())
            for token in set(over).difference(entry.holder for entry in entries):
                del self.leases[token]

    def next_at(self, log: Log, room: Room, token: int, now: float) -> float:
        """Return when there will be something to give if nothing else happens: `now`, or later.

        When a lease runs out, the records that it holds may be given.
        """
        live = self.live(now) | {token}
        if any(entry.holder not in live for entry in self._pending.values()) or (
            log.last > self.given and len(self._waiting) < room.waiting
        ):
            return now
        ends = (self.leases[each] for each in live if each != token)
        due = (e.due for e in self._waiting.values() if e.holder == token or e.holder not in live)
        return min(chain(ends, due if room.again else ()), default=inf)

    def lost(self, positions: Iterable[str], token: int) -> list[str]:
        """Return the positions of records that a lease does not hold."""
        entries = ((each, self._pending.get(int(each))) for each in positions)
        return [each for each, entry in entries if entry is None or entry.holder != token]

    def settle(self, log: Log, outcome: Settling, token: int, now: float) -> Settlement:
        """Write the outcome of a record, as `Lease.settle` says."""
        position = int(outcome.position)
        entry = self._pending.get(position) or self._waiting.get(position)
        if entry is None or (entry.holder == token and position in self._waiting):
            # It was settled before.
            return SETTLED
        if entry.holder == NOBODY:
            entry.is_done |= isinstance(outcome, Acknowledged)
            return SETTLED
        if entry.holder != token or token not in self.leases:
            end_attempt(entry, outcome)
            return Settlement(is_lost=True)
        if isinstance(outcome, Noted):
            entry.attempts, entry.deliveries = outcome.attempts, outcome.deliveries
        elif isinstance(outcome, Returned) and entry.record is None:
            # No lease holds it now, and any may be given it.
            entry.attempts, entry.deliveries, entry.holder = *outcome[1:], NOBODY
        else:
            return self._remove(log, position, entry, outcome, now)
        return SETTLED

    def _remove(
        self, log: Log, position: int, entry: Entry, outcome: Settling, now: float
    ) -> Settlement:
        """Take a record from its holder: settle it, or make it wait."""
        del self._pending[position]
        if isinstance(outcome, Acknowledged | Buried) and entry.key is not None:
            self.follow(entry.key, entry.holder, now)
        if isinstance(outcome, Acknowledged | Noted):
            return SETTLED
        record = entry.record or log.records.get(position)
        if record is None:
            # Its body was deleted: it can neither be a dead letter nor wait, so count it as missed.
            self.missed += 1
            return SETTLED
        if isinstance(outcome, Buried):
            return Settlement(grave=Grave(record, entry.origin))
        entry.attempts, entry.deliveries = outcome.attempts, outcome.deliveries
        entry.record, due = record, now
        if isinstance(outcome, Postponed):
            entry.key = outcome.key
            due = self._due_at(outcome, entry.holder, now)
        self._wait_until(position, entry, due)
        return SETTLED

    def _due_at(self, outcome: Postponed, token: int, now: float) -> float:
        if outcome.delay is not None:
            return now + outcome.delay
        return inf if outcome.key is not None and self._has_head(outcome.key, token) else now

    def _has_head(self, key: str, token: int) -> bool:
        """Return whether a record of a key has a due time, or is held after having waited."""
        due = (each for each in self._waiting.values() if each.due != inf)
        held = (each for each in self._pending.values() if each.record is not None)
        return any(
            each.key == key and (self.is_exclusive or each.holder == token)
            for each in chain(due, held)
        )

    def follow(self, key: str, token: int, now: float) -> None:
        """Make the first record in the line of a key due, unless there is another before it."""
        line = [
            at for at, e in self._waiting.items() if (e.key, e.holder, e.due) == (key, token, inf)
        ]
        if line and not self._has_head(key, token):
            first = min(line)
            self._wait_until(first, self._waiting[first], now)

    def is_over(self, key: str, token: int) -> bool:
        """Return whether no record of a key waits by a lease."""
        return all((each.key, each.holder) != (key, token) for each in self._waiting.values())
