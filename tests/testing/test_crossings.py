"""Crossings, and the model of the bus that judges them (P1)."""

import logging
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from flexiflow import EventBus, HandlerFailure, HandlerTimeout, LimitDeadlock, Subscription
from flexiflow.events import HANDLER_FAILED
from flexiflow.testing._bus.contract import CONTRACT
from flexiflow.testing._bus.crossed import blame
from flexiflow.testing._bus.crossing import Crossing, End, Install, Later, Listener
from flexiflow.testing._bus.drawing import cross
from flexiflow.testing._bus.script import Publish, Subscribe
from flexiflow.testing._bus.subject import BusSubject
from flexiflow.testing._bus.trace import BusTrace
from flexiflow.testing._examiner.examine import examine
from flexiflow.testing._examiner.kit import Boom
from flexiflow.testing._examiner.steps import Hang, Mark, Raise, Wait
from flexiflow.testing._examiner.trace import UNENDED, Entry
from flexiflow.testing._scheduling.failures import ScenarioStuck

PUBLISH = Publish("sequential", "continue")
RAISING = Publish("sequential", "raise")
TWO = Crossing((Listener(0), Listener(1)), (PUBLISH,))
TWICE = replace(TWO, steps=(PUBLISH, PUBLISH))
FAILING = Crossing((Listener(0, (Raise(),)), Listener(1, (Raise(),))), (PUBLISH,))
ONE_RAISES = replace(FAILING, steps=(RAISING,))
OBSERVED = Crossing(
    (
        Listener(0, (Raise(),)),
        Listener(1, (Raise(),), HANDLER_FAILED),
        Listener(2, (), HANDLER_FAILED),
    ),
    (PUBLISH,),
)
CALM = Crossing(
    (
        Listener(0, (Raise(),)),
        Listener(1, (), HANDLER_FAILED),
        Listener(2, (), HANDLER_FAILED),
    ),
    (PUBLISH,),
)
NESTED = Crossing(
    (
        Listener(0, (Raise(),)),
        Listener(1, (replace(PUBLISH, event="b"),), HANDLER_FAILED),
        Listener(2, (Raise(),), "b"),
    ),
    (PUBLISH,),
)
WATCHED = Crossing((Listener(0, (Raise(),)),), (Install("Both"), RAISING))
BREAKING = Crossing((Listener(0),), (Install("Both", "leaving"), PUBLISH))
REFUSED = Crossing((Listener(0),), (Install("Publishing"), Install("Both", "refusing"), PUBLISH))
ENDED = Crossing((Listener(0, event="a.*"), Listener(1)), (End(1), End(1), PUBLISH))
MARKED = Crossing((Listener(0, (Mark(),)), Listener(1)), (PUBLISH,))
APART = replace(TWO, steps=(Publish("concurrent", "continue"),))
STRAY = Crossing((Listener(0, (Raise("stray"),)),), (PUBLISH,))
TIMED = Crossing((Listener(0, (Hang(),), time_limit=1),), (PUBLISH,))
FILTERED = Crossing((Listener(0, filter="awaitable"),), (PUBLISH,))
LIMITED = Crossing((Listener(0, (PUBLISH,), limit=2),), (PUBLISH,))
SELF_RAISES = Crossing((Listener(0, (RAISING,), limit=1),), (PUBLISH,))
CANCELLED = Crossing(
    (Listener(0, (Wait(3),)), Listener(1, (Raise(),))), (Publish("concurrent", "raise"),)
)
SURROUNDED = Crossing((Listener(0, around="calls"),), (PUBLISH,))

Tamper = Callable[[BusTrace], Any]


def traced(crossing: Crossing, backend: str) -> BusTrace:
    """Run a crossing on a bus that keeps the contract."""
    return BusSubject(EventBus, backend).attempt(crossing)


def seat(number: int, **changes: Any) -> Tamper:
    """Pretend that a handler was subscribed in another way."""

    def tamper(trace: BusTrace) -> None:
        trace.seats[number] = replace(trace.seats[number], **changes)

    return tamper


