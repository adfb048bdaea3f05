"""What processes have reported of the events that they scheduled, and the judge of it (Y3)."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import accumulate
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from tools.chaos.ledger import Pulse, entry_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flexiflow.extras.durable import DeadLetter
    from tools.chaos.ledger import Entry, Result

_EXACT: Final = 0.001
"""Seconds by which two readings of a clock may differ, since they are rounded."""


class Booking(NamedTuple):
    """A scheduled event, as `schedule` confirmed it; all times are the transport's clock's.

    Attributes:
        key: the event's key, if it has one.
        earliest: the time before which it must not be handed out.
        latest: the time that it may have at the latest: `schedule` counts a delay from a moment
            of its own.
        ticket: its ticket.
        confirmed: when `schedule` had returned.
    """

    key: str | None
    earliest: float
    latest: float
    ticket: str
    confirmed: float


@final
@dataclass
class Timetable:
    """The record of what the processes reported.

    Attributes:
        booked: the confirmed events by their numbers.
        asked: the tickets of cancellations without an answer, by the numbers of the events.
        cancelled: the numbers of the events whose cancellation said True.
        handled: the times at which each event was handled, by its number.
        seen: the time at which each event was seen in its log, by its number.
        awaited: the numbers of the events that must still be handled.
        pulse: beats whenever one of these changes.
    """

    booked: dict[str, Booking] = field(default_factory=dict[str, Booking])
    asked: dict[str, str] = field(default_factory=dict[str, str])
    cancelled: set[str] = field(default_factory=set[str])
    handled: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    seen: dict[str, float] = field(default_factory=dict[str, float])
    awaited: set[str] = field(default_factory=set[str])
    pulse: Pulse = field(default_factory=Pulse)

    def note(self, word: str, number: str, *facts: Any) -> None:
        """Note what a process reported of an event.

        Args:
            word: what happened to the event: one of those below.
            number: the event's number.
            facts: what belongs to it.
        """
        match word:
            case "scheduled":
                self.booked[number] = Booking(*facts)
                # Its worker may have been quicker than the process that scheduled it.
                if number not in self.handled:
                    self.awaited.add(number)
            case "cancelling":
                self.asked[number] = self.booked[number].ticket
            case "answered":
                del self.asked[number]
                if facts[0]:
                    self.cancelled.add(number)
                    self.awaited.discard(number)
            case "handled":
                self.handled[number].append(facts[0])
                self.awaited.discard(number)
            case _:
                raise ValueError(f"a process reported {word!r}")
        self.pulse.beat()

    def see(self, number: str, now: float) -> None:
        """Note that an event is in its log, where one watches that does not handle it."""
        self.seen.setdefault(number, now)

    def judge(
        self, result: Result, entries: Sequence[Entry], dead: Sequence[DeadLetter] = ()
    ) -> None:
        """Compare the record with the log.

        Args:
            result: the result to fill in.
            entries: the events of the log; each message is a number, a key, and the time before
                which the event must not be handed out.
            dead: the dead letters, of which there should be none.
        """
        buried = {entry_of(each.body).message[0] for each in dead}
        stored = Counter(each.message[0] for each in entries)
        result.stored = len(entries)
        result.handled = len(self.handled)
        result.twice = sum(map(len, self.handled.values())) - len(self.handled)
        result.cancelled = len(self.cancelled)
        result.lost = len(self.booked.keys() - self.cancelled - stored.keys())
        result.dead = len(dead)
        result.unhandled = len(stored.keys() - self.handled.keys() - buried)
        result.doubled = stored.total() - len(stored)
        result.wrong = len(self.handled.keys() - stored.keys()) + len(dead)
        result.revived = len(self.cancelled & (stored.keys() | self.handled.keys()))
        due = {number: earliest for number, _, earliest in (each.message for each in entries)}
        result.early = sum(self._first(each) < due[each] - _EXACT for each in due)
        result.disordered = sum(map(_misplaced, self._lines()))

    def _first(self, number: str) -> float:
        """Return when an event was first seen or handled."""
        times: list[float] = [*self.handled.get(number, ()), self.seen.get(number, inf)]
        return min(times)

    def _lines(self) -> Iterable[list[Booking]]:
        """Yield the events of each key, in the order in which they were first handled.

        An event may come late if others that are due after it were in the log when it was stored;
        so those are left out whose `schedule` returned only when their time had come.
        """
        lines: dict[str, list[Booking]] = defaultdict(list)
        for number in sorted(self.handled, key=lambda each: min(self.handled[each])):
            found = self.booked.get(number)
            if found and found.key is not None and found.confirmed < found.earliest:
                lines[found.key].append(found)
        return lines.values()


def _misplaced(line: list[Booking]) -> int:
    """Return how many of a line's events come behind one whose time is later for certain."""
    before = accumulate((each.earliest for each in line), max)
    return sum(each.latest < latest - _EXACT for each, latest in zip(line, before, strict=True))
