"""The bus's own clauses, with their judgements (B1 to B11).

A judgement takes the trace of a script, and returns how it breaks the clause, or None.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from flexiflow.testing._bus import handler_programs as handlers
from flexiflow.testing._bus import refusal_programs as refusals
from flexiflow.testing._bus import subscription_programs as subscribing
from flexiflow.testing._bus.offers import (
    DELIVERY,
    FILTER,
    HASHABLE,
    ON_ERROR,
    ONCE,
    PATTERNS,
    PRIORITY,
)
from flexiflow.testing._bus.script import (
    Publish,
    Script,
    Subscribe,
    Unsubscribe,
    UnsubscribeAll,
    publishes,
    scripts,
)
from flexiflow.testing._bus.trace import (
    AWAITABLE,
    each_publish,
    every_report,
    matches,
    names,
    returned,
)
from flexiflow.testing._examiner.clause import (
    MODES,
    POLICIES,
    Clause,
    number,
    often,
    priorities,
    programs,
    several,
)
from flexiflow.testing._examiner.steps import Together, Wait
from flexiflow.testing._examiner.trace import first_of, shown

if TYPE_CHECKING:
    from flexiflow.testing._bus.trace import BusTrace, Publication, Seat
    from flexiflow.testing._examiner.program import Case
    from flexiflow.testing._examiner.steps import Step
    from flexiflow.testing._examiner.trace import Entry


@each_publish
def order(trace: BusTrace, publication: Publication) -> str | None:
    """B4 D2 D3: the handlers that start, start in order of delivery."""
    audience, started = trace.audience(publication), trace.started(publication)
    expected = [seat for seat in audience if seat in started]
    if started != expected and set(started) <= set(audience):
        return f"started {names(started)}, not {names(expected)}"
    return None


@each_publish
def snapshot(trace: BusTrace, publication: Publication) -> str | None:
    """B5: those subscribed at the beginning, and not removed since, start once, and no others."""
    audience, started = trace.audience(publication), trace.started(publication)
    gone: set[Seat] = set()
    for entry in trace.span(publication):
        gone |= trace.removed_by(entry)
        if entry.what == "started" and entry.act == publication.number:
            seat = trace.seats[entry.seat]
            if seat not in audience:
                return f"{seat.name} was started, but was not subscribed when the publish began"
            if seat in gone:
                return f"{seat.name} was started, but had been unsubscribed"
        if entry.what == "failed" and entry.act == publication.number:
            return f"{trace.name(entry)} was running, and was ended by {shown(entry.value)}"
    missing = [seat for seat in audience if seat not in started and seat not in gone]
    if missing:
        return f"{names(missing)} never started"
    return f"started {names(started)}" if len(set(started)) < len(started) else None


def removals(trace: BusTrace) -> str | None:
    """B6: `unsubscribe` and `unsubscribe_all` return what they removed."""
    for entry in trace.all("unsubscribed", "emptied"):
        active = trace.active(entry)
        if entry.what == "unsubscribed":
            expected: object = trace.seats[entry.seat] in active
            given, what = entry.value, f"unsubscribe of {trace.seats[entry.seat].name}'s"
        else:
            component, given = entry.value
            expected = sum(seat.component == component for seat in active)
            what = f"unsubscribe_all({component!r})"
        if given is not expected and (given != expected or isinstance(expected, bool)):
            return f"{what} returned {given!r}, not {expected!r}"
    return None


@each_publish
def filters(trace: BusTrace, publication: Publication) -> str | None:
    """B8: each filter is asked just before its handler's start, decides, and affects no other."""
    span = trace.span(publication)
    for entry in span:
        complaint = _asked(trace, entry, publication) if entry.what == "asked" else None
        if complaint:
            return complaint
    seen = [*trace.started(publication), *_removed(trace, trace.end(publication))]
    seen += [trace.seats[entry.seat] for entry in span if entry.what == "asked"]
    missing = [seat for seat in trace.audience(publication) if seat not in seen]
    if missing and trace.end(publication).what == "returned":
        return f"{names(missing)} never started, though another one's filter decides only for it"
    return None


