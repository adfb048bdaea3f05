"""The clauses of failures, with their judgements (E1 to E8)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from flexiflow._errors import HandlerCancelled
from flexiflow.events import HANDLER_FAILED
from flexiflow.testing._bus.delivery_programs import keeps_strays_in_a_shield
from flexiflow.testing._bus.offers import DELIVERY, ON_ERROR
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
    every_report,
    lateness,
    names,
    report_complaint,
    returned,
    returned_complaint,
    unnoted,
)
from flexiflow.testing._examiner.clause import (
    MODES,
    POLICIES,
    Clause,
    number,
    often,
    priorities,
    programs,
    schedules,
    several,
)
from flexiflow.testing._examiner.steps import CleanUp, Hang, Raise, Together, Wait
from flexiflow.testing._examiner.trace import announced, first, first_of, is_a, logged, parts, shown

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
    return returned_complaint(trace, publication) or first(complaints)


def _keeps_once(trace: BusTrace) -> str | None:
    for entry in trace.all("unsubscribed"):
        seat = trace.seats[entry.seat]
        unused = entry.seat not in [started.seat for started in trace.all("started")]
        if seat.once and unused and not entry.value:
            return f"{seat.name} never started, and yet is no longer subscribed"
    return None


@each_publish
def _raises(trace: BusTrace, publication: Publication) -> str | None:
    """E2 E3: the first failure leaves as it is, and handlers that have not started don't start."""
    failures, end = trace.failures(publication), trace.end(publication)
    if not failures:
        return (
            None if end.what == "returned" else f"publish raised {shown(end.value)}, and nobody did"
        )
    if end.value is not failures[0].value:
        return f"publish {end.what} {shown(end.value)}, not {shown(failures[0].value)} itself"
    late = trace.after(failures[0], "started", publication)
    if late:
        return f"{trace.name(late[0])} started after a failure"
    return _siblings(trace, publication, failures[1:], end)


raises_first = first_of(_raises, _keeps_once)
"""E2 E3: the first failure leaves bare, and a handler that did not start keeps its `once`."""


def _siblings(
    trace: BusTrace, publication: Publication, others: list[Entry], end: Entry
) -> str | None:
    if any(trace.place(other) > trace.place(end) for other in others):
        return "publish did not wait for the cleanup of a sibling"
    complaints = (report_complaint(trace, other, publication.event) for other in others)
    return unnoted(trace, end.value, others) or first(complaints)


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
        Publish, st.sampled_from(MODES), st.sampled_from(POLICIES), cancelled_after=number(0, 6)
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


_overlapping = st.builds(Together, several(st.tuples(publishes(event=_EVENT)), least=2))
E1 = Clause(
    "E1",
    "`continue`",
    "Each failure is, at once and in the task of the handler that failed, logged as an error "
    "with its traceback, naming event, component and handler, and published as "
    "`event.handler.failed`; all are returned, in order of delivery; every other handler "
    "still runs.",
    st.one_of(
        scripts(_failing, publishes(event=_EVENT)),
        scripts(_failing, publishes(("concurrent",), event=_EVENT)),
        scripts(_failing, _overlapping),
    ),
    continues,
    needs=(DELIVERY, ON_ERROR),
)
E2 = Clause(
    "E2",
    "`raise`, sequential",
    "The first failure leaves `publish` as it is, the same exception object, and later "
    "handlers don't start; in tiered delivery it is as in concurrent, and later tiers don't "
    "start.",
    st.one_of(
        scripts(_failing, publishes(("sequential", "tiered"), ("raise",), event=_EVENT)),
        among_siblings(("tiered",), Raise()),
    ),
    raises_first,
    needs=(DELIVERY, ON_ERROR),
)
E3 = Clause(
    "E3",
    "`raise`, concurrent",
    "The first failure cancels its siblings, waits for their cleanup, and leaves `publish` "
    "bare; handlers not yet started don't start and keep their `once`; what a sibling "
    "raises in its cleanup is logged, published, and noted on what is raised.",
    among_siblings(("concurrent",), Raise()),
    raises_first,
    needs=(DELIVERY, ON_ERROR),
)
E4 = Clause(
    "E4",
    "either raised or reported",
    "Every failure is either raised to the publisher or reported, and never both.",
    st.one_of(
        scripts(_failing, publishes(policies=POLICIES, event=_EVENT)),
        cancelled(hanging),
        among_siblings(("concurrent", "tiered"), Raise()),
    ),
    raised_or_reported,
    needs=(DELIVERY, ON_ERROR),
)


