"""A model of the bus, which judges what happened in a crossing (P1).

It reads the trace of a program from the beginning to the end. For each publish it works out, from
what was subscribed, unsubscribed, failed and so on up to then, what the clauses promise, and
compares that with what follows. It knows nothing of how a bus does it. What differs is blamed on
the clause that promises it.
"""

from __future__ import annotations

from functools import partial
from itertools import chain, pairwise, takewhile
from operator import ne
from typing import TYPE_CHECKING, Final

from flexiflow._errors import HandlerCancelled, HandlerTimeout, LimitDeadlock
from flexiflow.events import HANDLER_FAILED
from flexiflow.testing._bus.reading import Reading
from flexiflow.testing._bus.trace import matches, names
from flexiflow.testing._examiner.clause import describe
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
    from collections.abc import Iterator, Mapping
    from typing import TypeAlias

    from flexiflow.testing._bus.reading import Due
    from flexiflow.testing._bus.trace import BusTrace, Call, Publication, Seat, Watcher
    from flexiflow.testing._examiner.trace import Entry

    Blames: TypeAlias = Iterator[tuple[str, str]]
    """Clauses, each with a complaint."""

_KINDS: Final[Mapping[object, str]] = {
    LimitDeadlock: "V2",
    HandlerTimeout: "V1",
    HandlerCancelled: "E6",
}
"""The clauses of the bus's own failures."""


def _type(value: object) -> object:
    return type(value)


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
            _announcements(reading),
            _instruments(reading),
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
        yield from _reports(reading, publication)
    else:
        yield from _raises(reading, publication, calls)


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
    failed = [number for number, _ in _told(trace, end)]
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


def _reports(reading: Reading, publication: Publication) -> Blames:
    trace, end = reading.trace, reading.trace.end(publication)
    due = {each.seat.number: each for each in reading.due(publication)}
    if end.what == "raised" or not is_a(end.value, tuple):
        clause = _KINDS.get(_type(end.value), "E1")
        yield clause, f"under `continue`, publish {end.what} {shown(end.value)}"
    told = _told(trace, end)
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


def _told(trace: BusTrace, end: Entry) -> list[tuple[int, Exception]]:
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


def _raises(reading: Reading, publication: Publication, calls: list[Call]) -> Blames:
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


def _announcements(reading: Reading) -> Blames:
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
        yield from _observers(reading, audience, calls)


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


def _instruments(reading: Reading) -> Blames:
    trace = reading.trace
    for watcher in trace.watchers:
        broken = [each for each in trace.all("breaks") if each.component == watcher.name]
        times = sum(len(logged(trace, each.value)) for each in broken)
        if broken and times != 1:
            yield "I3", f"the failure of {watcher.name} was logged {times} times"
    for entry in trace.all("enters publishing", "enters handling"):
        [watcher] = [each for each in trace.watchers if each.name == entry.component]
        if reading.broken(watcher) < reading.place(entry):
            yield "I3", f"{watcher.name} has failed, and still watches"
    for publication in trace.publications:
        end = trace.end(publication)
        if not (end.cancelled or trace.is_cancelled(end) or end is UNENDED):
            yield from _watched(reading, publication)
            for call in reading.calls(publication.number):
                yield from _handled(reading, publication, call)


def _watchers(reading: Reading, method: str, begin: int, now: int) -> list[Watcher]:
    """Return the instruments with a method that watch a publish, and have not failed by now."""
    return [
        each
        for each in reading.trace.watchers
        if method in each.methods and each.added <= begin and reading.broken(each) > now
    ]


def _watched(reading: Reading, publication: Publication) -> Blames:
    """Judge how a publish was watched."""
    trace, number = reading.trace, publication.number
    begin, end = reading.place(reading.begin(publication)), trace.end(publication)
    within = trace.all("enters publishing", "leaves publishing", act=number)
    told = [(each.what, each.component) for each in within]
    refusals = trace.all("refuses", act=number)
    # One that fails meanwhile is out of it, as are those that it refuses to.
    watchers = _watchers(reading, "publishing", begin, reading.place(end))
    entered = [each.name for each in watchers]
    for refusal in refusals:
        entered = [*takewhile(partial(ne, refusal.component), entered)]
    expected = [("enters publishing", each) for each in entered]
    expected += [("leaves publishing", each) for each in entered[::-1]]
    if [each for each in told if each[1] in entered or refusals] != expected:
        clause = "I3" if refusals or trace.all("breaks") else "I2"
        yield clause, f"a publish was watched by {told}, not {expected}"
    leaving = end.value if end.what == "raised" else None
    for each in within:
        if each.what == "leaves publishing" and each.value is not leaving:
            yield "I2", f"{each.component} was shown {shown(each.value)}, not {shown(leaving)}"
    calls = reading.calls(number)
    inside = [*map(reading.place, (e for call in calls for e in (call.start, call.end)))]
    places = [reading.place(each) for each in within if each.component in entered]
    if inside and places and not (places[0] < min(inside) and max(inside) < places[-1]):
        yield "I2", "a publish was not watched from its beginning to its end"


def _handled(reading: Reading, publication: Publication, call: Call) -> Blames:
    """Judge how a handler was watched."""
    trace, seat = reading.trace, reading.trace.seats[call.seat]
    begin = reading.place(reading.begin(publication))
    watchers = _watchers(reading, "handling", begin, reading.place(call.end))
    around = [
        each
        for each in trace.all("enters handling", "leaves handling", act=call.act)
        if each.seat == call.seat
    ]
    for watcher in watchers:
        mine = [each for each in around if each.component == watcher.name]
        if [each.what for each in mine] != ["enters handling", "leaves handling"] or not (
            reading.place(mine[0]) < reading.place(call.start)
            and reading.place(call.end) < reading.place(mine[1])
        ):
            clause = "I3" if trace.all("breaks") else "I2"
            yield clause, f"{watcher.name} did not watch {seat.name} from beginning to end"
        due = [each for each in reading.due(publication) if each.seat is seat]
        left = mine[-1].value if mine else None
        if not (due[0].is_met_by(left) if due else left is None) and not call.end.cancelled:
            yield "I2", f"{watcher.name} was shown {shown(left)} of {seat.name}"


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
