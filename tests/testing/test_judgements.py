"""What each clause makes of traces that no bus here leaves (P1)."""

import logging
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from flexiflow import EventBus, Subscription
from flexiflow.testing._bus import clauses as bus
from flexiflow.testing._bus import delivery_clauses as delivery
from flexiflow.testing._bus import failure_clauses as failures
from flexiflow.testing._bus.expecting_programs import knows_each_instrument
from flexiflow.testing._bus.subscription_programs import by_unsubscribing
from flexiflow.testing._bus.term_programs import starts_nobody_that_was_ended
from flexiflow.testing._bus.trace import AWAITABLE, BusTrace, Publication, Seat
from flexiflow.testing._component.judgements import _reported as reported
from flexiflow.testing._examiner.trace import NOBODY, Entry

SEATS = [Seat(number, "a", "c", f"h{number}", 3, once=False) for number in range(2)]
MINE, OTHER = object(), object()
FIRST, SECOND = ValueError("first"), ValueError("second")


class Cancelled(BaseException):
    """Stands for a cancellation."""


def happened(what: str, seat: int = NOBODY, value: Any = None, **details: Any) -> Entry:
    """Make an entry of the one publish."""
    facts: dict[str, Any] = {"act": 0, "task": 1, "seen": MINE}
    return Entry(what, seat, value, **(facts | details))


def told(seat: int, exception: Exception, component: str = "c") -> Any:
    """Make a failure as publish returns it."""
    return SimpleNamespace(
        subscription=SEATS[seat],
        exception=exception,
        event_name="a",
        component_name=component,
    )


def logs(exception: Exception, level: int = logging.ERROR) -> Entry:
    """Make an entry of the log."""
    info = (type(exception), exception, None)
    record = logging.LogRecord("flexiflow", level, "", 0, "h0 of c on a", None, info)
    return happened("logged", value=record)


def trace(
    *entries: Entry, seats: int = 1, on_error: str = "continue", tasks_left: tuple[str, ...] = ()
) -> BusTrace:
    """Make a trace of one publish, and what was subscribed before."""
    begin = [happened("subscribed", number) for number in range(seats)]
    return BusTrace(
        [*begin, happened("published"), *entries],
        seats=SEATS[:seats],
        publications=[Publication(0, "a", None, "sequential", on_error)],
        cancellation=Cancelled,
        subscriptions=[(seat, seat.number) for seat in SEATS],
        tasks_left=tasks_left,
    )


def once(seen: BusTrace) -> BusTrace:
    """Let its first subscription be for one time."""
    return replace(seen, seats=[replace(SEATS[0], once=True), *seen.seats[1:]])


def tiered(seen: BusTrace) -> BusTrace:
    """Give its first subscription the priority before that of the others."""
    return replace(seen, seats=[replace(SEATS[0], priority=2), *seen.seats[1:]])


FAILED = happened("failed", 0, FIRST)
STRUCK = happened("failed", 0, FIRST, cancelled=True)
GROUP: Any = BaseExceptionGroup("two", [FIRST, Cancelled()])
STARTS = (happened("started", 0), FAILED)
ANNOUNCED = happened("announced", value={"exception": FIRST, "event_name": "b"})


