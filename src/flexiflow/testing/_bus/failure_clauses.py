"""The checkers of the clauses of failures, with their judgements (E1 to E4)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from flexiflow.testing._bus.script import (
    Publish,
    Script,
    Subscribe,
    Unsubscribe,
    publishes,
    scripts,
)
from flexiflow.testing._bus.trace import (
    each_publish,
    first_of,
    lateness,
    names,
    report_complaint,
    returned_complaint,
    unnoted,
)
from flexiflow.testing._examiner.clause import (
    MODES,
    POLICIES,
    Checker,
    number,
    priorities,
    schedules,
)
from flexiflow.testing._examiner.steps import CleanUp, Hang, Raise, Together, Wait
from flexiflow.testing._examiner.trace import announced, logged, parts, shown

if TYPE_CHECKING:
    from flexiflow._bus import DeliveryMode, ErrorPolicy
    from flexiflow.testing._bus.trace import BusTrace, Publication
    from flexiflow.testing._examiner.program import Case
    from flexiflow.testing._examiner.trace import Entry


@each_publish
def continues(trace: BusTrace, publication: Publication) -> str | None:
    """E1: all run, and every failure is logged, announced and returned, in order of delivery."""
    failures = trace.failures(publication)
    ran = {entry.seat for entry in (*trace.all("started"), *failures)}
    skipped = [seat for seat in trace.audience(publication) if seat.number not in ran]
    if skipped:
        return f"{names(skipped)} never started, though a failure is to stop nobody else"
    end = trace.end(publication)
    if end.what != "returned":
        return f"publish {end.what} {shown(end.value)}"
    complaints = (
        lateness(trace, entry) or report_complaint(trace, entry, publication.event)
        for entry in failures
    )
    return returned_complaint(trace, publication) or next(filter(None, complaints), None)


def _keeps_once(trace: BusTrace) -> str | None:
    for entry in trace.all("unsubscribed"):
        seat = trace.seats[entry.seat]
        unused = entry.seat not in [started.seat for started in trace.all("started")]
        if seat.once and unused and not entry.value:
            return f"{seat.name} never started, and yet is no longer subscribed"
    return None


@each_publish
def _raises_in_turn(trace: BusTrace, publication: Publication) -> str | None:
    """E2: the first failure leaves as it is, and handlers later in order don't start."""
    failures, end = trace.failures(publication), trace.end(publication)
    if not failures:
        return (
            None if end.what == "returned" else f"publish raised {shown(end.value)}, and nobody did"
        )
    if end.value is not failures[0].value:
        return f"publish {end.what} {shown(end.value)}, not {shown(failures[0].value)} itself"
    later = [
        trace.seats[entry.seat]
        for entry in trace.after(failures[0], "started", publication)
        if publication.delivery == "sequential"
        or trace.seats[entry.seat].priority > trace.seats[failures[0].seat].priority
    ]
    if later:
        return f"{names(later)} started after a failure"
    return _siblings(trace, publication, failures[1:], end)


raises_in_turn = first_of(_raises_in_turn, _keeps_once)


@each_publish
def _raises_at_once(trace: BusTrace, publication: Publication) -> str | None:
    """E3: the first failure cancels the siblings, and leaves bare after their cleanup."""
    failures, end = trace.failures(publication), trace.end(publication)
    if not failures:
        return None
    if end.value is not failures[0].value:
        return f"publish {end.what} {shown(end.value)}, not {shown(failures[0].value)} itself"
    late = trace.after(failures[0], "started", publication)
    if late:
        return f"{trace.name(late[0])} started after a failure"
    return _siblings(trace, publication, failures[1:], end)


raises_at_once = first_of(_raises_at_once, _keeps_once)


def _siblings(
    trace: BusTrace, publication: Publication, others: list[Entry], end: Entry
) -> str | None:
    if any(trace.place(other) > trace.place(end) for other in others):
        return "publish did not wait for the cleanup of a sibling"
    complaints = (report_complaint(trace, other, publication.event) for other in others)
    return unnoted(trace, end.value, others) or next(filter(None, complaints), None)


