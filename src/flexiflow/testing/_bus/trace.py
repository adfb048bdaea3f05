"""What happened to a bus while a script ran."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Final

from flexiflow.testing._examiner.trace import (
    NOBODY,
    UNENDED,
    Trace,
    announced,
    exception_of,
    first,
    is_a,
    logged,
    misreported,
    reported,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow.testing._examiner.trace import Entry

AWAITABLE: Final = "an awaitable"
"""Noted as the answer of a filter that returned an awaitable."""


@dataclass(frozen=True, eq=False)
class Seat:
    """A subscription, as it was asked for.

    Attributes:
        number: how many were asked for before.
        name: the name of its handler.
    """

    number: int
    event: str
    component: str
    name: str
    priority: int
    once: bool
    options: frozenset[str] = frozenset()
    """The names of the options that were given."""


@dataclass(eq=False)
class Call:
    """A call of a handler.

    Attributes:
        seat: the number of the subscription.
        act: the number of the publish, or -1 if it is an event of the bus's own.
        exception: of such an event, the failure that it tells of.
        start: the entry in which it started.
        end: the entry in which it ended or failed.
    """

    seat: int
    act: int
    exception: object
    start: Entry = UNENDED
    end: Entry = UNENDED


@dataclass(frozen=True, eq=False)
class Publication:
    """A call of `publish`; it is also the payload, so that a handler's start shows its publish.

    Attributes:
        within: the calls of handlers in whose context it was called.
    """

    number: int
    event: str
    data: object
    delivery: str | None
    on_error: str | None
    within: tuple[Call, ...] = ()


@dataclass(frozen=True, eq=False)
class Watcher:
    """An instrument.

    Attributes:
        name: what it is called in the trace.
        methods: the methods that it has.
        added: how many entries there were when it was added.
    """

    name: str
    methods: frozenset[str]
    added: int


@dataclass
class BusTrace(Trace):
    """All that happened to a bus, in order.

    Attributes:
        seats: the subscriptions, by number.
        publications: the calls of `publish`, by number.
        subscriptions: each subscription object with its number.
        calls: the calls of handlers.
        watchers: the instruments.
    """

    seats: list[Seat] = field(default_factory=list[Seat])
    publications: list[Publication] = field(default_factory=list[Publication])
    subscriptions: list[tuple[object, int]] = field(default_factory=list[tuple[object, int]])
    calls: list[Call] = field(default_factory=list[Call])
    watchers: list[Watcher] = field(default_factory=list[Watcher])

    def number_of(self, subscription: object) -> int:
        """Return the number of a subscription object, or -1; it need not be hashable."""
        known = [number for each, number in self.subscriptions if each is subscription]
        # What is handed out later may be an equal object.
        known += [number for each, number in self.subscriptions if each == subscription]
        return next(iter(known), NOBODY)

    def after(self, first: Entry, what: str, publication: Publication) -> list[Entry]:
        """Return the entries of one kind, of one publish, after another entry."""
        entries = self.all(what, act=publication.number)
        return [entry for entry in entries if self.place(entry) > self.place(first)]

    def span(self, publication: Publication) -> list[Entry]:
        """Return all entries from the call of a publish to its end."""
        begin = self.place(self.all("published", act=publication.number)[0])
        end = self.end(publication)
        return self.entries[begin : self.place(end) + 1 if end in self.entries else None]

    def end(self, publication: Publication) -> Entry:
        """Return the entry with which `publish` returned or raised, or `UNENDED`."""
        return self.ended(publication.number)

    def active(self, before: Entry) -> list[Seat]:
        """Return the subscriptions that are active just before an entry, oldest first."""
        seats: dict[int, Seat] = {}
        for entry in self.entries[: self.place(before)]:
            if entry.what == "subscribed":
                seats[entry.seat] = self.seats[entry.seat]
            for gone in self.removed_by(entry):
                seats.pop(gone.number, None)
        return list(seats.values())

    def is_failure(self, entry: Entry) -> bool:
        """Return whether it is a failure of a handler or filter: no cancellation and no exit."""
        return entry.what == "failed" and isinstance(entry.value, Exception)

    def failures(self, publication: Publication) -> list[Entry]:
        """Return the failures of a publish, in the order in which they happened."""
        return list(filter(self.is_failure, self.all("failed", act=publication.number)))

    def audience(self, publication: Publication) -> list[Seat]:
        """Return the subscriptions that a publish must reach, in delivery order (B4, B5, B10)."""
        [begin] = self.all("published", act=publication.number)
        heard = [seat for seat in self.active(begin) if matches(seat.event, publication.event)]
        return sorted(heard, key=lambda seat: seat.priority)

    def started_in(self, publication: Publication) -> list[Entry]:
        """Return the starts of a publish's handlers before its end."""
        starts = [entry for entry in self.span(publication) if entry.what == "started"]
        return [entry for entry in starts if entry.act == publication.number]

    def name(self, entry: Entry) -> str:
        """Return the name of the handler that did something, or "the publisher"."""
        return self.seats[entry.seat].name if entry.seat >= 0 else "the publisher"

    def removed_by(self, entry: Entry) -> set[Seat]:
        """Return the subscriptions that an entry ended, or would have ended if they were active."""
        if entry.what == "unsubscribed":
            return {self.seats[entry.seat]}
        if entry.what == "emptied":
            return {seat for seat in self.seats if seat.component == entry.value[0]}
        return set()

    def all_of(self, seat: Seat, what: str, publication: Publication) -> list[Entry]:
        """Return the entries of one kind, of one subscription in one publish."""
        entries = self.all(what, act=publication.number)
        return [entry for entry in entries if entry.seat == seat.number]

    def started(self, publication: Publication) -> list[Seat]:
        """Return the subscriptions whose handlers a publish started, in order."""
        starts = self.all("started", act=publication.number)
        return [self.seats[entry.seat] for entry in starts]


