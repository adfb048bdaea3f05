"""A model of the bus, which judges what happened in a crossing (P1).

It reads the trace of a program from the beginning to the end. For each publish it works out, from
what was subscribed, unsubscribed, failed and so on up to then, what the clauses promise, and
compares that with what follows. It knows nothing of how a bus does it. What differs is blamed on
the clause that promises it.
"""

from __future__ import annotations

from itertools import chain, pairwise
from typing import TYPE_CHECKING

from flexiflow.testing._bus.crossed_failures import announcements, failures_told, raises, reports
from flexiflow.testing._bus.crossed_watching import instruments
from flexiflow.testing._bus.reading import Reading
from flexiflow.testing._bus.trace import matches, names
from flexiflow.testing._examiner.clause import describe
from flexiflow.testing._examiner.trace import (
    NOBODY,
    UNENDED,
    shown,
)

if TYPE_CHECKING:
    from flexiflow.testing._bus.reading import Blames
    from flexiflow.testing._bus.trace import BusTrace, Call, Publication, Seat


def blame(trace: BusTrace) -> tuple[str, str] | None:
    """Return the clause that a trace breaks, with the complaint, or None."""
    reading = Reading(trace)
    if trace.left is not None:
        return _left(reading, trace.left)
    # What is nested comes first: it may be the reason for what is wrong around it.
    ended = sorted(trace.publications, key=lambda each: reading.place(trace.end(each)))
    return next(
        chain(
            chain.from_iterable(_publish(reading, each) for each in ended),
            announcements(reading),
            instruments(reading),
            _removals(reading),
        ),
        None,
    )


def complaint_of(clause: str, trace: BusTrace) -> str | None:
    """Return the complaint if a trace breaks just this clause."""
    blamed = blame(trace)
    return blamed[1] if blamed is not None and blamed[0] == clause else None


def _left(reading: Reading, left: BaseException) -> tuple[str, str]:
    """Return the clause that is to blame for a program that did not come to its end."""
    trace = reading.trace
    running = [trace.seats[call.seat] for call in trace.calls if call.end.cancelled]
    running = [*running, *(trace.seats[call.seat] for call in trace.calls if call.end is UNENDED)]
    if any("time_limit" in seat.options for seat in running):
        return "V1", describe(left)
    is_limited = any("limit" in seat.options for seat in trace.seats)
    return "V2" if is_limited else "D4", describe(left)


def _publish(reading: Reading, publication: Publication) -> Blames:
    trace, end = reading.trace, reading.trace.end(publication)
    if end.cancelled or trace.is_cancelled(end):
        # It was cancelled, as a handler of a publish around it was.
        return
    calls = reading.calls(publication.number)
    yield from _starts(reading, publication, calls)
    yield from _order(reading, publication, calls)
    yield from _contexts(reading, publication, calls)
    late = [call for call in calls if reading.place(call.end) > reading.place(end)]
    if late:
        yield "D4", f"{trace.seats[late[0].seat].name} had not ended when publish was over"
    refusals = trace.all("refuses", act=publication.number)
    if refusals:
        if calls or end.value is not refusals[0].value:
            yield "I3", f"a publish was refused, and it {end.what} {shown(end.value)}"
        return
    yield from _missing(reading, publication, calls)
    if publication.on_error == "continue":
        yield from reports(reading, publication)
    else:
        yield from raises(reading, publication, calls)


def _starts(reading: Reading, publication: Publication, calls: list[Call]) -> Blames:
    begin = reading.place(reading.begin(publication))
    filters = reading.filters(publication)
    for call in calls:
        seat, start = reading.trace.seats[call.seat], reading.place(call.start)
        if reading.joined.get(seat.number, start) > begin:
            yield "B5", f"{seat.name} was started, but was not subscribed when the publish began"
        elif not matches(seat.event, publication.event):
            yield "B10", f"{seat.event!r} heard {publication.event!r}"
        elif reading.is_again(seat, call):
            yield "B9", f"{seat.name} started more than once"
        elif reading.gone(seat) < start:
            yield "B5", f"{seat.name} was started, but had been unsubscribed"
        answer = filters.get(call.seat, UNENDED)
        if "filter" in seat.options and answer.value is not True:
            yield "B8", f"{seat.name} started, though its filter had not let it"
        if reading.is_blocked(seat, publication, call.start):
            yield "V2", f"{seat.name} was called from within its own call"


