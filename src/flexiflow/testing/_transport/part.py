"""The reference model of a group in one partition: how far it is, and what it is given next."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf
from typing import TYPE_CHECKING, final

from flexiflow.extras.durable import Room
from flexiflow.testing._transport.holds import Hold, Offer, Span

if TYPE_CHECKING:
    from flexiflow.testing._transport.holds import Item, Tenure


@final
@dataclass(slots=True)
class Part:
    """How far a group is in one partition.

    Attributes:
        items: what is stored there, shared by all groups.
        gone: the places that were deleted behind the transport's back, shared by all groups.
        is_exclusive: whether one worker at a time leases it.
        begun: how many of the items were given.
        forgiven: the places that were gone before the group was there.
        pending: what was given and is not settled, by its place.
        waiting: what was postponed, by its place.
        settled: the places of what was acknowledged or buried.
        missed: the least and the most that were deleted before they were settled.
        origins: for the places of what was redriven, those of the first originals; shared.
        planned: the bodies of all that was scheduled; shared.
        passed: the places, not begun, that are passed over, since the group has begun again.
        is_moved: whether it was to begin somewhere, or to begin again.
    """

    items: list[Item]
    gone: set[int]
    is_exclusive: bool = False
    begun: int = 0
    forgiven: frozenset[int] = frozenset()
    pending: dict[int, Hold] = field(default_factory=dict[int, Hold])
    waiting: dict[int, Hold] = field(default_factory=dict[int, Hold])
    settled: set[int] = field(default_factory=set[int])
    missed: list[int] = field(default_factory=lambda: [0, 0])
    origins: dict[int, int] = field(default_factory=dict[int, int])
    planned: set[bytes] = field(default_factory=set[bytes])
    passed: set[int] = field(default_factory=set[int])
    is_moved: bool = False

    def clause(self, otherwise: str) -> str:
        """Return the clause that is broken where a record is given wrongly, or is not given."""
        return "Y5" if self.is_moved else otherwise

    def origin(self, place: int) -> int:
        """Return the place of the first original of a record; its own if it was not redriven."""
        return self.origins.get(place, place)

    def begin_again(self, begin: int, at: Span) -> None:
        """Begin again at a place; copies count as being where their originals are (Y5)."""
        known = {*self.pending, *self.waiting, *self.passed}
        for holds in (self.pending, self.waiting):
            for place in [each for each in holds if self.origin(each) >= begin]:
                del holds[place]
        copies = [each for each in range(begin, len(self.items)) if self.items[each].group]
        self.passed = {
            each
            for each in copies
            if self.origin(each) >= begin or each < self.begun or each in known
        }
        self.settled = {*range(begin)} | self.passed - {*self.pending, *self.waiting}
        self.settled -= {*self.pending, *self.waiting}
        self.begun, self.is_moved = begin, True
        for _, hold in sorted(self.waiting.items()):
            if hold.due is None and hold.holder and not self.heads(hold.key, hold.holder):
                hold.due = at

    @property
    def lag(self) -> int:
        """How many records were not yet given."""
        return len(self.new())

    @property
    def is_doubtful(self) -> bool:
        """Whether it is unknown of some record whether it was given."""
        holds = (*self.pending.values(), *self.waiting.values())
        return any(hold.is_doubtful for hold in holds)

    @property
    def ghosts(self) -> tuple[int, int]:
        """How many of the pending, and of the waiting records, may be settled already."""
        pending = sum(hold.is_ghost for hold in self.pending.values())
        return pending, sum(hold.is_done for hold in self.waiting.values())

    def unsettled(self, *, with_ghosts: bool) -> list[int]:
        """Return the places in the log that are not settled, and do not wait outside it."""
        held = [
            place
            for place, hold in self.pending.items()
            if not hold.has_waited and (with_ghosts or not hold.is_ghost)
        ]
        new = {*range(self.begun, len(self.items))} - (set() if with_ghosts else self.passed)
        return sorted({*held} | new)

    def has(self, place: int) -> bool:
        """Return whether a pending record is still there."""
        return place not in self.gone or self.pending[place].has_waited

    def new(self) -> list[int]:
        """Return the places that the group has not begun."""
        new = range(self.begun, len(self.items))
        return [place for place in new if place not in self.gone and place not in self.passed]

    def offer(self, tenure: Tenure, at: Span, room: Room) -> Offer:
        """Return what a lease may be given at some time, if it asks for that much."""
        out = sum(hold.has_waited for hold in self.pending.values())
        is_shut = len(self.waiting) + out >= room.waiting
        left = [place for place in sorted(self.pending) if self._is_left(place, tenure)]
        mine, others = list[int](), list[int]()
        for place, hold in self.waiting.items():
            if hold.due is None or hold.is_done or hold.due.earliest > at.latest:
                continue
            is_certain = self._is_for(hold, tenure) and hold.due.latest <= at.earliest
            if is_certain or hold.is_loose or self._is_for(hold, tenure):
                (mine if is_certain else others).append(place)
        # Once a record that is done is settled, the next of its line is due.
        others += [line[0] for line in self._freed(tenure, at).values() if line]
        mine.sort(key=self._due_at)
        others.sort(key=self._due_at)
        return Offer(left, self.new(), mine, others, is_shut, room.again)

    def _is_left(self, place: int, tenure: Tenure) -> bool:
        hold = self.pending[place]
        return hold.is_left_to(tenure) and not hold.is_done and self.has(place)

    def _is_for(self, hold: Hold, tenure: Tenure) -> bool:
        return self.is_exclusive or hold.holder is tenure or hold.is_left_to(tenure)

    def _due_at(self, place: int) -> tuple[float, int]:
        due = self.waiting[place].due
        return (due.earliest if due is not None else inf), place

    def give(self, place: int, tenure: Tenure) -> Hold:
        """Give a record to a lease, and return its state before."""
        for ghost, line in self._freed(tenure, Span(-inf, inf)).items():
            if place in line:
                self.settled.add(ghost)
                self.pending.pop(ghost, None)
                self.waiting.pop(ghost, None)
        hold = self.waiting.pop(place, None) or self.pending.get(place)
        if hold is None:
            # A deleted record is passed over when a later one is given.
            self.pending[place] = Hold(holder=tenure)
            self.begun = max(self.begun, place + 1)
            return Hold(deliveries=0)
        before = replace(hold)
        self._move_line(hold.key, hold.holder, tenure)
        hold.holder, hold.spare, hold.is_doubtful, hold.is_loose = tenure, None, False, False
        hold.deliveries, hold.due = max(hold.deliveries, 1), None
        self.pending[place] = hold
        return before

    def _move_line(self, key: str | None, former: Tenure | None, tenure: Tenure) -> None:
        for place in self.line(key, former):
            hold = self.waiting[place]
            hold.holder, hold.is_loose = tenure, False

    def line(self, key: str | None, tenure: Tenure | None) -> list[int]:
        """Return the places of what waits under a lease in the line of a key."""
        return sorted(
            place
            for place, hold in self.waiting.items()
            if hold.due is None
            and key is not None
            and hold.key == key
            and (self.is_exclusive or hold.holder is tenure)
        )

    def waits(self, key: str, tenure: Tenure) -> list[Hold]:
        """Return what waits of a key under a lease."""
        return [
            hold
            for hold in self.waiting.values()
            if hold.key == key and (self.is_exclusive or hold.holder is tenure)
        ]

    def heads(self, key: str | None, tenure: Tenure) -> list[Hold]:
        """Return what a key's line is behind: records that are due at some time, or held again."""
        due = [hold for hold in self.waits(key or "", tenure) if hold.due is not None]
        held = [
            hold
            for hold in self.pending.values()
            if hold.has_waited and hold.key == key and (self.is_exclusive or hold.holder is tenure)
        ]
        return [*due, *held] if key is not None else []

    def doubt(self, tenure: Tenure, limit: int, at: Span) -> None:
        """Note that a `receive` was cancelled: it may have taken what it would have returned."""
        offer = self.offer(tenure, at, Room(limit))
        for place in [*offer.left, *offer.new][:limit]:
            hold = self.pending.setdefault(place, Hold(deliveries=0))
            hold.is_doubtful = True
            self.begun = max(self.begun, place + 1)
        for place in [*offer.due, *offer.maybe][:limit]:
            self.waiting[place].is_doubtful = True

    def miss(self) -> None:
        """Count the deleted records as missed, once all that are there were given."""
        lost = self.gone - self.settled - {*self.waiting}
        least, most = self.missed
        self.missed = [least + len(lost - self.forgiven), most + len(lost)]
        self.begun = len(self.items)
        for place in lost:
            self.pending.pop(place, None)

    def _freed(self, tenure: Tenure, at: Span) -> dict[int, list[int]]:
        """Return the done records that a `receive` may settle, and the line behind each."""
        left = [
            place
            for place, hold in self.pending.items()
            if hold.is_ghost and hold.holder is not tenure
        ]
        due = [
            place
            for place, hold in self.waiting.items()
            if hold.is_done and self._is_for(hold, tenure)
            if hold.due is not None and hold.due.earliest <= at.latest
        ]
        holds = {**self.pending, **self.waiting}
        return {place: self._line_behind(holds[place]) for place in (*left, *due)}

    def _line_behind(self, hold: Hold) -> list[int]:
        """Return the line behind a record, if it is behind no other one."""
        if hold.holder is None or any(
            head is not hold for head in self.heads(hold.key, hold.holder)
        ):
            return []
        return self.line(hold.key, hold.holder)

    def bury_ghosts(self, at: Span, tenure: Tenure, *, is_full: bool) -> None:
        """Settle the done records that nobody holds, as a `receive` does that comes to them."""
        for place, line in self._freed(tenure, at).items():
            hold = self.pending.get(place) or self.waiting[place]
            # A `receive` that filled its room may not have come so far.
            is_certain = not is_full and (hold.due is None or hold.due.latest <= at.earliest)
            self._free(line, at, tenure if is_certain else None)
            if is_certain:
                self.settled.add(place)
                self.pending.pop(place, None)
                self.waiting.pop(place, None)

    def _free(self, line: list[int], at: Span, tenure: Tenure | None) -> None:
        """Make the first of a line due for that lease; without one, it may be due or not yet."""
        for number, place in enumerate(line):
            hold = self.waiting[place]
            hold.is_loose = True
            hold.holder = tenure or hold.holder
            if not number:
                hold.due = Span(at.earliest, at.latest if tenure is not None else inf)
