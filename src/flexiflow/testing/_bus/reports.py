"""What the trace of a bus shows of a failure's reports, and of what publish returned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flexiflow.testing._bus.trace import names
from flexiflow.testing._examiner import reports
from flexiflow.testing._examiner.reports import announced, exception_of, is_a, logged, reported
from flexiflow.testing._examiner.trace import NOBODY, shown

if TYPE_CHECKING:
    from flexiflow.testing._bus.trace import BusTrace, Publication
    from flexiflow.testing._examiner.trace import Entry


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
    places = [
        trace.subscriptions.get(getattr(each, "subscription", None), NOBODY) for each in end.value
    ]
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
    goes_on = [
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
        if goes_on and trace.place(goes_on[0]) < trace.place(entry):
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
    return reports.report_complaint(
        trace, failed, f"the failure of {seat.name}", event, seat.component, names
    )
