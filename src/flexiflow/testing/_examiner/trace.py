"""The trace: what happened while a script ran."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOBODY = -1
"""Stands for no subscription, and for no publish."""
AWAITABLE = "an awaitable"
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


@dataclass(frozen=True, eq=False)
class Publication:
    """A call of `publish`; it is also the payload, so that a handler's start shows its publish."""

    number: int
    event: str
    data: object
    delivery: str | None
    on_error: str | None


@dataclass(frozen=True, eq=False, slots=True)
class Entry:
    """Something that happened.

    Attributes:
        what: "subscribed", "unsubscribed", "emptied" (a component); "published", then "returned" or
            "raised"; "asked" and "started", then "answered" or "ended", or "failed"; "logged";
            "announced".
        seat: the number of the subscription, or -1.
        publication: the number of the publish, or -1 for a built-in event's.
        value: what came of it: a result, an exception, a log record, a payload.
        task: the task in which it happened.
        parent: the task that started this one, or None.
        mark: the value of the context variable that programs set.
        cancelled: whether a scope around it was cancelled.
        observing: whether it happened within a handler of `event.handler.failed`.
    """

    what: str
    seat: int
    publication: int
    value: Any
    task: int
    mark: object
    cancelled: bool
    parent: int | None = None
    observing: bool = False


UNENDED = Entry("was not over", NOBODY, NOBODY, None, 0, None, cancelled=False)
"""The end of a publish that never ended; the reason for that is reported elsewhere."""


@dataclass
class Trace:
    """All that happened, in order.

    Attributes:
        entries: what happened.
        seats: the subscriptions, by number.
        publications: the calls of `publish`, by number.
        left: what was raised out of the program, or None.
        tasks_left: the tasks that were there at the end but not at the beginning.
        subscriptions: the number of each subscription object.
        cancellation: the type of the backend's cancellations.
    """

    entries: list[Entry] = field(default_factory=list[Entry])
    seats: list[Seat] = field(default_factory=list[Seat])
    publications: list[Publication] = field(default_factory=list[Publication])
    left: BaseException | None = None
    tasks_left: tuple[str, ...] = ()
    cancellation: type[BaseException] = GeneratorExit
    subscriptions: dict[object, int] = field(default_factory=dict[object, int])

    def told(self) -> Iterator[tuple[int, str, str, Any]]:
        """Yield each entry's task, what happened, to whom, and what came of it."""
        for entry in self.entries:
            yield entry.task, entry.what, self._who(entry), entry.value

    def _who(self, entry: Entry) -> str:
        who = [self.seats[entry.seat].name] if entry.seat >= 0 else []
        if entry.publication >= 0:
            event = self.publications[entry.publication].event
            who.append(f"publish {entry.publication} of {event!r}")
        return " in ".join(who)

    def all(self, *whats: str, publication: int | None = None) -> list[Entry]:
        """Return the entries of some kinds, of one publish or of any."""
        return [
            entry
            for entry in self.entries
            if entry.what in whats and publication in (None, entry.publication)
        ]

    def place(self, entry: Entry) -> int:
        """Return the index of an entry."""
        return self.entries.index(entry)

    def after(self, first: Entry, what: str, publication: Publication) -> list[Entry]:
        """Return the entries of one kind, of one publish, after another entry."""
        entries = self.all(what, publication=publication.number)
        return [entry for entry in entries if self.place(entry) > self.place(first)]

    def span(self, publication: Publication) -> list[Entry]:
        """Return all entries from the call of a publish to its end."""
        begin = self.place(self.all("published", publication=publication.number)[0])
        ends = self.all("returned", "raised", publication=publication.number)
        return self.entries[begin : self.place(ends[0]) + 1 if ends else None]

    def end(self, publication: Publication) -> Entry:
        """Return the entry with which `publish` returned or raised, or `UNENDED`."""
        return next(iter(self.all("returned", "raised", publication=publication.number)), UNENDED)

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

    def is_cancelled(self, entry: Entry) -> bool:
        """Return whether it is a cancellation that leaves a handler or publish."""
        return isinstance(entry.value, self.cancellation)

    def failures(self, publication: Publication) -> list[Entry]:
        """Return the failures of a publish, in the order in which they happened."""
        return list(filter(self.is_failure, self.all("failed", publication=publication.number)))

    def audience(self, publication: Publication) -> list[Seat]:
        """Return the subscriptions that a publish must reach, in delivery order (B4, B5, B10)."""
        [begin] = self.all("published", publication=publication.number)
        heard = [seat for seat in self.active(begin) if matches(seat.event, publication.event)]
        return sorted(heard, key=lambda seat: seat.priority)

    def started_in(self, publication: Publication) -> list[Entry]:
        """Return the starts of a publish's handlers before its end."""
        starts = [entry for entry in self.span(publication) if entry.what == "started"]
        return [entry for entry in starts if entry.publication == publication.number]

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
        entries = self.all(what, publication=publication.number)
        return [entry for entry in entries if entry.seat == seat.number]

    def first_complaint(self, judge: Callable[[Trace, Publication], str | None]) -> str | None:
        """Judge one publish after another; return the first complaint, or None."""
        complaints = (judge(self, publication) for publication in self.publications)
        return next(filter(None, complaints), None)

    def started(self, publication: Publication) -> list[Seat]:
        """Return the subscriptions whose handlers a publish started, in order."""
        starts = self.all("started", publication=publication.number)
        return [self.seats[entry.seat] for entry in starts]


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