def each_publish(
    judge: Callable[[BusTrace, Publication], str | None],
) -> Callable[[BusTrace], str | None]:
    """Return a judgement on a trace that judges one publish after another."""

    @wraps(judge)
    def judge_each(trace: BusTrace) -> str | None:
        return first(judge(trace, publication) for publication in trace.publications)

    return judge_each


def matches(pattern: str, name: str) -> bool:
    """Return whether a pattern matches a name (B10)."""
    wanted, given = pattern.split("."), name.split(".")
    if wanted[-1] == "**":
        wanted = wanted[:-1] + ["*"] * max(1, len(given) - len(wanted) + 1)
    return len(wanted) == len(given) and all(
        want in ("*", have) for want, have in zip(wanted, given, strict=True)
    )


def names(seats: list[Seat]) -> str:
    """Return the names of the handlers, joined by commas."""
    return ", ".join(seat.name for seat in seats) or "nobody"


def returned(end: Entry) -> list[object] | None:
    """Return the exceptions that publish returned, or None if it returned no tuple (E1)."""
    if end.what != "returned" or not is_a(end.value, tuple):
        return None
    return [getattr(failure, "exception", None) for failure in end.value]


def every_report(trace: BusTrace) -> list[BaseException]:
    """Return all exceptions that were logged, announced or returned."""
    told = [exception_of(entry) for entry in reported(trace, "logged", "announced")]
    for end in trace.all("returned"):
        told += returned(end) or []
    return [each for each in told if isinstance(each, BaseException)]


def returned_complaint(trace: BusTrace, publication: Publication) -> str | None:
    """Compare what publish returned with the failures there were, in order of delivery."""
    end = trace.end(publication)
    if not is_a(end.value, tuple):
        return f"publish returned {shown(end.value)}, not a tuple of failures"
    by_seat = {entry.seat: entry.value for entry in trace.failures(publication)}
    expected = [seat for seat in trace.audience(publication) if seat.number in by_seat]
    places = [trace.number_of(getattr(each, "subscription", None)) for each in end.value]
    told = [trace.seats[place] for place in places if place >= 0]
    if places != [seat.number for seat in expected]:
        return f"publish returned failures of {names(told)}, not of {names(expected)}"
    for failure, exception, seat in zip(end.value, returned(end) or [], expected, strict=True):
        if exception is not by_seat[seat.number]:
            return f"the failure of {seat.name} was returned with {shown(exception)}"
        of = [getattr(failure, f"{owner}_name", None) for owner in ("event", "component")]
        if of != [publication.event, seat.component]:
            return f"the failure of {seat.name} was returned as of {of[0]!r} and {of[1]!r}"
    return None


def lateness(trace: BusTrace, failed: Entry) -> str | None:
    """Return what shows that a failure was not reported at once, in its own task (E1), or None."""
    told = [*logged(trace, failed.value), *announced(trace, failed.value)]
    rest = trace.entries[trace.place(failed) + 1 :]
    later = [
        entry
        for entry in rest
        if entry.task == failed.task and entry.what not in ("logged", "announced")
    ]
    for entry in told:
        verb = "logged" if entry.what == "logged" else "published"
        report = f"the failure of {trace.name(failed)} was {verb}"
        # A bus may deliver its own event in child tasks, for which the handler's task waits.
        if failed.task not in (entry.task, entry.what == "announced" and entry.parent):
            return f"{report} in another task than its own"
        if later and trace.place(later[0]) < trace.place(entry):
            return f"{report} only when its task had gone on"
    return None


def unnoted(trace: BusTrace, raised: BaseException, others: list[Entry]) -> str | None:
    """Return which other exception is not noted on the one that was raised (E3, E5), or None."""
    notes = getattr(raised, "__notes__", [])
    for other in others:
        telling = trace.name(other), repr(other.value)
        if not any(word in note for note in notes for word in telling):
            return f"{shown(other.value)}, which left {telling[0]}, is not noted on {shown(raised)}"
    return None


def report_complaint(trace: BusTrace, failed: Entry, event: str) -> str | None:
    """Return what is wrong with how a failure was logged and announced (E1), or None."""
    seat = trace.seats[failed.seat]
    names = event, seat.component, seat.name
    return misreported(trace, failed, f"the failure of {seat.name}", event, seat.component, names)
