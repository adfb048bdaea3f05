"""What a trace shows of a failure's reports: whether it was logged, announced and returned."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

from flexiflow.testing._examiner.story import shown
from flexiflow.testing._examiner.trace import NOBODY, names

if TYPE_CHECKING:
    from flexiflow.testing._examiner.trace import Entry, Publication, Trace


def exception_of(entry: Entry) -> object:
    """Return the exception that was logged with its traceback, or announced."""
    if entry.what == "logged":
        return exception_in(entry.value)
    return entry.value.get("exception") if is_a(entry.value, dict) else None


def exception_in(record: logging.LogRecord) -> BaseException | None:
    """Return the exception that a record has, with its traceback, or None."""
    return (record.exc_info or (None, None))[1]


def is_a(value: object, kind: type) -> bool:
    """Return `isinstance(value, kind)`, but let type checkers still take the value for `Any`."""
    return isinstance(value, kind)


def logged(trace: Trace, exception: BaseException) -> list[Entry]:
    """Return the entries that log an exception at WARNING or above; debugging aids don't count."""
    return [entry for entry in _reported(trace, "logged") if exception_of(entry) is exception]


def announced(trace: Trace, exception: BaseException) -> list[Entry]:
    """Return the entries in which an exception was heard as `event.handler.failed`."""
    return [entry for entry in trace.all("announced") if exception_of(entry) is exception]


def returned(end: Entry) -> list[object] | None:
    """Return the exceptions that publish returned, or None if it returned no tuple (E1)."""
    if end.what != "returned" or not is_a(end.value, tuple):
        return None
    return [getattr(failure, "exception", None) for failure in end.value]


def every_report(trace: Trace) -> list[BaseException]:
    """Return all exceptions that were logged, announced or returned."""
    told = [exception_of(entry) for entry in _reported(trace, "logged", "announced")]
    for end in trace.all("returned"):
        told += returned(end) or []
    return [each for each in told if isinstance(each, BaseException)]


def _reported(trace: Trace, *whats: str) -> list[Entry]:
    return [
        entry
        for entry in trace.all(*whats)
        if entry.what != "logged" or entry.value.levelno >= logging.WARNING
    ]


def parts(exception: BaseException) -> list[BaseException]:
    """Return an exception itself and, if it is a group, all that it holds at any depth."""
    if not isinstance(exception, BaseExceptionGroup):
        return [exception]
    group = cast("BaseExceptionGroup[BaseException]", exception)
    return [exception, *(part for each in group.exceptions for part in parts(each))]


def returned_complaint(trace: Trace, publication: Publication) -> str | None:
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


def lateness(trace: Trace, failed: Entry) -> str | None:
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


def unnoted(trace: Trace, raised: BaseException, others: list[Entry]) -> str | None:
    """Return which other exception is not noted on the one that was raised (E3, E5), or None."""
    notes = getattr(raised, "__notes__", [])
    for other in others:
        telling = trace.name(other), repr(other.value)
        if not any(word in note for note in notes for word in telling):
            return f"{shown(other.value)}, which left {telling[0]}, is not noted on {shown(raised)}"
    return None


def report_complaint(trace: Trace, failed: Entry, event: str) -> str | None:
    """Return what is wrong with how a failure was logged and announced (E1), or None."""
    seat = trace.seats[failed.seat]
    records = logged(trace, failed.value)
    if len(records) != 1:
        return f"the failure of {seat.name} was logged with its traceback {len(records)} times"
    wrong = _log_complaint(trace, failed, records[0], event)
    if wrong:
        return wrong
    told = announced(trace, failed.value)
    if len(told) != 1:
        return f"the failure of {seat.name} was published {len(told)} times"
    payload = told[0].value
    if (payload.get("event_name"), payload.get("component_name")) != (event, seat.component):
        return f"the failure of {seat.name} was published with another event or component"
    return None


def _log_complaint(trace: Trace, failed: Entry, logged: Entry, event: str) -> str | None:
    seat, record = trace.seats[failed.seat], logged.value
    whose = f"the failure of {seat.name} was logged"
    if record.levelno != logging.ERROR:
        return f"{whose} as {record.levelname}, not as ERROR"
    missing = unnamed(record, event, seat.component, seat.name)
    return f"{whose} without {missing}" if missing else None


def unnamed(record: logging.LogRecord, *names: str) -> str:
    """Return the names that a log record's message lacks, joined by commas (E1)."""
    message = record.getMessage()
    return ", ".join(name for name in names if name not in message)
