"""The contract of engines and their components as data: each clause, and its checker (P1)."""

from __future__ import annotations

from typing import Final

from flexiflow.testing._component import clauses
from flexiflow.testing._examiner.clause import Clause

COMPONENT_CONTRACT: Final = (
    Clause(
        "C1",
        "registering",
        "`register` takes the name at once and publishes its event once, and a `send` waits for "
        "that; cancelled before, nothing is registered; a taken name is a `DuplicateComponent` "
        "that changes nothing, and a component belongs to one engine. `unregister` ends the "
        "component and its subscriptions at once: the message in hand finishes, waiting senders "
        "get `UnknownComponent`, deferred messages are reported with it, and it may be "
        "registered again. `components` is read-only.",
        clauses.C1,
    ),
    Clause(
        "C2",
        "asking for a component",
        "`send` to an unknown name asks `component_factory` once, however many ask at the same "
        "time, registers what it gives, then delivers; None is `UnknownComponent`, also a "
        "`KeyError`, which names the closest name; what it raises all who wait get; if the asker "
        "is cancelled, the next one asks again; asking for the same name from within it, or "
        "giving another name, is a `ComponentError`.",
        clauses.C2,
    ),
    Clause(
        "C3",
        "one message at a time",
        "A component handles one message at a time, in the order in which `send` was first run; "
        "different components run in parallel.",
        clauses.C3,
    ),
    Clause(
        "C4",
        "run to completion",
        "A message that a component is sent from within its own handling, or that would close a "
        "cycle of components waiting for each other, is `DEFERRED`, and handled right after the "
        "one in hand, in order, before other senders' messages, in the task of the send in "
        "hand, which only then returns, or raises its own failure. If the deferred one fails, "
        "that is logged, and published as `event.handler.failed`.",
        clauses.C4,
    ),
    Clause(
        "C5",
        "the order of one message",
        "`component.message.received`; guard; action; commit; `state.changed`. The first "
        "transition whose source, trigger and guard match is taken. The message is copied when "
        "it is sent; what is no mapping with a str `type` is refused before anything is "
        "published. Observers that fail change nothing.",
        clauses.C5,
    ),
    Clause(
        "C6",
        "all or nothing",
        "A guard or action that raises, or is cancelled, leaves the state as it was, publishes "
        "no `state.changed`, and raises to the sender; each `from_state` is the `to_state` "
        "before it, and nothing yields between the commit and its first observer; a stray "
        "cancellation is a failure, `HandlerCancelled` from it.",
        clauses.C6,
    ),
    Clause(
        "C7",
        "internal transitions",
        "With `target=None` the action runs, nothing changes, no `state.changed` is published, "
        "and the outcome is `TRANSITIONED`; a transition from a state to itself is one like any "
        "other.",
        clauses.C7,
    ),
    Clause(
        "C8",
        "no transition matches",
        "The outcome is `IGNORED`, as it is without a machine; a strict machine raises "
        "`TransitionRefused`, which names the state, the trigger, and the triggers that would "
        "be taken.",
        clauses.C8,
    ),
    Clause(
        "C9",
        "a machine is shared",
        "Components that share a machine each keep their own state, and begin in its initial "
        "one; `name`, `machine` and `state` are read-only.",
        clauses.C9,
    ),
    Clause(
        "C10",
        "observers have their own copy",
        "Observers of `component.message.received` get a shallow copy of the message: what they "
        "change there neither the component nor the sender sees; nested values are shared.",
        clauses.C10,
    ),
)
"""Every clause of engines and components, in order."""