def _asked(trace: BusTrace, asked: Entry, publication: Publication) -> str | None:
    seat = trace.seats[asked.seat]
    # What a bus logs in between is its own affair.
    rest = (each for each in trace.entries[trace.place(asked) + 1 :] if each.what != "logged")
    answer, *after = islice(rest, 2)
    if seat in _removed(trace, asked):
        return f"the filter of {seat.name} was asked, which had been unsubscribed"
    if asked.value != publication.event or asked.act != publication.number:
        return f"the filter of {seat.name} was given another event or payload"
    starts = bool(after) and after[0].what == "started" and after[0].seat == seat.number
    if answer.what == "failed":
        return _filter_failed(trace, answer, seat, publication)
    if answer.value is not True and trace.all_of(seat, "started", publication):
        return f"{seat.name} started, though its filter had not let it"
    if answer.value is True and not starts:
        return f"{seat.name} did not start just after its filter had let it"
    return _awaitable(trace, publication) if answer.value == AWAITABLE else None


def _removed(trace: BusTrace, before: Entry) -> set[Seat]:
    earlier = trace.entries[: trace.place(before)] if before in trace.entries else trace.entries
    return {seat for entry in earlier for seat in trace.removed_by(entry)}


def _filter_failed(
    trace: BusTrace, failed: Entry, seat: Seat, publication: Publication
) -> str | None:
    if trace.all_of(seat, "started", publication):
        return f"{seat.name} started, though its filter had failed"
    surfaced = [*every_report(trace), trace.end(publication).value]
    if not any(each is failed.value for each in surfaced):
        return f"the failure of {seat.name}'s filter was neither raised nor reported"
    return None


def _awaitable(trace: BusTrace, publication: Publication) -> str | None:
    if returned(trace.end(publication)) == []:
        return "a filter that returned an awaitable is no failure"
    return None


def at_most_once(trace: BusTrace) -> str | None:
    """B9: a `once` handler starts once, unsubscribed before; one that its filter refuses stays."""
    for seat in trace.seats:
        starts = [entry for entry in trace.all("started") if entry.seat == seat.number]
        if seat.once and len(starts) > 1:
            return f"{seat.name} started {len(starts)} times"
        for entry in trace.all("unsubscribed"):
            if entry.seat != seat.number:
                continue
            before = [start for start in starts if trace.place(start) < trace.place(entry)]
            # It may be taken out some time before it starts.
            used = before or (starts and not entry.value)
            expected = not (seat.once and used) and seat in trace.active(entry)
            if entry.value != expected:
                state = "still" if entry.value else "no longer"
                return f"{seat.name} was {state} subscribed after {len(before)} starts"
    return None


@each_publish
def hears(trace: BusTrace, publication: Publication) -> str | None:
    """B10: the handlers that start are those whose pattern matches."""
    started = trace.started(publication)
    for seat in started:
        if not matches(seat.event, publication.event):
            return f"{seat.event!r} heard {publication.event!r}"
    deaf = [seat for seat in trace.audience(publication) if seat not in started]
    return f"{deaf[0].event!r} did not hear {publication.event!r}" if deaf else None


@each_publish
def _has_called_all(trace: BusTrace, publication: Publication) -> str | None:
    started = {entry.seat for entry in trace.started_in(publication)}
    late = [seat for seat in trace.audience(publication) if seat.number not in started]
    if late:
        return f"{names(late)} had not run when publish({publication.event!r}) was over"
    return None


@each_publish
def _in_place(trace: BusTrace, publication: Publication) -> str | None:
    span = trace.span(publication)
    for entry in trace.started_in(publication) if publication.delivery == "sequential" else ():
        if entry.task != span[0].task:
            return f"{trace.name(entry)} ran in another task than the publisher"
    return None


at_once = first_of(_has_called_all, _in_place)
"""B11: a publish has called all of its handlers when it returns, also a nested one."""


