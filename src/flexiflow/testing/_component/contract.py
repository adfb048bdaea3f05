"""The contract of engines and their components: each clause, and what tries to break it (P1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

from flexiflow.events import MESSAGE_RECEIVED, STATE_CHANGED
from flexiflow.testing._component import asking_programs as asking
from flexiflow.testing._component import handling_programs as handling
from flexiflow.testing._component import hosting_programs as hosting
from flexiflow.testing._component import making_programs as making
from flexiflow.testing._component import (
    marked_clauses,
    publish_clauses,
    residence_clauses,
    state_clauses,
    store_clauses,
    table_programs,
    timer_clauses,
    work_clauses,
)
from flexiflow.testing._component import refusal_programs as refusals
from flexiflow.testing._component import sending_programs as sending
from flexiflow.testing._component import turn_programs as turns
from flexiflow.testing._component.judgements import (
    all_or_nothing,
    in_turn,
    run_to_completion,
    steps_in_order,
)
from flexiflow.testing._component.script import (
    ComponentScript,
    Fail,
    Look,
    Observe,
    Row,
    Send,
    is_table,
)
from flexiflow.testing._examiner.clause import (
    Clause,
    clauses_of,
    each_of,
    number,
    often,
    programs,
    schedules,
    several,
)
from flexiflow.testing._examiner.steps import Together, Wait

if TYPE_CHECKING:
    from flexiflow.testing._examiner.program import Case
    from flexiflow.testing._examiner.steps import Step

_MOST: Final = 0.65
_FEW: Final = 0.2
"""Which part of the examples is drawn, where programs that are all tried show much already."""

_NOTHING: st.SearchStrategy[tuple[Any, ...]] = st.just(())


def _scripts(
    rows: st.SearchStrategy[list[Row]],
    sends: st.SearchStrategy[Step],
    *,
    observers: st.SearchStrategy[tuple[Any, ...]] = _NOTHING,
    looks: st.SearchStrategy[tuple[Any, ...]] = _NOTHING,
) -> st.SearchStrategy[Case]:
    """Draw scripts: observers, and then several tasks that send, and some that look at states."""
    tasks = several(sends, least=1)
    return st.builds(
        _script, rows, observers, st.lists(tasks, min_size=1, max_size=3), looks, schedules
    )


def _script(
    rows: list[Row],
    observers: tuple[Step, ...],
    tasks: list[tuple[Step, ...]],
    looks: tuple[Step, ...],
    decisions: tuple[int, ...],
) -> ComponentScript:
    together = (*tasks, *((look,) for look in looks))
    steps = (*observers, *(tasks[0] if len(together) == 1 else (Together(together),)))
    return ComponentScript(tuple(rows), steps, decisions)


_waits = several(st.builds(Wait, number(1, 3)), most=1)
_no_guard: st.SearchStrategy[None] = st.none()
_observed = st.sampled_from([STATE_CHANGED, MESSAGE_RECEIVED])
_names = st.sampled_from(["a", "b"])
_cancelled_after = st.one_of(st.none(), st.none(), number(0, 6))

_to_others = st.builds(Send, _names, st.sampled_from(["t1", "t2"]), st.booleans())
_last = st.builds(Send, _names, st.just("t2"), st.booleans())


def _nested(trigger: str, *kinds: st.SearchStrategy[Step]) -> st.SearchStrategy[Row]:
    does = several(*kinds, st.builds(Wait, number(1, 2)), st.builds(Fail))
    return st.builds(Row, st.just(trigger), guard=st.one_of(_no_guard, does), action=does)


_REGISTERING: Final = (
    *each_of(
        *hosting.REGISTERING,
        *refusals.REFUSED,
        unregisters=(False, True),
        fault=tuple(refusals.FAULTS),
        way=("register", "send"),
        same=(False, True),
    ),
    *each_of(
        sending.is_gone_in_one_step,
        sending.is_gone_as_it_is_announced,
        sending.hears_from_its_observer,
        by=("its handling", "its sender"),
        again=(False, True),
        way=("registered", "made"),
    ),
    *each_of(sending.finishes_what_is_in_hand, by=("an observer", "the guard", "the action")),
)
C1 = Clause(
    "C1",
    "registering",
    "`register` takes the name at once and publishes its event once, and a `send` waits for "
    "that; cancelled before, nothing is registered; a taken name is a `DuplicateComponent` "
    "that changes nothing, and a component belongs to one engine. `unregister` ends the "
    "component and its subscriptions at once: the message in hand finishes, waiting senders "
    "get `UnknownComponent`, deferred messages are reported with it, and it may be "
    "registered again. `components` is read-only.",
    st.sampled_from(_REGISTERING),
    scenes=_REGISTERING,
    share=_FEW,
)
C2 = Clause(
    "C2",
    "asking for a component",
    "`send` to an unknown name asks `component_factory` once, however many ask at the same "
    "time, registers what it gives, then delivers; None is `UnknownComponent`, also a "
    "`KeyError`, which names the closest name; what it raises is raised to all that wait; if the "
    "asker is cancelled, the next one asks again; asking for the same name from within it, or "
    "giving another name, is a `ComponentError`.",
    programs(
        *hosting.MAKING,
        asking.asks_in_turn,
        gives=hosting.GIVEN,
        first=asking.ENDS,
        then=asking.ENDS[:3],
        leaves=(False, True),
    ),
)
C3 = Clause(
    "C3",
    "one message at a time",
    "A component handles one message at a time, in the order in which `send` was first run; "
    "different components run in parallel.",
    _scripts(
        st.tuples(st.builds(Row, guard=st.one_of(_no_guard, _waits), action=_waits)).map(list),
        st.builds(Send, _names, cancelled_after=_cancelled_after),
        observers=several(st.builds(Observe, _observed, _waits), most=1),
    ),
    in_turn,
    scenes=each_of(*turns.TURNS),
    share=_MOST,
)
C4 = Clause(
    "C4",
    "run to completion",
    "A message that a component is sent from within its own handling, or that would close a "
    "cycle of components waiting for each other, is `DEFERRED`, and handled right after the "
    "one in hand, in order, before other senders' messages, in the task of the send in "
    "hand, which only then returns, or raises its own failure. If the deferred one fails, "
    "that is logged, and published as `event.handler.failed`.",
    _scripts(
        st.tuples(_nested("t0", _to_others), _nested("t1", _last), _nested("t2")).map(list),
        st.builds(Send, _names, st.sampled_from(["t0", "t1"]), cancelled_after=_cancelled_after),
        observers=several(st.builds(Observe, _observed, st.tuples(_last)), most=1),
    ),
    run_to_completion,
    scenes=each_of(
        *turns.COMPLETION,
        *sending.DEFERRING,
        names=("ab", "abc"),
        way=("send", "hand over"),
        fails=(False, True),
        deferred=(1, 2),
        ends=("ends", "is given up"),
    ),
    share=_MOST,
)
_crossing = _scripts(
    st.lists(
        st.builds(
            Row,
            st.sampled_from(["t0", "t1"]),
            st.sampled_from(["*", "s0", "s1", ("s0", "s1")]),
            st.sampled_from(["s1", "s0", None]),
            st.one_of(_no_guard, _waits),
            st.sampled_from([True, False, 1, 0, "yes", "", None]),
            st.one_of(_no_guard, _waits),
        ),
        min_size=1,
        max_size=4,
    ).filter(lambda rows: is_table(tuple(rows))),
    st.builds(Send, st.just("a"), st.sampled_from(["t0", "t1"])),
    observers=several(st.builds(Observe, _observed, st.just((Fail(),))), most=1),
)
C5 = Clause(
    "C5",
    "the order of one message",
    "`component.message.received`; guard; action; commit; `state.changed`. The first "
    "transition whose source, trigger and guard match is taken. The message is copied when "
    "it is sent; one that is no mapping with a str `type` is refused before anything is "
    "published. Observers that fail change nothing.",
    st.one_of(
        often(3, _crossing),
        table_programs.FIRST,
    ),
    steps_in_order,
    scenes=each_of(*handling.STEPS, bad=handling.NO_MESSAGES, way=handling.WAYS),
    share=_MOST,
)
_failing = several(st.builds(Wait, number(1, 3)), st.builds(Fail))
C6 = Clause(
    "C6",
    "all or nothing",
    "A guard or action that raises, or is cancelled, leaves the state as it was, publishes "
    "no `state.changed`, and raises to the sender; each `from_state` is the `to_state` "
    "before it, and nothing yields between the commit and its first observer; a stray "
    "cancellation is a failure, `HandlerCancelled` from it.",
    st.one_of(
        _scripts(
            st.tuples(
                st.builds(
                    Row,
                    st.just("t0"),
                    target=st.just("s1"),
                    guard=st.one_of(_no_guard, _failing),
                    action=st.one_of(_failing, st.just((Fail(),))),
                ),
                st.builds(Row, st.just("t1"), target=st.just("s2"), action=_waits),
            ).map(list),
            st.builds(
                Send,
                st.just("a"),
                st.sampled_from(["t0", "t1"]),
                cancelled_after=_cancelled_after,
            ),
            observers=several(st.builds(Observe, _observed, _waits), most=1),
            looks=several(st.builds(Look, number(1, 8)), most=1),
        ),
        _scripts(
            st.tuples(st.builds(Row, guard=st.one_of(_no_guard, _waits), action=_waits)).map(list),
            st.builds(Send, cancelled_after=number(0, 6)),
        ),
    ),
    all_or_nothing,
    scenes=each_of(
        handling.fails_by_a_stray,
        handling.fails_by_a_stray_factory,
        role=("guard", "action"),
    ),
    share=_MOST,
)
C7 = Clause(
    "C7",
    "internal transitions",
    "With `target=None` the action runs, nothing changes, no `state.changed` is published, "
    "and the outcome is `TRANSITIONED`; a transition from a state to itself is one like any "
    "other.",
    programs(handling.takes_an_internal_transition, handling.goes_to_its_own_source),
)
C8 = Clause(
    "C8",
    "no transition matches",
    "The outcome is `IGNORED`, as it is without a machine; a strict machine raises "
    "`TransitionRefused`, which names the state, the trigger, and the triggers that would "
    "be taken.",
    table_programs.MATCHED,
    scenes=each_of(*handling.UNMATCHED),
    share=_FEW,
)
C9 = Clause(
    "C9",
    "a machine is shared",
    "Components that share a machine each keep their own state, and begin in its initial "
    "one; `name`, `machine` and `state` are read-only.",
    table_programs.DRAWN,
    scenes=each_of(*handling.SHARED, making.is_immutable, making.draws_odd_names),
    share=_FEW,
)
C10 = Clause(
    "C10",
    "observers have their own copy",
    "Observers of `component.message.received` get a shallow copy of the message: what they "
    "change there neither the component nor the sender sees; nested values are shared.",
    programs(*handling.COPIES),
)

_LASTING: Final = (*clauses_of(vars(store_clauses)), residence_clauses.K5)
_IN_TIME: Final = (state_clauses.M1, timer_clauses.M2, work_clauses.M3, state_clauses.M4)
_OF_BUSES: Final = (
    *(marked_clauses.B4, marked_clauses.B8, marked_clauses.B9, marked_clauses.B13),
    *(publish_clauses.D6, publish_clauses.E7),
    *(marked_clauses.V1, marked_clauses.V2),
    *(marked_clauses.A1, marked_clauses.A2, marked_clauses.A3),
)
COMPONENT_CONTRACT: Final = (
    *(C1, C2, C3, C4, C5, C6, C7, C8, C9, C10),
    *(*_LASTING, *_IN_TIME, *_OF_BUSES),
)
"""Every clause of engines and components, in order."""
