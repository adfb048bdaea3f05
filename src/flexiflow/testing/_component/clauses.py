"""The checkers of the clauses of components (C1 to C10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from flexiflow.events import MESSAGE_RECEIVED, STATE_CHANGED
from flexiflow.testing._component import handling_programs as handling
from flexiflow.testing._component import hosting_programs as hosting
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
from flexiflow.testing._examiner.clause import Checker, number, programs, schedules, several
from flexiflow.testing._examiner.steps import Together, Wait

if TYPE_CHECKING:
    from flexiflow.testing._examiner.program import Case
    from flexiflow.testing._examiner.steps import Step

_NOTHING: st.SearchStrategy[tuple[Any, ...]] = st.just(())


def _scripts(
    rows: st.SearchStrategy[list[Row]],
    sends: st.SearchStrategy[Step],
    *,
    observers: st.SearchStrategy[tuple[Any, ...]] = _NOTHING,
    looks: st.SearchStrategy[tuple[Any, ...]] = _NOTHING,
) -> st.SearchStrategy[Case]:
    """Draw scripts: observers, and then several tasks that send, and some that look at states."""
    tasks = st.lists(sends, min_size=1, max_size=2).map(tuple)
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


C1 = Checker(programs(*hosting.REGISTERING, unregisters=(False, True)))
C2 = Checker(programs(*hosting.MAKING, gives=hosting.GIVEN))
C3 = Checker(
    st.one_of(
        _scripts(
            st.tuples(st.builds(Row, guard=st.one_of(_no_guard, _waits), action=_waits)).map(list),
            st.builds(Send, _names, cancelled_after=_cancelled_after),
            observers=several(st.builds(Observe, _observed, _waits), most=1),
        ),
        programs(*turns.TURNS),
    ),
    in_turn,
)
C4 = Checker(
    st.one_of(
        _scripts(
            st.tuples(_nested("t0", _to_others), _nested("t1", _last), _nested("t2")).map(list),
            st.builds(
                Send, _names, st.sampled_from(["t0", "t1"]), cancelled_after=_cancelled_after
            ),
            observers=several(st.builds(Observe, _observed, st.tuples(_last)), most=1),
        ),
        programs(*turns.COMPLETION, names=("ab", "abc")),
    ),
    run_to_completion,
)
C5 = Checker(
    st.one_of(
        _scripts(
            st.lists(
                st.builds(
                    Row,
                    st.sampled_from(["t0", "t1"]),
                    st.sampled_from(["*", "s0", "s1"]),
                    st.sampled_from(["s1", "s0", None]),
                    st.one_of(_no_guard, _waits),
                    st.booleans(),
                    st.one_of(_no_guard, _waits),
                ),
                min_size=1,
                max_size=4,
            ).filter(lambda rows: is_table(tuple(rows))),
            st.builds(Send, st.just("a"), st.sampled_from(["t0", "t1"])),
            observers=several(st.builds(Observe, _observed, st.just((Fail(),))), most=1),
        ),
        programs(*handling.STEPS, bad=handling.NO_MESSAGES, way=handling.WAYS),
    ),
    steps_in_order,
)
_failing = several(st.builds(Wait, number(1, 3)), st.builds(Fail))
C6 = Checker(
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
        programs(
            handling.fails_by_a_stray,
            handling.fails_by_a_stray_factory,
            role=("guard", "action"),
        ),
    ),
    all_or_nothing,
)
C7 = Checker(programs(handling.takes_an_internal_transition, handling.goes_to_its_own_source))
C8 = Checker(programs(*handling.UNMATCHED))
C9 = Checker(programs(*handling.SHARED))
C10 = Checker(programs(*handling.COPIES))
