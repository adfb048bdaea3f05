"""The checkers of the clauses of components (C1 to C10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from hypothesis import strategies as st

from flexiflow.events import MESSAGE_RECEIVED, STATE_CHANGED
from flexiflow.testing._component import handling_programs as handling
from flexiflow.testing._component import hosting_programs as hosting
from flexiflow.testing._component import turn_programs as turns
from flexiflow.testing._component.script import (
    ComponentScript,
    Fail,
    Look,
    Observe,
    Row,
    Send,
    is_table,
)
from flexiflow.testing._component.steps import all_or_nothing, steps_in_order
from flexiflow.testing._component.turns import in_turn, run_to_completion
from flexiflow.testing._examiner.acts import Together, Wait
from flexiflow.testing._examiner.checker import Checker, number, schedules
from flexiflow.testing._examiner.program import Program

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow.testing._component.trace import History
    from flexiflow.testing._examiner.checker import Complain
    from flexiflow.testing._examiner.code import Step
    from flexiflow.testing._examiner.program import Case
    from flexiflow.testing._examiner.trace import Trace

_NOTHING: st.SearchStrategy[tuple[Any, ...]] = st.just(())


def _judged(complain: Callable[[History], str | None]) -> Complain:
    def judge(trace: Trace) -> str | None:
        return complain(cast("History", trace))

    return judge


def _programs(programs: tuple[str, ...]) -> st.SearchStrategy[Case]:
    return st.sampled_from([Program(text) for text in programs])


def _steps(*kinds: st.SearchStrategy[Step], most: int = 2) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(st.one_of(*kinds), max_size=most).map(tuple)


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


_waits = _steps(st.builds(Wait, number(1, 3)), most=1)
_no_guard: st.SearchStrategy[None] = st.none()
_observed = st.sampled_from([STATE_CHANGED, MESSAGE_RECEIVED])
_names = st.sampled_from(["a", "b"])
_cancelled_after = st.one_of(st.none(), st.none(), number(0, 6))

_to_others = st.builds(Send, _names, st.sampled_from(["t1", "t2"]), st.booleans())
_last = st.builds(Send, _names, st.just("t2"), st.booleans())


def _nested(trigger: str, *kinds: st.SearchStrategy[Step]) -> st.SearchStrategy[Row]:
    does = _steps(*kinds, st.builds(Wait, number(1, 2)), st.builds(Fail))
    return st.builds(Row, st.just(trigger), guard=st.one_of(_no_guard, does), action=does)


C1 = Checker(_programs(hosting.REGISTERING))
C2 = Checker(_programs(hosting.MAKING))
C3 = Checker(
    st.one_of(
        _scripts(
            st.tuples(st.builds(Row, guard=st.one_of(_no_guard, _waits), action=_waits)).map(list),
            st.builds(Send, _names, cancelled_after=_cancelled_after),
            observers=_steps(st.builds(Observe, _observed, _waits), most=1),
        ),
        _programs(turns.TURNS),
    ),
    _judged(in_turn),
)
C4 = Checker(
    st.one_of(
        _scripts(
            st.tuples(_nested("t0", _to_others), _nested("t1", _last), _nested("t2")).map(list),
            st.builds(
                Send, _names, st.sampled_from(["t0", "t1"]), cancelled_after=_cancelled_after
            ),
            observers=_steps(st.builds(Observe, _observed, st.tuples(_last)), most=1),
        ),
        _programs(turns.COMPLETION),
    ),
    _judged(run_to_completion),
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
            observers=_steps(st.builds(Observe, _observed, st.just((Fail(),))), most=1),
        ),
        _programs(handling.STEPS),
    ),
    _judged(steps_in_order),
)
_failing = _steps(st.builds(Wait, number(1, 3)), st.builds(Fail))
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
            observers=_steps(st.builds(Observe, _observed, _waits), most=1),
            looks=_steps(st.builds(Look, number(1, 8)), most=1),
        ),
        _scripts(
            st.tuples(st.builds(Row, guard=st.one_of(_no_guard, _waits), action=_waits)).map(list),
            st.builds(Send, cancelled_after=number(0, 6)),
        ),
        _programs(handling.STRAYS),
    ),
    _judged(all_or_nothing),
)
C7 = Checker(_programs(handling.INTERNAL))
C8 = Checker(_programs(handling.UNMATCHED))
C9 = Checker(_programs(handling.SHARED))
C10 = Checker(_programs(handling.COPIES))
