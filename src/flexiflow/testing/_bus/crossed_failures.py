"""A model of the bus, continued: what it promises of failures in a crossing (P1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flexiflow._errors import HandlerCancelled, HandlerTimeout, LimitDeadlock
from flexiflow.events import HANDLER_FAILED
from flexiflow.testing._bus.trace import names
from flexiflow.testing._examiner.trace import (
    NOBODY,
    UNENDED,
    announced,
    exception_of,
    is_a,
    logged,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flexiflow.testing._bus.reading import Blames, Due, Reading
    from flexiflow.testing._bus.trace import BusTrace, Call, Publication, Seat
    from flexiflow.testing._examiner.trace import Entry

_KINDS: Final[Mapping[object, str]] = {
    LimitDeadlock: "V2",
    HandlerTimeout: "V1",
    HandlerCancelled: "E6",
}
"""The clauses of the bus's own failures."""


def _type(value: object) -> object:
    return type(value)


def reports(reading: Reading, publication: Publication) -> Blames:
    trace, end = reading.trace, reading.trace.end(publication)
    due = {each.seat.number: each for each in reading.due(publication)}
    if end.what == "raised" or not is_a(end.value, tuple):
        clause = _KINDS.get(_type(end.value), "E1")
        yield clause, f"under `continue`, publish {end.what} {shown(end.value)}"
    told = failures_told(trace, end)
    yield from _returned(reading, publication, due, told)
    for number, exception in told:
        times = len(logged(trace, exception)), len(announced(trace, exception))
        place = due[number].place if number in due else reading.place(end)
        is_within = reading.announces(publication, place)
        if times not in [(1, 0)] * (is_within is not False) + [(1, 1)] * (is_within is not True):
            refused = times == (1, 0) and trace.all("refuses", act=NOBODY)
            clause = "I3" if refused else "E7" if publication.within else "E1"
            told_of = f"was logged {times[0]} and published {times[1]} times"
            yield clause, f"the failure of {trace.seats[number].name} {told_of}"


def failures_told(trace: BusTrace, end: Entry) -> list[tuple[int, Exception]]:
    """Return whose failures publish returned, with the failures."""
    if not is_a(end.value, tuple):
        return []
    told = [(trace.number_of(each.subscription), each.exception) for each in end.value]
    return [(number, exception) for number, exception in told if number != NOBODY]


def _returned(
    reading: Reading,
    publication: Publication,
    due: dict[int, Due],
    told: list[tuple[int, Exception]],
) -> Blames:
    trace, numbers = reading.trace, [number for number, _ in told]
    begin = reading.begin(publication)
    for number, exception in told:
        seat = trace.seats[number]
        if number in due:
            if not due[number].is_met_by(exception):
                told_as = f"was returned as {exception!r}"
                yield due[number].clause, f"the failure of {seat.name} {told_as}"
        elif not isinstance(exception, LimitDeadlock):
            yield (
                _KINDS.get(_type(exception), "E1"),
                f"{seat.name} has failed with {exception!r}",
            )
        elif not (
            reading.is_blocked(seat, publication, begin) or reading.may_close_a_ring(publication)
        ):
            yield "V2", f"{seat.name} failed, though its call would not wait for itself"
    for each in due.values():
        if each.seat.number not in numbers:
            yield each.clause, f"the failure of {each.seat.name} was not returned"
    yield from _returned_in_order(reading, publication, numbers)


def _returned_in_order(reading: Reading, publication: Publication, numbers: list[int]) -> Blames:
    trace = reading.trace
    seats = [trace.seats[number] for number in numbers]
    expected = sorted(seats, key=reading.rank)
    if seats != expected:
        yield "E1", f"publish returned failures of {names(seats)}, not of {names(expected)}"
    begin = reading.place(reading.begin(publication))
    for seat in reading.audience(publication.event, begin):
        end = trace.end(publication)
        is_there = min(reading.gone(seat), reading.used(seat)) > reading.place(end)
        if is_there and reading.is_blocked(seat, publication, end) and seat.number not in numbers:
            yield "V2", f"{seat.name}, called from within its own call, has not failed"


def raises(reading: Reading, publication: Publication, calls: list[Call]) -> Blames:
    trace, end = reading.trace, reading.trace.end(publication)
    clause = "E3" if publication.delivery == "concurrent" else "E2"
    is_sequential = publication.delivery == "sequential"
    due = [each for each in reading.due(publication) if is_sequential or each.clause != "V1"]
    if isinstance(end.value, LimitDeadlock) and not any(each.is_met_by(end.value) for each in due):
        audience = reading.audience(publication.event, reading.place(reading.begin(publication)))
        if not (
            reading.may_close_a_ring(publication)
            or any(
                reading.is_blocked(seat, publication, reading.begin(publication))
                for seat in audience
            )
        ):
            yield "V2", "a limited call failed, though it would not wait for itself"
        return
    if not due:
        if end.what == "raised" and is_sequential:
            yield _KINDS.get(_type(end.value), clause), f"publish raised {shown(end.value)}"
        return
    if end.what != "raised" or not due[0].is_met_by(end.value):
        wrong = due[0].clause if due[0].clause != "E1" else clause
        yield wrong, f"publish {end.what} {shown(end.value)}, and {due[0].seat.name} had failed"
    late = [call for call in calls if reading.place(call.start) > due[0].place]
    if late:
        yield clause, f"{trace.seats[late[0].seat].name} started after a failure"
    # A publish around it may report it in turn.
    if logged(trace, end.value) and not publication.within:
        yield "E4", f"{shown(end.value)} was raised and logged"


def announcements(reading: Reading) -> Blames:
    trace = reading.trace
    for entry in trace.all("announced"):
        exception, place = exception_of(entry), reading.place(entry)
        audience = reading.audience(HANDLER_FAILED, place)
        calls = reading.calls(NOBODY, exception)
        started = [trace.seats[call.seat] for call in calls]
        for call, seat in zip(calls, started, strict=True):
            if seat not in audience or reading.gone(seat) < reading.place(call.start):
                yield "B5", f"{seat.name} heard of a failure, and was not subscribed"
        if started != sorted(started, key=reading.rank):
            yield "B4", f"of a failure were told, in this order, {names(started)}"
        yield from _observers(reading, _there_before(reading, audience, exception), calls)


def _there_before(reading: Reading, audience: list[Seat], failure: object) -> list[Seat]:
    """Return those of an audience that were there before the failure.

    What is subscribed between that and its publishing may be told of it or not.
    """
    places = [reading.place(each) for each in reading.trace.entries if each.value is failure]
    return [seat for seat in audience if reading.joined[seat.number] < min(places, default=0)]


def _observers(reading: Reading, audience: list[Seat], calls: list[Call]) -> Blames:
    trace = reading.trace
    ends = [call.end for call in calls]
    if any(end.cancelled or end is UNENDED for end in ends):
        return
    for call in calls:
        failure = call.end.value
        if isinstance(failure, Exception) and call.end.what == "failed":
            times = len(logged(trace, failure)), len(announced(trace, failure))
            if times != (1, 0):
                told = f"was logged {times[0]} and published {times[1]} times"
                yield "E7", f"the failure of {trace.seats[call.seat].name}, an observer, {told}"
    heard = {call.seat for call in calls}
    for seat in audience:
        is_plain = seat.options.isdisjoint({"filter", "limit"})
        is_there = min(reading.gone(seat), reading.used(seat)) == reading.place(UNENDED)
        if is_plain and is_there and seat.number not in heard:
            failed = any(end.what == "failed" for end in ends)
            yield "E1" if failed else "B5", f"{seat.name} was not told of a failure"
