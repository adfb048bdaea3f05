"""The contract of the bus as data: each clause, its sentence, and what checks it (P1)."""

from __future__ import annotations

from typing import Final

from flexiflow.testing._bus import clauses as bus
from flexiflow.testing._bus import delivery_clauses as delivery
from flexiflow.testing._bus import failure_clauses as failures
from flexiflow.testing._bus import instrument_clauses as instruments
from flexiflow.testing._bus import limit_clauses as limits
from flexiflow.testing._bus import stream_clauses as streams
from flexiflow.testing._examiner.clause import Clause

CONTRACT: Final[tuple[Clause, ...]] = (
    Clause(
        "B1",
        "a bus is bound to no loop",
        "A bus needs no running loop to be made, holds nothing that is bound to one, and serves "
        "several runs one after another.",
        bus.B1,
    ),
    Clause(
        "B2",
        "a subscription is an object",
        "`subscribe`, a checkpoint, returns a read-only, hashable object that is also a context "
        "manager, and tells whether it is `active`; the same handler subscribed twice is two "
        "subscriptions, and a `subscribe` that is cancelled has subscribed nothing.",
        bus.B2,
    ),
    Clause(
        "B3",
        "bad arguments fail at the call, and change nothing",
        "Bad arguments raise `ValueError` or `TypeError` at the call, and change nothing.",
        bus.B3,
    ),
    Clause(
        "B4",
        "the order is by priority, then by age",
        "Handlers come in ascending order of the priority's number, 1 first; equal priorities "
        "in the order in which they were subscribed, exact names and patterns merged.",
        bus.B4,
    ),
    Clause(
        "B5",
        "a publish has a snapshot",
        "`publish` calls exactly those that were subscribed when it began, before any yield; one "
        "that is subscribed meanwhile does not see this event, and one that is unsubscribed "
        "meanwhile never starts, though it goes on if it is running.",
        bus.B5,
    ),
    Clause(
        "B6",
        "unsubscribing is idempotent",
        "`unsubscribe` returns True the first time and False afterwards, or for a subscription "
        "of another bus; `unsubscribe_all` returns how many it removed; nothing of a removed "
        "subscription stays in memory.",
        bus.B6,
    ),
    Clause(
        "B7",
        "sync and async handlers",
        "A handler may be any callable, sync or async; a sync one runs inline, and if a call "
        "returns an awaitable, it is awaited.",
        bus.B7,
    ),
    Clause(
        "B8",
        "a filter decides just before the start",
        "A filter is asked at each publish, just before its handler would start, and not if that "
        "was unsubscribed; one that raises, or returns an awaitable, is a failure of that "
        "subscription and touches no other.",
        bus.B8,
    ),
    Clause(
        "B9",
        "`once` is at most once",
        "A handler subscribed with `once=True` starts at most once, also when publishes "
        "overlap; it is unsubscribed before it starts, and a filter that refuses or raises "
        "leaves it subscribed.",
        bus.B9,
    ),
    Clause(
        "B10",
        "patterns",
        "In `subscribe`, `*` stands for exactly one segment, and `**`, as the last one, for one "
        "or more; `**` matches every event, the built-in ones included.",
        bus.B10,
    ),
    Clause(
        "B11",
        "publishing inside a handler",
        "A publish inside a handler runs at once, depth first, as a plain `await` would.",
        bus.B11,
    ),
    Clause(
        "D1",
        "sequential",
        "One handler at a time, in order, in the publisher's own task and context: what one "
        "sets in a context variable, later ones and the publisher see.",
        delivery.D1,
    ),
    Clause(
        "D2",
        "concurrent",
        "All handlers at once, started in order; each sees the publisher's context variables "
        "and nobody what another sets; handlers that wait for each other make progress.",
        delivery.D2,
    ),
    Clause(
        "D3",
        "tiered",
        "The handlers of priority 1 concurrently; when all have ended, those of priority 2, and "
        "so on to 5.",
        delivery.D3,
    ),
    Clause(
        "D4",
        "nothing is left running",
        "When `publish` returns, raises or is cancelled, every handler that it started has "
        "ended, and it leaves no task behind.",
        delivery.D4,
    ),
    Clause(
        "D5",
        "defaults of the bus",
        "The delivery and the policy that a publish names win; where it names none, the bus's "
        "own hold.",
        delivery.D5,
    ),
    Clause(
        "D6",
        "yielding",
        "`publish` is a checkpoint at least once in `yield_every` publishes of the bus, which "
        "is 61 where nothing else was said.",
        delivery.D6,
    ),
    Clause(
        "E1",
        "`continue`",
        "Each failure is, at once and in the task of the handler that failed, logged as an error "
        "with its traceback, naming event, component and handler, and published as "
        "`event.handler.failed`; all are returned, in order of delivery; every other handler "
        "still runs.",
        failures.E1,
    ),
    Clause(
        "E2",
        "`raise`, sequential",
        "The first failure leaves `publish` as it is, the same exception object, and later "
        "handlers don't start; in tiered delivery it is as in concurrent, and later tiers don't "
        "start.",
        failures.E2,
    ),
    Clause(
        "E3",
        "`raise`, concurrent",
        "The first failure cancels its siblings, waits for their cleanup, and leaves `publish` "
        "bare; handlers not yet started don't start and keep their `once`; what a sibling "
        "raises in its cleanup is logged, published, and noted on what is raised.",
        failures.E3,
    ),
    Clause(
        "E4",
        "either raised or reported",
        "Every failure is either raised to the publisher or reported, and never both.",
        failures.E4,
    ),
    Clause(
        "E5",
        "a cancellation is no failure",
        "A cancellation is never reported as a failure and never swallowed; if a handler fails "
        "in it, no further handler starts, and under `raise` the failure leaves. What is no "
        "`Exception` leaves `publish` bare when the siblings have been cancelled; of several the "
        "first, the others noted on it.",
        failures.E5,
    ),
    Clause(
        "E6",
        "a stray cancellation is a failure",
        "A cancellation that leaves a handler while `publish` is not being cancelled becomes "
        "`HandlerCancelled`, with the cancellation as its cause: a failure like any other, which "
        "under `continue` harms no sibling.",
        failures.E6,
    ),
    Clause(
        "E7",
        "failures of failure handlers",
        "If a handler of `event.handler.failed` fails, or anything published from within it, "
        "that is logged and reported no further.",
        failures.E7,
    ),
    Clause(
        "E8",
        "exception groups",
        "An exception group that leaves a handler is its exception, kept whole; one that holds "
        "cancellations, at any depth, is split: the rest is the failure, and the cancellation "
        "goes on if `publish` is being cancelled.",
        failures.E8,
    ),
    Clause(
        "S1",
        "armed on entry",
        "A stream, and an expectation, hear what is published from the entry of their block on, "
        "and nothing before; when it is left, by its end, an exception or a cancellation, the "
        "subscription is gone, and blocked publishers go on. Several tasks may read one stream; "
        "each event goes to one of them.",
        streams.S1,
        ("stream", "expect"),
    ),
    Clause(
        "S2",
        "a full buffer has a policy",
        "Where the buffer is full, `block` lets the publisher wait, `drop_oldest` and "
        "`drop_newest` lose an event, and `error` loses this one with `BufferFull`, a failure of "
        "that subscription; `received == delivered + dropped + buffered` in what `statistics()` "
        "gives; a reader that is cancelled loses no event.",
        streams.S2,
        ("stream",),
    ),
    Clause(
        "S3",
        "a stream that would wait for itself",
        "If the only consumer of a full `block` stream publishes to it, or a handler that it "
        "waits for does, that is a `StreamDeadlock`, a failure of that subscription, counted as "
        "dropped, and no hang; the consumer is the task that entered it, until another reads.",
        streams.S3,
        ("stream",),
    ),
    Clause(
        "S4",
        "order, and waiting for one event",
        "A stream gives events in the order in which their publishes reach it; `expect` and "
        "`wait_for` give the first event that the filter takes; what the filter raises, raises "
        "at the waiter and is no failure of the publish; a waiter that gives up leaves nothing "
        "behind.",
        streams.S4,
        ("stream", "expect", "wait_for"),
    ),
    Clause(
        "T1",
        "names that know their payload",
        "A `Topic` is a str at run time, and works wherever a name does.",
        streams.T1,
    ),
    Clause(
        "V1",
        "a time limit",
        "An async handler that is still running `time_limit` seconds after it started is "
        "cancelled, and has failed with `HandlerTimeout`; a deadline around the publish, or of "
        "the handler's own, is not taken for it, and a sync handler is not interrupted.",
        limits.V1,
        ("subscribe(time_limit=)",),
    ),
    Clause(
        "V2",
        "so many calls at once",
        "At most `limit` calls of the handler run at once, across publishes; the others wait, "
        "first come first served, and filter, `once`, `active` and the start of `time_limit` "
        "come after the wait; a call from within such a call, or one that would close a cycle "
        "of waiting calls, fails with `LimitDeadlock`; a waiter that is cancelled costs no slot.",
        limits.V2,
        ("subscribe(limit=)", "subscribe(time_limit=)"),
    ),
    Clause(
        "I1",
        "added and removed",
        "`add_instrument` and `remove_instrument` take effect from the next publish on; the "
        "latter returns True the first time and False afterwards.",
        instruments.I1,
        ("add_instrument", "remove_instrument"),
    ),
    Clause(
        "I2",
        "what an instrument sees",
        "`publishing` is around a whole publish, in the publisher's task, and `handling` around "
        "each handler, in the task that runs it, so that context variables work; the first added "
        "is outermost; an instrument is shown a failure as the bus classifies it, and can't "
        "swallow it.",
        instruments.I2,
        ("add_instrument",),
    ),
    Clause(
        "I3",
        "an instrument that fails, or refuses",
        "An instrument that raises is logged once and taken out, its entered context managers "
        "are still exited, and delivery goes on; but `PublishRefused`, raised in `publishing`, "
        "leaves `publish` before any handler starts, never for `event.handler.failed`.",
        instruments.I3,
        ("add_instrument",),
    ),
)
"""Every clause of the bus, in order."""