def _order(reading: Reading, publication: Publication, calls: list[Call]) -> Blames:
    started = [reading.trace.seats[call.seat] for call in calls]
    is_sequential = publication.delivery == "sequential"
    if len({*started}) < len(started):
        yield "B5", f"started {names(started)}"
    if is_sequential or not any("limit" in seat.options for seat in started):
        expected = sorted(started, key=reading.rank)
        if started != expected:
            yield "B4", f"started {names(started)}, not {names(expected)}"
    for before, call in pairwise(calls):
        first, then = reading.trace.seats[before.seat], reading.trace.seats[call.seat]
        apart = is_sequential or (
            publication.delivery == "tiered" and first.priority != then.priority
        )
        if apart and reading.place(before.end) > reading.place(call.start):
            yield "D1" if is_sequential else "D3", f"{then.name} started before {first.name} ended"


def _contexts(reading: Reading, publication: Publication, calls: list[Call]) -> Blames:
    trace, begin = reading.trace, reading.begin(publication)
    for call in calls:
        name = trace.seats[call.seat].name
        if publication.delivery != "sequential":
            if call.start.seen is not begin.seen:
                yield "D2", f"{name} saw what another handler set in a context variable"
        elif call.start.task != begin.task:
            yield "D1", f"{name} ran in another task than the publisher"
        else:
            earlier = trace.entries[: reading.place(call.start)]
            before = next(each for each in reversed(earlier) if each.task == begin.task)
            if call.start.seen is not before.seen:
                yield "D1", f"{name} did not see what was set in a context variable before"


def _missing(reading: Reading, publication: Publication, calls: list[Call]) -> Blames:
    trace, end = reading.trace, reading.trace.end(publication)
    over = reading.place(end)
    started = {call.seat for call in calls}
    filters = reading.filters(publication)
    failed = [number for number, _ in failures_told(trace, end)]
    for seat in reading.audience(publication.event, reading.place(reading.begin(publication))):
        answer = filters.get(seat.number)
        if (
            end.what == "raised"
            or seat.number in started
            or min(reading.gone(seat), reading.used(seat)) < over
            or (answer is not None and answer.value is not True)
            or reading.is_blocked(seat, publication, reading.begin(publication))
            or seat.number in failed
        ):
            continue
        yield _missing_by(reading, publication, seat), f"{seat.name} never started"


def _missing_by(reading: Reading, publication: Publication, seat: Seat) -> str:
    """Return the clause by which a handler should have started."""
    trace, begin = reading.trace, reading.place(reading.begin(publication))
    called = any(each.seat == seat.number for each in trace.all("called", act=publication.number))
    if called:
        return "B7"
    ended = [each for each in trace.seats if min(reading.gone(each), reading.used(each)) < begin]
    if "*" in seat.event and any("*" in each.event for each in ended):
        return "B10"
    if trace.all("breaks", act=publication.number):
        return "I3"
    if trace.all("failed", act=publication.number):
        return "E1"
    return "B5"


def _removals(reading: Reading) -> Blames:
    seen: set[int] = set()
    for entry in reading.trace.all("unsubscribed"):
        seat = reading.trace.seats[entry.seat]
        expected = entry.seat not in seen
        if entry.value is not expected and not seat.once:
            yield "B6", f"unsubscribe of {seat.name}'s returned {entry.value!r}, not {expected!r}"
        seen.add(entry.seat)
    for call in reading.trace.calls:
        seat = reading.trace.seats[call.seat]
        surrounded = [
            each for each in reading.trace.all("surrounded", act=call.act) if each.seat == call.seat
        ]
        if "around" in seat.options and call.act != NOBODY and len(surrounded) != 1:
            yield (
                "A3",
                f"{seat.name} started, and what is around it was called {len(surrounded)} times",
            )