@pytest.mark.parametrize(
    ("judge", "seen", "complaint"),
    [
        (
            delivery.all_at_once,
            trace(
                happened("started", 0),
                happened("started", 1),
                happened("ended", 0, seen=OTHER),
                happened("ended", 1, seen=OTHER),
                happened("returned", value=()),
                seats=2,
            ),
            "h1 saw what another handler set in a context variable",
        ),
        (
            failures.cancellation_passes,
            trace(STRUCK, happened("raised", value=SECOND, cancelled=True), on_error="raise"),
            "publish raised ValueError('second'), not ValueError('first'), which left a handler",
        ),
        (
            failures.cancellation_passes,
            trace(STRUCK, happened("raised", value=FIRST, cancelled=True), on_error="raise"),
            None,
        ),
        (
            failures.cancellation_passes,
            trace(STRUCK, happened("raised", value=SECOND, cancelled=True)),
            "publish raised ValueError('second') instead of the cancellation",
        ),
        (
            failures.strays_are_failures,
            trace(
                happened("failed", 0, Cancelled(), cancelled=True), happened("returned", value=())
            ),
            "h0 was cancelled by the stray cancellation of another",
        ),
        (
            failures.strays_are_failures,
            trace(happened("returned", value=())),
            "h0 never started, or was dropped",
        ),
        (
            failures.no_recursion,
            trace(FAILED),
            "the failure of h0 was not published",
        ),
        (
            failures.continues,
            trace(*STARTS, happened("raised", value=FIRST)),
            "publish raised ValueError('first')",
        ),
        (
            failures.raises_first,
            trace(FAILED, happened("raised", value=FIRST), happened("failed", 1, SECOND), seats=2),
            "publish did not wait for the cleanup of a sibling",
        ),
        (
            failures.raised_or_reported,
            trace(FAILED, logs(FIRST), happened("returned", value=())),
            "the failure of h0 was logged 1 times and published 0 times",
        ),
        (
            # What helps to find a bug is no report.
            failures.raised_or_reported,
            trace(FAILED, logs(FIRST, logging.DEBUG), happened("raised", value=FIRST)),
            None,
        ),
        (
            # What it returned is for another clause to judge.
            failures.strays_are_failures,
            trace(happened("started", 0), happened("returned")),
            None,
        ),
        (
            delivery.one_at_a_time,
            trace(happened("started", 0), happened("started", 1), seats=2),
            "h1 started while h0 was running",
        ),
        (
            bus.filters,
            trace(
                happened("asked", 0, "a"),
                happened("answered", 0, AWAITABLE),
                happened("returned", value=()),
            ),
            "a filter that returned an awaitable is no failure",
        ),
        (
            bus.filters,
            trace(
                happened("asked", 0, "a"),
                FAILED,
                happened("started", 0),
                happened("returned", value=()),
            ),
            "h0 started, though its filter had failed",
        ),
        (
            # The first failure leaves out who comes after it.
            delivery.tier_by_tier,
            trace(*STARTS, happened("raised", value=FIRST), seats=2),
            None,
        ),
        (
            delivery.tier_by_tier,
            trace(happened("returned", value=())),
            "h0 never started",
        ),
        (
            delivery.tier_by_tier,
            tiered(trace(happened("started", 0), happened("started", 1), seats=2)),
            "h1 started before the tier before it had ended",
        ),
        (
            bus.at_most_once,
            once(trace(happened("started", 0), happened("started", 0))),
            "h0 started 2 times",
        ),
        (
            delivery.nothing_runs_on,
            trace(happened("returned", value=()), tasks_left=("left",)),
            "tasks were left behind: left",
        ),
        (
            delivery.defaults,
            trace(happened("returned", value=())),
            "publish was to be sequential, and was nothing at all",
        ),
        (
            failures.groups,
            trace(
                happened("failed", 0, GROUP),
                happened("returned", value=(told(0, FIRST), told(0, GROUP))),
            ),
            "a cancellation was reported within a group",
        ),
        (
            failures.continues,
            trace(*STARTS, happened("returned", value=[FIRST])),
            "publish returned [ValueError('first')], not a tuple of failures",
        ),
        (
            failures.continues,
            trace(*STARTS, happened("returned", value=(told(0, SECOND),))),
            "the failure of h0 was returned with ValueError('second')",
        ),
        (
            failures.continues,
            trace(*STARTS, happened("returned", value=(told(0, FIRST, "d"),))),
            "the failure of h0 was returned as of 'a' and 'd'",
        ),
        (
            failures.continues,
            trace(*STARTS, logs(FIRST), ANNOUNCED, happened("returned", value=(told(0, FIRST),))),
            "the failure of h0 was published with another event or component",
        ),
        (
            failures.raises_first,
            trace(happened("raised", value=FIRST)),
            "publish raised ValueError('first'), and nobody did",
        ),
    ],
)
def test_a_judgement(judge: Any, seen: BusTrace, complaint: str | None) -> None:
    """P1: what breaks the clause is told in so many words."""
    assert judge(seen) == complaint


def test_a_deferred_failure_is_raised_to_no_sender() -> None:
    """P1: C4 is broken where a sender gets the failure of a message that was only deferred."""
    failed = happened("failed", value=FIRST)
    entries: Any = SimpleNamespace(
        all=lambda what, **_: [failed if what == "failed" else happened("raised", value=FIRST)],
        messages=[SimpleNamespace(within=())],
    )
    message: Any = SimpleNamespace(number=0, name="message 0")
    complaint = "the failure of message 0, which was deferred, was raised to a sender"
    assert reported(entries, message) == complaint


class Keeps(EventBus):  # type: ignore[misc]
    """Ends no subscription."""

    def unsubscribe(self, subscription: Subscription) -> bool:
        return subscription.active


class Compares(EventBus):  # type: ignore[misc]
    """Takes one instrument for another one that equals it."""

    def __init__(self) -> None:
        super().__init__()
        self.added: set[Any] = set()

    def add_instrument(self, instrument: Any) -> None:
        if instrument not in self.added:
            self.added.add(instrument)
            super().add_instrument(instrument)


async def test_a_handler_that_starts_though_it_was_ended_is_told() -> None:
    """P1: B5 is broken."""
    with pytest.raises(AssertionError, match="its handler started all the same"):
        await starts_nobody_that_was_ended(
            Keeps(),
            heard=[],
            by="a handler",
            how=by_unsubscribing,
            option="",
            delivery="sequential",
        )


async def test_an_instrument_that_is_taken_for_another_one_is_told() -> None:
    """P1: I1 is broken."""
    with pytest.raises(AssertionError, match="two equal instruments, added twice each, saw"):
        await knows_each_instrument(Compares(), heard=[], removed=0, delivery="sequential")
