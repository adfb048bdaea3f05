"""The clauses of delivery, with their judgements (D1 to D6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from flexiflow.testing._bus import delivery_programs as deliveries
from flexiflow.testing._bus.clauses import order
from flexiflow.testing._bus.offers import DELIVERY, ON_ERROR, PRIORITY
from flexiflow.testing._bus.script import Publish, Script, Subscribe, publishes, scripts
from flexiflow.testing._bus.trace import each_publish, names
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
from flexiflow.testing._examiner.steps import CleanUp, Hang, Mark, Meet, Raise, Wait
from flexiflow.testing._examiner.trace import first_of

if TYPE_CHECKING:
    from flexiflow._bus import DeliveryMode
    from flexiflow.testing._bus.trace import BusTrace, Publication
    from flexiflow.testing._examiner.program import Case


@each_publish
def one_at_a_time(trace: BusTrace, publication: Publication) -> str | None:
    """D1: one after another, in the publisher's task and context."""
    span, running = trace.span(publication), None
    mark = span[0].seen
    for entry in span:
        name = trace.name(entry)
        if entry.what == "started" and running is not None:
            return f"{name} started while {running} was running"
        if entry.task != span[0].task:
            return f"{name} ran in another task than the publisher"
        if entry.what in ("started", "returned") and entry.seen is not mark:
            return f"{name} did not see what was set in a context variable before"
        if entry.what == "started":
            running = name
        elif entry.what in ("ended", "failed"):
            running, mark = None, entry.seen
    return None


@each_publish
def _isolated(trace: BusTrace, publication: Publication) -> str | None:
    """D2: all running together, each with a context of its own."""
    span, seen = trace.span(publication), list[object]()
    mine = span[0].seen
    for entry in span:
        if entry.what in ("started", "returned") and entry.seen is not mine:
            return f"{trace.name(entry)} saw what another handler set in a context variable"
        if entry.what == "ended" and entry.seen is not mine:
            if any(mark is entry.seen for mark in seen):
                return f"{trace.name(entry)} saw what another handler set in a context variable"
            seen.append(entry.seen)
    return None


one_after_another = first_of(one_at_a_time, order)
all_at_once = first_of(order, _isolated)


@each_publish
def _tiers(trace: BusTrace, publication: Publication) -> str | None:
    """D3: all of one priority at once; the next priority begins when they have ended."""
    running: dict[int, int] = {}
    for entry in trace.span(publication):
        if entry.what == "started":
            seat = trace.seats[entry.seat]
            if any(priority != seat.priority for priority in running.values()):
                return f"{seat.name} started before the tier before it had ended"
            running[seat.number] = seat.priority
        elif entry.what in ("ended", "failed"):
            running.pop(entry.seat, None)
    if trace.end(publication).what == "raised":
        return None
    started = trace.started(publication)
    missing = [seat for seat in trace.audience(publication) if seat not in started]
    return f"{names(missing)} never started" if missing else None


tier_by_tier = first_of(order, _tiers)


def _leaves_no_task(trace: BusTrace) -> str | None:
    return f"tasks were left behind: {', '.join(trace.tasks_left)}" if trace.tasks_left else None


@each_publish
def _is_over(trace: BusTrace, publication: Publication) -> str | None:
    """D4: when publish is over, so is every handler that it started."""
    running: set[int] = set()
    for entry in trace.span(publication):
        if entry.act == publication.number and entry.what == "started":
            running.add(entry.seat)
        elif entry.act == publication.number and entry.what in ("ended", "failed"):
            running.discard(entry.seat)
    if running:
        seats = [trace.seats[seat] for seat in sorted(running)]
        return f"{names(seats)} had not ended when publish was over"
    late = trace.all("started", act=publication.number)[len(trace.started_in(publication)) :]
    return f"{trace.name(late[0])} started when publish was over" if late else None


nothing_runs_on = first_of(_is_over, _leaves_no_task)


def defaults(trace: BusTrace) -> str | None:
    """D5: a publish's own options hold; without them, defaults hold, which never change."""
    seen: list[tuple[str, str]] = []
    for publication in trace.publications:
        seen.append(observed := _observed(trace, publication))
        asked = publication.delivery, publication.on_error
        for want, have in zip(asked, observed, strict=True):
            if want not in (None, have):
                return f"publish was to be {want}, and was {have}"
    for option in (0, 1):
        silent = {
            observed[option]
            for observed, publication in zip(seen, trace.publications, strict=True)
            if (publication.delivery, publication.on_error)[option] is None
        }
        if len(silent) > 1:
            return f"what holds where publish says nothing changed: {' and '.join(sorted(silent))}"
    return None


