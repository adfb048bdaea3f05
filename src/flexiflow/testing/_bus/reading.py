"""What a model of the bus looks up in the trace of a crossing (P1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from flexiflow._errors import HandlerCancelled, HandlerTimeout
from flexiflow.testing._bus.trace import AWAITABLE, matches
from flexiflow.testing._examiner.trace import NOBODY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    from flexiflow.testing._bus.trace import BusTrace, Call, Publication, Seat, Watcher
    from flexiflow.testing._examiner.trace import Entry

    Blames: TypeAlias = Iterator[tuple[str, str]]
    """Clauses, each with a complaint."""

_STARTING: Final = ("called", "surrounded", "enters handling", "breaks", "started")
"""What is done once a handler is to start."""


class Due(NamedTuple):
    """A failure that is due.

    Attributes:
        seat: whose it is.
        clause: the clause that promises it.
        kind: its type.
        value: what left the handler or filter: the failure itself, or its cause; or None.
        place: where in the trace it happened, or -1 if that is not known.
    """

    seat: Seat
    clause: str
    kind: type[BaseException]
    value: object
    place: int

    def is_met_by(self, exception: object) -> bool:
        """Return whether an exception is this failure."""
        if isinstance(exception, HandlerCancelled) and self.kind is HandlerCancelled:
            return exception.__cause__ is self.value
        return exception is self.value if self.value else isinstance(exception, self.kind)


class Reading:
    """A trace of a crossing, and what is looked up in it."""

    def __init__(self, trace: BusTrace) -> None:
        self.trace = trace
        self._places = {entry: place for place, entry in enumerate(trace.entries)}
        self._last = len(trace.entries)
        self.joined = {entry.seat: self.place(entry) for entry in trace.all("subscribed")}
        self._gone: dict[int, int] = {}
        for entry in reversed(trace.all("unsubscribed")):
            if entry.value or not trace.seats[entry.seat].once:
                self._gone[entry.seat] = self.place(entry)
        self._broken = {
            entry.component: self.place(entry) for entry in reversed(trace.all("breaks"))
        }
        self._used: dict[int, int] = {}
        for entry in trace.entries:
            if entry.what in _STARTING:
                self._used.setdefault(entry.seat, self.place(entry))

    def place(self, entry: Entry) -> int:
        """Return where an entry is; what never happened is after all others."""
        return self._places.get(entry, self._last)

    def gone(self, seat: Seat) -> int:
        """Return where a subscription was ended by `unsubscribe`, or the end of the trace."""
        return self._gone.get(seat.number, self._last)

    def used(self, seat: Seat) -> int:
        """Return where a `once` was used up, or the end of the trace."""
        return self._used.get(seat.number, self._last) if seat.once else self._last

    def broken(self, watcher: Watcher) -> int:
        """Return where an instrument has failed, or the end of the trace."""
        return self._broken.get(watcher.name, self._last)

    def begin(self, publication: Publication) -> Entry:
        """Return the entry with which a publish began."""
        return self.trace.all("published", act=publication.number)[0]

    def audience(self, event: str, begin: int) -> list[Seat]:
        """Return those that an event reaches which is published at a place, in order."""
        heard = [
            seat
            for seat in self.trace.seats
            if self.joined.get(seat.number, self._last) < begin
            and begin < min(self.gone(seat), self.used(seat))
            and matches(seat.event, event)
        ]
        return sorted(heard, key=self.rank)

    def rank(self, seat: Seat) -> tuple[int, int]:
        """Return what puts subscriptions into order (B4)."""
        return seat.priority, self.joined.get(seat.number, self._last)

    def is_again(self, seat: Seat, call: Call) -> bool:
        """Return whether a handler was to start once, and this is another start."""
        return seat.once and [each for each in self.trace.calls if each.seat == seat.number] != [
            call
        ]

    def is_blocked(self, seat: Seat, publication: Publication, at: Entry) -> bool:
        """Return whether a limited handler would wait for itself, at some time (V2)."""
        place = self.place(at)
        return "limit" in seat.options and any(
            call.seat == seat.number and self.place(call.end) >= place
            for call in publication.within
        )

    def announces(self, publication: Publication, place: int) -> bool | None:
        """Return whether a publish is within the handling of a failure (E7), if that is known."""
        around = [call for call in publication.within if call.act == NOBODY]
        if any(self.place(call.end) > place for call in around):
            return True
        return False if all(self._has_gone_on(call, place) for call in around) else None

    def _has_gone_on(self, call: Call, place: int) -> bool:
        """Return whether the publish that has failed went on after its failure was handled."""
        rest = self.trace.entries[self.place(call.end) : place]
        outside = {each.number for each in self.trace.publications if call not in each.within}
        return any(each.task == call.end.task and each.act in outside for each in rest)

    def may_close_a_ring(self, publication: Publication) -> bool:
        """Return whether a call may wait, by way of other tasks, for one that it is within (V2)."""
        begin = self.place(self.begin(publication))
        tasks = {entry.task for entry in self.trace.entries}
        return len(tasks) > 1 and any(
            "limit" in self.trace.seats[call.seat].options and self.place(call.end) > begin
            for call in publication.within
        )

    def calls(self, act: int, exception: object = None) -> list[Call]:
        """Return the calls of a publish, or of a failure's announcement, in order."""
        return [
            call for call in self.trace.calls if call.act == act and call.exception is exception
        ]

    def filters(self, publication: Publication) -> dict[int, Entry]:
        """Return the end of each filter that a publish asked, by seat."""
        found: dict[int, Entry] = {}
        asked: list[int] = []
        for entry in self.trace.all("asked", "answered", "failed", act=publication.number):
            if entry.what == "asked":
                asked.append(entry.seat)
            elif entry.seat in asked:
                found.setdefault(entry.seat, entry)
        return found

    def due(self, publication: Publication) -> list[Due]:
        """Return the failures that a publish has to raise or report, by time."""
        found: list[Due] = []
        filters = self.filters(publication)
        for entry in self.trace.all("answered", "failed", act=publication.number):
            seat, place = self.trace.seats[entry.seat], self.place(entry)
            is_filter = filters.get(entry.seat) is entry
            if entry.what == "answered":
                if entry.value == AWAITABLE:
                    found.append(Due(seat, "B8", TypeError, None, place))
            elif isinstance(entry.value, Exception):
                clause = "B8" if is_filter else "E1"
                found.append(Due(seat, clause, Exception, entry.value, place))
            elif not entry.cancelled:
                found.append(Due(seat, "E6", HandlerCancelled, entry.value, place))
            elif "time_limit" in seat.options:
                found.append(Due(seat, "V1", HandlerTimeout, None, place))
        return found