def published(**changes: Any) -> Tamper:
    """Pretend that the last publish was another one."""

    def tamper(trace: BusTrace) -> None:
        trace.publications[-1] = replace(trace.publications[-1], **changes)

    return tamper


def within(number: int) -> Tamper:
    """Pretend that the last publish was called within a call."""
    return lambda trace: published(within=(trace.calls[number],))(trace)


def end(what: str, value: Any) -> Tamper:
    """Pretend that the last publish ended in another way."""

    def tamper(trace: BusTrace) -> None:
        of = {failed.seat: failed.value for failed in trace.all("failed")}
        told = value(trace, of) if callable(value) else value
        [at] = [at for at, each in enumerate(trace.entries) if each is trace.ended(0)]
        trace.entries[at] = replace(trace.entries[at], what=what, value=told)

    return tamper


def without(what: str) -> Tamper:
    """Pretend that something did not happen."""
    return lambda trace: trace.entries.remove(trace.all(what)[0])


def before(what: str, added: Entry | Callable[[BusTrace], Entry]) -> Tamper:
    """Pretend that more happened before something."""

    def tamper(trace: BusTrace) -> None:
        at = trace.place(trace.all(what)[-1])
        trace.entries.insert(at, added if isinstance(added, Entry) else added(trace))

    return tamper


def all_of(*tampers: Tamper) -> Tamper:
    """Do several of these."""

    def tamper(trace: BusTrace) -> None:
        for each in tampers:
            each(trace)

    return tamper


def failure(number: int, exception: Exception) -> Callable[..., Any]:
    """Return what publish would have returned of a failure."""

    def told(trace: BusTrace, _: Any) -> Any:
        [subscription] = [each for each, seat in trace.subscriptions if seat == number]
        return (HandlerFailure("a", "c", exception, subscription),)  # type: ignore[arg-type]

    return told


def latest(trace: BusTrace) -> None:
    """Pretend that the first handler ended last."""
    trace.calls[0].end = trace.calls[1].end


def endless(trace: BusTrace) -> None:
    """Pretend that the last handler did not end."""
    trace.calls[-1].end = UNENDED


def again(trace: BusTrace) -> None:
    """Pretend that the first handler was called twice."""
    trace.calls.append(trace.calls[0])


def uncalled(trace: BusTrace) -> None:
    """Pretend that the first handler was not called."""
    trace.calls.pop(0)


def stuck(trace: BusTrace) -> None:
    """Pretend that the program did not come to its end."""
    trace.left = ScenarioStuck("stuck")


def task_of(what: str) -> Tamper:
    """Pretend that something happened in another task."""

    def tamper(trace: BusTrace) -> None:
        call = trace.calls[0]
        call.start = replaced = replace(call.start, task=-5)
        trace.entries[trace.place(trace.all(what)[0])] = replaced

    return tamper


def log_of(failed: Entry) -> Entry:
    """Return what would be noted if a failure was logged."""
    record = logging.LogRecord("flexiflow", logging.ERROR, "", 0, "it failed", None, None)
    record.exc_info = (type(failed.value), failed.value, None)
    return Entry("logged", value=record)


def told_of(failed: Entry) -> Entry:
    """Return what would be noted if a failure was published."""
    return Entry("announced", value={"exception": failed.value})


def seen_by_nobody(trace: BusTrace) -> None:
    """Pretend that a context variable was another one just before a handler started."""
    at = trace.place(trace.all("started")[1])
    trace.entries.insert(at, replace(trace.entries[at], what="waits", seen=1))


def refused_nothing(trace: BusTrace) -> None:
    """Pretend that a call from within itself did not fail."""
    nested = trace.ended(1)
    trace.entries[trace.place(nested)] = replace(nested, value=())


def shown_nothing(what: str) -> Tamper:
    """Pretend that an instrument was not shown what left."""

    def tamper(trace: BusTrace) -> None:
        [entry] = trace.all(what, act=0)
        trace.entries[trace.place(entry)] = replace(entry, value=None)

    return tamper