@each_publish
def raised_or_reported(trace: BusTrace, publication: Publication) -> str | None:
    """E4: each failure is either raised or reported, exactly once."""
    end = trace.end(publication)
    for entry in trace.failures(publication):
        raised = end.what == "raised" and parts(end.value).count(entry.value)
        in_log, told = len(logged(trace, entry.value)), len(announced(trace, entry.value))
        if raised + in_log != 1:
            return (
                f"the failure of {trace.name(entry)} was raised {int(raised)} times "
                f"and logged {in_log} times"
            )
        if told != in_log and not (end.cancelled and told == 0):
            return (
                f"the failure of {trace.name(entry)} was logged {in_log} times "
                f"and published {told} times"
            )
    return None


waiting = st.builds(Wait, number(0, 2))
# Names that occur in no message by chance.
_EVENT = "order.placed"
_failing = st.builds(
    Subscribe,
    st.tuples(waiting, st.sampled_from([Wait(0), Raise("failure"), Raise("group")])),
    event=st.sampled_from([_EVENT, _EVENT, "order.*"]),
    component=st.sampled_from(["billing", "shipping"]),
    priority=priorities,
    filter=st.sampled_from([None, None, "raises"]),
)
cleaning = st.builds(CleanUp, number(0, 2), fails=st.sampled_from(["no", "alone"]))
hanging = st.builds(
    Subscribe,
    st.tuples(waiting, st.sampled_from([Wait(0), Hang(), Raise()]), cleaning),
    priority=priorities,
    once=st.booleans(),
)


def cancelled(
    subscriptions: st.SearchStrategy[Subscribe], *, most: int = 4
) -> st.SearchStrategy[Case]:
    """Draw publishes that are cancelled somewhere."""
    publish = st.builds(
        Publish,
        st.sampled_from(MODES),
        st.sampled_from(POLICIES),
        cancelled_after=number(0, 6),
    )
    return scripts(subscriptions, publish, most=most)


def _beside(
    first: list[Subscribe], last: Subscribe, publish: Publish, decisions: tuple[int, ...]
) -> Script:
    """Put last the handler that ends the others, in one tier; then unsubscribe each `once`."""
    ended = (Unsubscribe(at) for at, each in enumerate(first) if each.once)
    tier = (replace(each, priority=Subscribe.priority) for each in first)
    return Script((*tier, last, publish, *ended), decisions)


def among_siblings(
    deliveries: tuple[DeliveryMode, ...],
    *ends: Raise,
    siblings: st.SearchStrategy[Subscribe] = hanging,
    policies: tuple[ErrorPolicy, ...] = ("raise",),
) -> st.SearchStrategy[Case]:
    """Draw handlers that may hang, and one that ends them."""
    last = st.builds(Subscribe, st.tuples(st.builds(Wait, number(0, 3)), st.sampled_from(ends)))
    publish = publishes(deliveries, policies)
    return st.builds(_beside, st.lists(siblings, max_size=3), last, publish, schedules)


_overlapping = st.builds(
    Together, st.lists(st.tuples(publishes(event=_EVENT)), min_size=2, max_size=2).map(tuple)
)
E1 = Checker(
    st.one_of(
        scripts(_failing, publishes(event=_EVENT)),
        scripts(_failing, publishes(("concurrent",), event=_EVENT)),
        scripts(_failing, _overlapping),
    ),
    continues,
)
E2 = Checker(
    st.one_of(
        scripts(_failing, publishes(("sequential", "tiered"), ("raise",), event=_EVENT)),
        among_siblings(("tiered",), Raise()),
    ),
    raises_in_turn,
)
E3 = Checker(among_siblings(("concurrent",), Raise()), raises_at_once)
E4 = Checker(
    st.one_of(
        scripts(_failing, publishes(policies=POLICIES, event=_EVENT)),
        cancelled(hanging),
        among_siblings(("concurrent", "tiered"), Raise()),
    ),
    raised_or_reported,
)