def _observed(trace: BusTrace, publication: Publication) -> tuple[str, str]:
    """Return delivery and policy, as shown by what happened to the handlers of `_TELLTALE`."""
    starts = trace.all("started", act=publication.number)
    end = trace.end(publication)
    policy = "raise" if end.what == "raised" else "continue"
    if not starts:
        return "nothing at all", policy
    if starts[0].task == trace.span(publication)[0].task:
        return "sequential", policy
    ended = trace.all("ended", "failed", act=publication.number)
    together = len(starts) > 1 and trace.place(starts[1]) < trace.place(ended[0])
    return ("concurrent" if together else "tiered"), policy


_TELLTALE: Final = (Subscribe((Wait(9),), priority=1), Subscribe((Wait(9), Raise()), priority=2))

_marks = several(st.builds(Wait, number(1, 2)), st.just(Mark()))
_apart = scripts(
    st.builds(Subscribe, _marks, priority=priorities), publishes(("concurrent",), POLICIES), most=4
)


def _together(delivery: DeliveryMode) -> st.SearchStrategy[Case]:
    """Draw handlers that wait for each other."""

    def script(waits: list[int], publish: Publish, decisions: tuple[int, ...]) -> Script:
        subscriptions = (Subscribe((Wait(wait), Meet())) for wait in waits)
        return Script((*subscriptions, publish), decisions)

    waits = st.lists(number(0, 2), min_size=1, max_size=6)
    return st.builds(script, waits, publishes((delivery,), POLICIES), schedules)


def _many(delivery: DeliveryMode) -> st.SearchStrategy[Case]:
    """Draw a program with more handlers than a script has."""
    return programs(deliveries.starts_many, mode=[delivery])


def _telling(published: list[Publish]) -> Script:
    return Script((*_TELLTALE, *published), whole=True)


_fates = st.tuples(
    st.builds(Wait, number(0, 2)),
    st.sampled_from([Wait(), Hang(), Raise()]),
    st.builds(CleanUp, number(0, 2), fails=st.sampled_from(["no", "alone"])),
)

D1 = Clause(
    "D1",
    "sequential",
    "One handler at a time, in order, in the publisher's own task and context: what one "
    "sets in a context variable, later ones and the publisher see.",
    scripts(st.builds(Subscribe, _marks), publishes(("sequential",), POLICIES)),
    one_after_another,
    needs=(DELIVERY,),
)
D2 = Clause(
    "D2",
    "concurrent",
    "All handlers at once, started in order; each sees the publisher's context variables "
    "and nobody what another sets; handlers that wait for each other make progress.",
    st.one_of(often(3, _apart), often(2, _together("concurrent")), _many("concurrent")),
    all_at_once,
    needs=(DELIVERY,),
)
D3 = Clause(
    "D3",
    "tiered",
    "The handlers of priority 1 concurrently; when all have ended, those of priority 2, and "
    "so on to 5.",
    st.one_of(
        scripts(
            st.builds(
                Subscribe,
                st.tuples(st.builds(Wait, number(0, 2)), st.sampled_from([Wait(0), Raise()])),
                priority=priorities,
            ),
            publishes(("tiered",), POLICIES),
        ),
        _together("tiered"),
        _many("tiered"),
    ),
    tier_by_tier,
    needs=(DELIVERY, PRIORITY),
)
D4 = Clause(
    "D4",
    "nothing is left running",
    "When `publish` returns, raises or is cancelled, every handler that it started has "
    "ended, and it leaves no task behind.",
    scripts(
        st.builds(Subscribe, _fates, priority=priorities),
        st.builds(
            Publish, st.sampled_from(MODES), st.sampled_from(POLICIES), cancelled_after=number(0, 6)
        ),
        most=4,
    ),
    nothing_runs_on,
)
D5 = Clause(
    "D5",
    "defaults of the bus",
    "The delivery and the policy that a publish names win; where it names none, the bus's "
    "own hold.",
    st.builds(
        _telling,
        st.lists(
            st.builds(Publish, st.sampled_from([None, *MODES]), st.sampled_from([None, *POLICIES])),
            min_size=1,
            max_size=3,
        ),
    ),
    defaults,
    needs=(DELIVERY, ON_ERROR, PRIORITY),
)
D6 = Clause(
    "D6",
    "yielding",
    "`publish` is a checkpoint at least once in `yield_every` publishes of the bus, which "
    "is 61 where nothing else was said.",
    programs(
        deliveries.is_cancelled_in_time,
        deliveries.yields_in_time,
        deliveries.counts_what_it_publishes,
        event=("a", "b"),
    ),
    needs=(DELIVERY,),
    share=0.3,
)