def moved_on(what: str) -> Tamper:
    """Pretend that something happened after the handlers had started."""

    def tamper(trace: BusTrace) -> None:
        [entry] = trace.all(what, act=0)
        trace.entries.remove(entry)
        trace.entries.insert(trace.place(trace.all("failed")[0]), entry)

    return tamper


CASES: list[tuple[str, Crossing, Tamper]] = [
    ("A3", SURROUNDED, without("surrounded")),
    ("B4", TWO, seat(0, priority=5)),
    ("B5", TWO, without("subscribed")),
    ("B5", TWO, again),
    ("B5", TWO, before("started", Entry("unsubscribed", 1, True))),
    ("B5", TWO, uncalled),
    ("B6", ENDED, lambda trace: trace.entries.remove(trace.all("unsubscribed")[0])),
    ("B7", TWO, all_of(uncalled, before("ended", Entry("called", 0, act=0)))),
    ("B8", TWO, seat(0, options=frozenset({"filter"}))),
    ("B8", FILTERED, end("returned", ())),
    ("B9", TWICE, seat(0, once=True)),
    ("B10", TWO, seat(0, event="b")),
    ("B10", ENDED, all_of(seat(0, event="*"), seat(1, event="a.*"))),
    ("D1", TWO, latest),
    ("D1", TWO, task_of("started")),
    ("D1", TWO, seen_by_nobody),
    ("D4", CANCELLED, stuck),
    ("V2", SELF_RAISES, stuck),
    ("D2", MARKED, published(delivery="concurrent")),
    ("D3", TWO, all_of(latest, published(delivery="tiered"), seat(1, priority=4))),
    ("D4", TWO, endless),
    ("D4", TWO, stuck),
    ("V1", TIMED, stuck),
    ("V1", TIMED, end("returned", ())),
    ("V2", LIMITED, stuck),
    ("V2", TWO, all_of(seat(0, options=frozenset({"limit"})), within(0))),
    ("V2", TWO, end("returned", failure(0, LimitDeadlock("h0", 1)))),
    ("V2", ONE_RAISES, end("raised", LimitDeadlock("h0", 1))),
    ("V1", TWO, end("returned", failure(0, HandlerTimeout("h0", 1)))),
    ("E1", TWO, end("returned", None)),
    ("E1", TWO, end("returned", failure(0, Boom()))),
    ("E1", TWO, all_of(uncalled, before("ended", Entry("failed", 1, Boom(), act=0)))),
    ("E1", FAILING, without("logged")),
    ("E1", FAILING, end("returned", failure(0, Boom()))),
    ("E1", FAILING, end("returned", lambda trace, _: trace.ended(0).value[::-1])),
    ("E2", TWO, all_of(published(on_error="raise"), end("raised", Boom()))),
    ("E2", ONE_RAISES, end("raised", Boom())),
    ("E2", FAILING, all_of(published(on_error="raise"), end("raised", lambda _, of: of[0]))),
    ("E6", STRAY, end("returned", ())),
    ("E4", ONE_RAISES, before("raised", lambda trace: log_of(trace.all("failed")[0]))),
    ("E7", NESTED, before("ended", lambda trace: told_of(trace.all("failed")[-1]))),
    ("E7", OBSERVED, lambda trace: trace.entries.remove(trace.all("logged")[-1])),
    ("E1", OBSERVED, lambda trace: trace.calls.pop()),
    ("B5", CALM, lambda trace: trace.calls.pop()),
    ("B5", CALM, seat(1, event="b")),
    ("B4", CALM, seat(1, priority=5)),
    ("V2", LIMITED, refused_nothing),
    ("I3", FAILING, all_of(without("announced"), before("logged", Entry("refuses")))),
    ("I3", BREAKING, before("returned", Entry("enters publishing", component="instrument 0"))),
    ("I3", BREAKING, all_of(uncalled, before("returned", Entry("started")))),
    ("I2", WATCHED, shown_nothing("leaves publishing")),
    ("I2", WATCHED, shown_nothing("leaves handling")),
    ("I2", WATCHED, moved_on("enters publishing")),
    ("I3", BREAKING, without("logged")),
    ("I3", REFUSED, end("raised", Boom())),
    ("I2", WATCHED, without("leaves publishing")),
    ("I2", WATCHED, without("leaves handling")),
]