_names = st.sampled_from(["a", "a.b", "axb", "a.c", "b", "a.b.c"])
_patterns = st.sampled_from(["a", "*", "**", "a.*", "a.**", "a.b", "*.b", "b", "a.*.c", "*.**"])
_heard = st.sampled_from(["a", "*", "**"])
# Without `**`, which would hear failures of failures too.
_near = st.sampled_from(["a", "*"])
_components = st.sampled_from(["c", "cd"])
_waits = several(st.builds(Wait, number(1, 3)), most=1)
_newcomer = st.builds(Subscribe, event=_heard, component=_components, priority=priorities)
_meanwhile = st.one_of(often(2, _newcomer), st.builds(UnsubscribeAll, _components))
_meddling = st.one_of(
    st.builds(Unsubscribe, number(0, 4)),
    st.builds(UnsubscribeAll, _components),
    st.builds(Subscribe, event=_heard, priority=priorities),
    st.builds(Wait),
)


def _aging_script(first: list[Subscribe], then: list[Unsubscribe], publish: Publish) -> Script:
    return Script((*first, *then, publish))


def _aging_scripts(event: str, heard: st.SearchStrategy[str]) -> st.SearchStrategy[Case]:
    """Draw scripts that subscribe, end some subscriptions, and then publish."""
    subscribe = st.builds(
        Subscribe, _waits, event=heard, priority=st.sampled_from([3, 3, 1, 2, 4, 5])
    )
    return st.builds(
        _aging_script,
        st.lists(subscribe, min_size=1, max_size=8),
        st.lists(st.builds(Unsubscribe, number(0, 7)), max_size=2),
        publishes(("sequential",), POLICIES, event=event),
    )


def _amid(publish: Publish, meddling: Step) -> Together:
    return Together(((publish,), (meddling,)))


def _once_script(first: list[Subscribe], then: list[Step], decisions: tuple[int, ...]) -> Script:
    ended = (Unsubscribe(at) for at in range(len(first)))
    return Script((*first, *then, *ended), decisions)


def _once_scripts() -> st.SearchStrategy[Case]:
    """Draw publishes one after another and at once, and then an `unsubscribe` of each handler."""
    publish = publishes(policies=POLICIES)
    return st.builds(
        _once_script,
        st.lists(
            st.builds(
                Subscribe,
                several(st.builds(Wait, number(1, 3)), st.builds(Unsubscribe, number(0, 2))),
                event=_near,
                once=st.sampled_from([True, True, False]),
                filter=st.sampled_from([None, None, "accepts", "refuses", "raises"]),
            ),
            min_size=1,
            max_size=3,
        ),
        st.lists(
            st.one_of(publish, st.builds(Together, several(st.tuples(publish), least=2, most=3))),
            min_size=1,
            max_size=2,
        ),
        several(number(0, 3), most=8),
    )


