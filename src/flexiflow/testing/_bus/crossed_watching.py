"""A model of the bus, continued: what instruments see of a crossing (P1)."""

from __future__ import annotations

from functools import partial
from itertools import takewhile
from operator import ne
from typing import TYPE_CHECKING

from flexiflow.testing._examiner.trace import UNENDED, logged, shown

if TYPE_CHECKING:
    from flexiflow.testing._bus.reading import Blames, Reading
    from flexiflow.testing._bus.trace import Call, Publication, Watcher


def instruments(reading: Reading) -> Blames:
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