@pytest.mark.same_everywhere
@pytest.mark.parametrize(
    ("clause", "crossing", "tamper"),
    CASES,
    ids=[f"{at}-{case[0]}" for at, case in enumerate(CASES)],
)
def test_what_differs_is_blamed_on_its_clause(
    clause: str, crossing: Crossing, tamper: Tamper, backend: str
) -> None:
    """P1: The model finds nothing wrong with what happened, and then the one thing that is."""
    trace = traced(crossing, backend)
    assert blame(trace) is None
    tamper(trace)
    blamed = blame(trace)
    assert blamed is not None
    assert blamed[0] == clause


@pytest.mark.same_everywhere
def test_our_own_bus_is_blamed_for_nothing(backend: str) -> None:
    """P1: What it does is what the model says, also where handlers are cancelled."""
    subject = BusSubject(EventBus, backend)
    for crossing in cross(Random(3), subject.offers, 120):
        assert blame(subject.attempt(crossing)) is None


def test_programs_are_drawn_again_by_a_seed() -> None:
    """P1: The same seed draws the same programs, and all of them can be made smaller."""
    offers = frozenset({"add_instrument"})
    drawn = [[*cross(Random(3), offers, 40)] for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert all(not each.listeners[0].limit for each in drawn[0])


def test_a_program_stays_one_that_can_be_run() -> None:
    """P1: What ends a subscription goes before that, and what hangs keeps its time limit."""
    crossing = Crossing((Listener(0, (Hang(),), time_limit=1),), (End(0), PUBLISH))
    assert [*crossing.smaller()] == [
        Crossing((Listener(0, (), time_limit=1),), (End(0), PUBLISH)),
        Crossing(crossing.listeners, (PUBLISH,)),
        Crossing(crossing.listeners, (End(0),)),
    ]


def test_every_step_can_be_shown(backend: str) -> None:
    """P1: What a crossing does is shown as a program."""
    crossing = Crossing(
        (
            Listener(0, (Wait(), Later("a")), once=True, awaited=True),
            Listener(1, (Subscribe(event="b"),), around="unsubscribes", filter="accepts"),
        ),
        (Install("Ending"), Install("Publishing", "refusing failures"), PUBLISH),
    )
    shown = BusSubject(EventBus, backend).show(crossing, "B5")
    for part in ("publish_later", "awaitable(h0)", "once=True", "Ending(bus)", "around=[r1]"):
        assert part in shown


class Pruning:
    """Ends, with a pattern, those that begin in the same way."""

    def __init__(self) -> None:
        self.real = EventBus()
        self.made: list[Subscription] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    async def subscribe(self, *arguments: Any, **options: Any) -> Subscription:
        made = await self.real.subscribe(*arguments, **options)
        self.made.append(made)
        return made

    def unsubscribe(self, subscription: Subscription) -> bool:
        removed = self.real.unsubscribe(subscription)
        if "*" in subscription.event_name:
            for each in self.made:
                if each.event_name.startswith(f"{subscription.event_name}."):
                    self.real.unsubscribe(each)
        return removed


@pytest.mark.same_everywhere
def test_a_fault_where_two_features_meet_is_found(backend: str) -> None:
    """P1, B10: The clause is named, and the program that is shown fails by itself."""
    [held] = examine(BusSubject, CONTRACT[:1], EventBus, backend=backend, examples=2, seed=1)
    assert held.violation is None
    clauses = [each for each in CONTRACT if each.identifier in {"B9", "B10"}]
    b9, b10 = examine(BusSubject, clauses, Pruning, backend=backend, examples=30, seed=8)
    assert b9.violation is None
    assert b10.violation is not None
    assert b10.violation.operations <= 5
    shown: dict[str, Any] = {"__name__": "shown"}
    exec(b10.violation.counterexample, shown)  # noqa: S102  that it can be run is what is tested
    with pytest.raises(AssertionError, match="B10 does not hold"):
        shown["test_b10"]()