def _reported_cancellation(trace: BusTrace) -> str | None:
    for exception in every_report(trace):
        if trace.cancellation in map(type, parts(exception)) or isinstance(
            exception, HandlerCancelled
        ):
            return f"a cancellation was reported as a failure: {shown(exception)}"
    return None


@each_publish
def _cancellation_passes(trace: BusTrace, publication: Publication) -> str | None:
    struck = [entry for entry in trace.all("failed", act=publication.number) if entry.cancelled]
    end = trace.end(publication)
    if not struck or not end.cancelled:
        return None
    failures = [entry for entry in struck if trace.is_failure(entry)]
    if end.what == "returned":
        return "publish returned, though it was cancelled: the cancellation was swallowed"
    if publication.on_error == "raise":
        before = trace.failures(publication)
        expected = before[0].value if before else None
        if expected is not None and end.value is not expected:
            return f"publish raised {shown(end.value)}, not {shown(expected)}, which left a handler"
        return None
    if not trace.is_cancelled(end):
        return f"publish raised {shown(end.value)} instead of the cancellation"
    late = trace.after(failures[0], "started", publication) if failures else []
    return f"{trace.name(late[0])} started in a publish that is cancelled" if late else None


@each_publish
def _exit_leaves(trace: BusTrace, publication: Publication) -> str | None:
    exits = [
        entry
        for entry in trace.all("failed", act=publication.number)
        if not trace.is_failure(entry) and not trace.is_cancelled(entry)
    ]
    end = trace.end(publication)
    if not exits:
        return None
    if end.value is not exits[0].value:
        first = shown(exits[0].value)
        return f"publish {end.what} {shown(end.value)}, and {first} was to leave it bare"
    return unnoted(trace, end.value, exits[1:])


cancellation_passes = first_of(_reported_cancellation, _exit_leaves, _cancellation_passes)
"""E5: a cancellation is no failure and goes on; an exit leaves bare."""


@each_publish
def strays_are_failures(trace: BusTrace, publication: Publication) -> str | None:
    """E6: a stray cancellation becomes `HandlerCancelled`; the siblings live on."""
    end, ends = trace.end(publication), trace.all("failed", act=publication.number)
    strays = [entry for entry in ends if trace.is_cancelled(entry) and not entry.cancelled]
    if end.what == "raised" and trace.is_cancelled(end):
        return "a stray cancellation left publish"
    surfaced = [*every_report(trace), end.value]
    for stray in strays:
        causes = [each.__cause__ for each in surfaced if isinstance(each, HandlerCancelled)]
        if not any(cause is stray.value for cause in causes):
            return f"the cancellation that left {trace.name(stray)} is no HandlerCancelled"
    if publication.on_error == "raise":
        return None
    struck = [entry for entry in ends if entry.cancelled]
    if struck:
        return f"{trace.name(struck[0])} was cancelled by the stray cancellation of another"
    started = trace.started(publication)
    missing = [seat for seat in trace.audience(publication) if seat not in started]
    if missing:
        return f"{names(missing)} never started, or was dropped"
    given = returned(end)
    return None if given is None or len(given) == len(strays) else f"publish returned {given}"


def no_recursion(trace: BusTrace) -> str | None:
    """E7: what fails within the handling of a failure is logged, and published no further."""
    for entry in filter(trace.is_failure, trace.entries):
        in_log, told = len(logged(trace, entry.value)), len(announced(trace, entry.value))
        if entry.observing and (in_log != 1 or told):
            return (
                f"the failure of {trace.name(entry)}, within the handling of another one, "
                f"was logged {in_log} times and published {told} times"
            )
        if not entry.observing and told != 1:
            return f"the failure of {trace.name(entry)} was not published"
    return None


@each_publish
def _groups(trace: BusTrace, publication: Publication) -> str | None:
    """E8: a group is the failure as a whole; cancellations are taken out of it."""
    end = trace.end(publication)
    surfaced = [*every_report(trace), *([end.value] if end.what == "raised" else [])]
    for entry in trace.all("failed", act=publication.number):
        if is_a(entry.value, BaseExceptionGroup) and not any(
            _is_rest(trace, each, entry.value) for each in surfaced
        ):
            return (
                f"{shown(entry.value)} left {trace.name(entry)}, and surfaced as {shown(surfaced)}"
            )
    reported = [part for each in every_report(trace) for part in parts(each)]
    if any(isinstance(part, trace.cancellation) for part in reported):
        return "a cancellation was reported within a group"
    return None


