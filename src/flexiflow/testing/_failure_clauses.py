"""How the clauses of failures are checked (E1 to E4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from flexiflow.testing._acts import CleanUp, Hang, Raise, Wait
from flexiflow.testing._checker import (
    MODES,
    POLICIES,
    Checker,
    number,
    priorities,
    publishes,
    schedules,
    scripts,
)
from flexiflow.testing._reports import (
    announced,
    logged,
    parts,
    report_complaint,
    returned_complaint,
)
from flexiflow.testing._script import Publish, Script, Subscribe, Unsubscribe
from flexiflow.testing._trace import names

if TYPE_CHECKING:
    from flexiflow.testing._program import Case
    from flexiflow.testing._trace import Entry, Publication, Trace


def continues(trace: Trace) -> str | None:
    """E1: all run, and every failure is logged, announced and returned, in order of delivery."""
    return trace.first_complaint(_continues)


def _continues(trace: Trace, publication: Publication) -> str | None:
    audience, failures = trace.audience(publication), trace.failures(publication)
    ran = {entry.seat for entry in (*trace.all("started"), *failures)}
    skipped = [seat for seat in audience if seat.number not in ran]
    if skipped:
        return f"{names(skipped)} never started, though a failure is to stop nobody else"
    end = trace.end(publication)
    if end.what != "returned":
        return f"publish {end.what} {end.value!r}"
    for entry in failures:
        if any(record.task != entry.task for record in logged(trace, entry.value)):
            return f"the failure of {trace.name(entry)} was logged in another task than its own"
    complaints = (report_complaint(trace, entry, publication.event) for entry in failures)
    return returned_complaint(trace, audience, failures, end) or next(
        filter(None, complaints), None
    )


def raises_in_turn(trace: Trace) -> str | None:
    """E2: the first failure leaves as it is, and what comes later in order doesn't start."""
    return trace.first_complaint(_raises_in_turn)


def _raises_in_turn(trace: Trace, publication: Publication) -> str | None:
    failures, end = trace.failures(publication), trace.end(publication)
    if not failures:
        return None if end.what == "returned" else f"publish raised {end.value!r}, and nobody did"
    if end.value is not failures[0].value:
        return f"publish {end.what} {end.value!r}, not {failures[0].value!r} itself"
    later = [
        trace.seats[entry.seat]
        for entry in trace.after(failures[0], "started", publication)
        if publication.delivery == "sequential"
        or trace.seats[entry.seat].priority > trace.seats[failures[0].seat].priority
    ]
    return f"{names(later)} started after a failure" if later else None


def raises_at_once(trace: Trace) -> str | None:
    """E3: the first failure cancels the siblings, and leaves bare after their cleanup."""
    return trace.first_complaint(_raises_at_once) or _keeps_once(trace)


def _raises_at_once(trace: Trace, publication: Publication) -> str | None:
    failures, end = trace.failures(publication), trace.end(publication)
    if not failures:
        return None
    if end.value is not failures[0].value:
        return f"publish {end.what} {end.value!r}, not {failures[0].value!r} itself"
    late = trace.after(failures[0], "started", publication)
    if late:
        return f"{trace.name(late[0])} started after a failure"
    return _siblings(trace, publication, failures[1:], end)


def _siblings(
    trace: Trace, publication: Publication, others: list[Entry], end: Entry
) -> str | None:
    if any(trace.place(other) > trace.place(end) for other in others):
        return "publish did not wait for the cleanup of a sibling"
    notes = getattr(end.value, "__notes__", [])
    if len(notes) < len(others):
        return f"{len(others)} siblings failed in their cleanup, and {len(notes)} were noted"
    complaints = (report_complaint(trace, other, publication.event) for other in others)
    return next(filter(None, complaints), None)


def _keeps_once(trace: Trace) -> str | None:
    for entry in trace.all("unsubscribed"):
        seat = trace.seats[entry.seat]
        unused = entry.seat not in [started.seat for started in trace.all("started")]
        if seat.once and unused and not entry.value:
            return f"{seat.name} never started, and yet is no longer subscribed"
    return None


def raised_or_reported(trace: Trace) -> str | None:
    """E4: each failure is either raised or reported, and once."""
    return trace.first_complaint(_raised_or_reported)


def _raised_or_reported(trace: Trace, publication: Publication) -> str | None:
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
_failing = st.builds(
    Subscribe,
    st.tuples(waiting, st.sampled_from([Wait(0), Raise("failure"), Raise("group")])),
    component=st.sampled_from(["c", "other"]),
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


def _failing_at_once(first: list[Subscribe], turns: int, decisions: tuple[int, ...]) -> Script:
    """Put a handler that fails last, and at the end an `unsubscribe` of each for one time."""
    ended = (Unsubscribe(at) for at, each in enumerate(first) if each.once)
    last = Subscribe((Wait(turns), Raise()))
    return Script((*first, last, Publish("concurrent", "raise"), *ended), decisions)


E1 = Checker(scripts(_failing, publishes()), continues)
E2 = Checker(
    scripts(_failing, publishes(("sequential", "tiered"), ("raise",))),
    raises_in_turn,
)
_among_siblings = st.builds(
    _failing_at_once, st.lists(hanging, max_size=3), number(0, 3), schedules
)
E3 = Checker(_among_siblings, raises_at_once)
E4 = Checker(
    st.one_of(scripts(_failing, publishes(policies=POLICIES)), cancelled(hanging), _among_siblings),
    raised_or_reported,
)
