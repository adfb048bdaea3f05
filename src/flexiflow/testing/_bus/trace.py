"""What happened to a bus while a script ran."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from flexiflow.testing._examiner.trace import Trace

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


@dataclass(frozen=True, eq=False)
class Publication:
    """A call of `publish`; it is also the payload, so that a handler's start shows its publish."""

    number: int
    event: str
    data: object
    delivery: str | None
    on_error: str | None


@dataclass
class BusTrace(Trace):
    """All that happened to a bus, in order.

    Attributes:
        seats: the subscriptions, by number.
        publications: the calls of `publish`, by number.
        subscriptions: the number of each subscription object.
    """

    seats: list[Seat] = field(default_factory=list[Seat])
    publications: list[Publication] = field(default_factory=list[Publication])
    subscriptions: dict[object, int] = field(default_factory=dict[object, int])

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

    def first_complaint(self, judge: Callable[[BusTrace, Publication], str | None]) -> str | None:
        """Judge one publish after another; return the first complaint, or None."""
        complaints = (judge(self, publication) for publication in self.publications)
        return next(filter(None, complaints), None)

    def started(self, publication: Publication) -> list[Seat]:
        """Return the subscriptions whose handlers a publish started, in order."""
        starts = self.all("started", act=publication.number)
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