B1 = Clause(
    "B1",
    "a bus is bound to no loop",
    "A bus needs no running loop to be made, holds nothing that is bound to one, and serves "
    "several runs one after another.",
    programs(subscribing.serves_several_runs, runs=2),
    needs=(DELIVERY, ON_ERROR),
)
B2 = Clause(
    "B2",
    "a subscription is an object",
    "`subscribe`, a checkpoint, returns a read-only, hashable object that is also a context "
    "manager, and tells whether it is `active`; the same handler subscribed twice is two "
    "subscriptions, and a `subscribe` that is cancelled has subscribed nothing.",
    st.one_of(
        often(4, programs(*subscribing.SUBSCRIPTIONS)),
        programs(subscribing.forgets, end=[subscribing.by_leaving]),
    ),
    needs=(HASHABLE,),
    share=0.6,
)
B3 = Clause(
    "B3",
    "bad arguments fail at the call, and change nothing",
    "Bad arguments raise `ValueError` or `TypeError` at the call, and change nothing.",
    st.one_of(
        programs(refusals.refuses, error=[ValueError], bad=refusals.BAD_VALUES),
        programs(refusals.refuses, error=[TypeError], bad=refusals.BAD_TYPES),
    ),
)
B4 = Clause(
    "B4",
    "the order is by priority, then by age",
    "Handlers come in ascending order of the priority's number, 1 first; equal priorities "
    "in the order in which they were subscribed, exact names and patterns merged.",
    st.one_of(
        _aging_scripts("a", _heard),
        _aging_scripts("a.b", st.sampled_from(["a.b", "a.*", "*.b", "a.**", "**"])),
    ),
    order,
    needs=(PRIORITY,),
)
B5 = Clause(
    "B5",
    "a publish has a snapshot",
    "`publish` calls exactly those that were subscribed when it began, before any yield; one "
    "that is subscribed meanwhile does not see this event, and one that is unsubscribed "
    "meanwhile never starts, though it goes on if it is running.",
    scripts(
        st.builds(
            Subscribe, several(_meddling), event=_heard, component=_components, priority=priorities
        ),
        st.one_of(publishes(), st.builds(_amid, publishes(), _meanwhile)),
        least=2,
        most_after=2,
    ),
    snapshot,
)
B6 = Clause(
    "B6",
    "unsubscribing is idempotent",
    "`unsubscribe` returns True the first time and False afterwards, or for a subscription "
    "of another bus; `unsubscribe_all` returns how many it removed; nothing of a removed "
    "subscription stays in memory.",
    st.one_of(
        scripts(
            st.builds(Subscribe, event=_heard, component=_components, once=st.booleans()),
            st.one_of(st.builds(Unsubscribe, number(0, 4)), st.builds(UnsubscribeAll, _components)),
            most_after=5,
            scheduled=False,
        ),
        programs(
            subscribing.forgets, subscribing.keeps_what_is_of_another, end=subscribing.ENDINGS
        ),
    ),
    removals,
)
B7 = Clause(
    "B7",
    "sync and async handlers",
    "A handler may be any callable, sync or async; a sync one runs inline, and if a call "
    "returns an awaitable, it is awaited.",
    programs(handlers.runs_inline, handlers.calls, handler=handlers.HANDLERS),
    share=0.5,
)
B8 = Clause(
    "B8",
    "a filter decides just before the start",
    "A filter is asked at each publish, just before its handler would start, and not if that "
    "was unsubscribed; one that raises, or returns an awaitable, is a failure of that "
    "subscription and touches no other.",
    scripts(
        st.builds(
            Subscribe,
            several(
                st.builds(Wait, number(1, 3)),
                often(2, st.builds(Unsubscribe, number(0, 4))),
                most=1,
            ),
            event=_near,
            filter=st.sampled_from([None, "accepts", "refuses", "raises", "exits", "awaitable"]),
            priority=priorities,
        ),
        publishes(),
    ),
    filters,
    needs=(FILTER,),
)
B9 = Clause(
    "B9",
    "`once` is at most once",
    "A handler subscribed with `once=True` starts at most once, also when publishes "
    "overlap; it is unsubscribed before it starts, and a filter that refuses or raises "
    "leaves it subscribed.",
    _once_scripts(),
    at_most_once,
    needs=(ONCE,),
)
_listening = scripts(
    st.builds(Subscribe, several(st.builds(Subscribe, event=_patterns), most=1), event=_patterns),
    st.builds(Publish, st.just("sequential"), st.just("continue"), event=_names),
    least=3,
    most_after=5,
    scheduled=False,
)
B10 = Clause(
    "B10",
    "patterns",
    "In `subscribe`, `*` stands for exactly one segment, and `**`, as the last one, for one "
    "or more; `**` matches every event, the built-in ones included.",
    st.one_of(
        often(3, _listening),
        programs(subscribing.hears_failures, pattern=("**", "event.handler.*")),
    ),
    hears,
    needs=(PATTERNS,),
)
B11 = Clause(
    "B11",
    "publishing inside a handler",
    "A publish inside a handler runs at once, depth first, as a plain `await` would.",
    scripts(
        st.builds(
            Subscribe,
            several(
                st.builds(Publish, st.sampled_from([None, *MODES]), event=st.just("b")),
                st.builds(Wait),
            ),
            event=st.sampled_from(["a", "b", "*"]),
            priority=priorities,
        ),
        publishes(),
    ),
    at_once,
)