groups = first_of(_groups, _cancellation_passes)


def _is_rest(trace: BusTrace, given: BaseException, group: BaseException) -> bool:
    """Return whether an exception is the group, or what remains without its cancellations."""
    held = parts(group)
    if not any(isinstance(part, trace.cancellation) for part in held):
        return given is group
    if any(isinstance(part, trace.cancellation) for part in parts(given)):
        return False
    wanted = [part for part in held if isinstance(part, Exception) and part not in (given, group)]
    return all(any(part is want for part in parts(given)) for want in wanted)


_EXITS: Final = (Raise("exit"), Raise("quit"))
_exiting = st.builds(
    Subscribe,
    st.tuples(
        waiting,
        st.just(Hang()),
        st.builds(CleanUp, number(0, 1), fails=st.sampled_from(["no", "by an exit"])),
    ),
)

E5 = Clause(
    "E5",
    "a cancellation is no failure",
    "A cancellation is never reported as a failure and never swallowed; if a handler fails "
    "in it, no further handler starts, and under `raise` the failure leaves. An exception that "
    "is no `Exception` leaves `publish` bare when the siblings have been cancelled; of several "
    "the first, the others noted on it.",
    st.one_of(
        often(3, cancelled(hanging)),
        cancelled(st.builds(Subscribe, st.tuples(st.just(Hang()), cleaning), priority=priorities)),
        scripts(
            st.builds(
                Subscribe, st.tuples(waiting, st.sampled_from([Wait(0), *_EXITS, Raise("failure")]))
            ),
            publishes(policies=POLICIES),
            most=3,
        ),
        often(
            2,
            among_siblings(("concurrent", "tiered"), *_EXITS, siblings=_exiting, policies=POLICIES),
        ),
    ),
    cancellation_passes,
    needs=(DELIVERY, ON_ERROR),
)
_strays_alone = scripts(
    st.builds(Subscribe, st.tuples(waiting, st.sampled_from([Raise("stray"), Wait(2)]))),
    publishes(policies=POLICIES),
    most=4,
)
E6 = Clause(
    "E6",
    "a stray cancellation is a failure",
    "A cancellation that leaves a handler while `publish` is not being cancelled becomes "
    "`HandlerCancelled`, with the cancellation as its cause: a failure like any other, which "
    "under `continue` harms no sibling.",
    st.one_of(often(3, _strays_alone), programs(keeps_strays_in_a_shield)),
    strays_are_failures,
    needs=(DELIVERY, ON_ERROR),
)
E7 = Clause(
    "E7",
    "failures of failure handlers",
    "If a handler of `event.handler.failed` fails, or anything published from within it, "
    "that is logged and reported no further.",
    scripts(
        st.builds(
            Subscribe,
            st.sampled_from(
                [
                    (Raise(),),
                    *((Publish(mode, "continue", "b"),) for mode in MODES),
                    (Wait(), Raise()),
                ]
            ),
            event=st.sampled_from(["a", "b", HANDLER_FAILED, "**"]),
        ),
        st.builds(
            Publish, st.sampled_from(MODES), st.just("continue"), st.sampled_from(["a", "b"])
        ),
        scheduled=False,
    ),
    no_recursion,
    needs=(DELIVERY, ON_ERROR),
)
E8 = Clause(
    "E8",
    "exception groups",
    "An exception group that leaves a handler is its exception, kept whole; one that holds "
    "cancellations, at any depth, is split: the rest is the failure, and the cancellation "
    "goes on if `publish` is being cancelled.",
    st.one_of(
        scripts(
            st.builds(
                Subscribe,
                st.tuples(
                    waiting,
                    st.sampled_from([Raise("group"), Raise("mixed"), Raise("nested"), Wait(0)]),
                ),
            ),
            publishes(policies=POLICIES),
            most=3,
        ),
        cancelled(
            st.builds(
                Subscribe,
                st.tuples(
                    waiting,
                    st.just(Hang()),
                    st.builds(CleanUp, number(0, 1), fails=st.sampled_from(["in a group", "no"])),
                ),
            ),
            most=2,
        ),
    ),
    groups,
    needs=(DELIVERY, ON_ERROR),
)
