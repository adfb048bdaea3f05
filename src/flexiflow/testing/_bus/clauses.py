"""The checkers of the bus's own clauses (B1 to B11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from flexiflow.testing._bus import programs as texts
from flexiflow.testing._bus.judgements import (
    at_most_once,
    at_once,
    filters,
    hears,
    order,
    removals,
    snapshot,
)
from flexiflow.testing._bus.script import (
    Publish,
    Script,
    Subscribe,
    Unsubscribe,
    UnsubscribeAll,
    publishes,
    scripts,
)
from flexiflow.testing._examiner.clause import (
    MODES,
    POLICIES,
    Checker,
    number,
    often,
    priorities,
    programs,
)
from flexiflow.testing._examiner.steps import Together, Wait

if TYPE_CHECKING:
    from flexiflow.testing._examiner.program import Case
    from flexiflow.testing._examiner.steps import Step


_names = st.sampled_from(["a", "a.b", "axb", "a.c", "b", "a.b.c"])
_patterns = st.sampled_from(["a", "*", "**", "a.*", "a.**", "a.b", "*.b", "b", "a.*.c", "*.**"])
_heard = st.sampled_from(["a", "*", "**"])
# Without `**`, which would hear failures of failures too.
_near = st.sampled_from(["a", "*"])
_components = st.sampled_from(["c", "cd"])
_waits = st.lists(st.builds(Wait, number(1, 3)), max_size=1).map(tuple)
_newcomer = st.builds(Subscribe, event=_heard, component=_components, priority=priorities)
_meanwhile = st.one_of(often(2, _newcomer), st.builds(UnsubscribeAll, _components))
_meddling = st.one_of(
    st.builds(Unsubscribe, number(0, 4)),
    st.builds(UnsubscribeAll, _components),
    st.builds(Subscribe, event=_heard, priority=priorities),
    st.builds(Wait),
)


def _aging_script(first: list[Subscribe], then: list[Unsubscribe], publish: Publish) -> Script:
    return Script((*first, *then, publish))


def _aging_scripts(event: str, heard: st.SearchStrategy[str]) -> st.SearchStrategy[Case]:
    """Draw scripts that subscribe, end some subscriptions, and then publish."""
    subscribe = st.builds(
        Subscribe, _waits, event=heard, priority=st.sampled_from([3, 3, 1, 2, 4, 5])
    )
    return st.builds(
        _aging_script,
        st.lists(subscribe, min_size=1, max_size=8),
        st.lists(st.builds(Unsubscribe, number(0, 7)), max_size=2),
        publishes(("sequential",), POLICIES, event=event),
    )


def _amid(publish: Publish, meddling: Step) -> Together:
    return Together(((publish,), (meddling,)))


def _once_script(first: list[Subscribe], then: list[Step], decisions: tuple[int, ...]) -> Script:
    ended = (Unsubscribe(at) for at in range(len(first)))
    return Script((*first, *then, *ended), decisions)


def _once_scripts() -> st.SearchStrategy[Case]:
    """Draw publishes one after another and at once, and then an `unsubscribe` of each handler."""
    publish = publishes(policies=POLICIES)
    return st.builds(
        _once_script,
        st.lists(
            st.builds(
                Subscribe,
                st.lists(
                    st.one_of(st.builds(Wait, number(1, 3)), st.builds(Unsubscribe, number(0, 2))),
                    max_size=2,
                ).map(tuple),
                event=_near,
                once=st.sampled_from([True, True, False]),
                filter=st.sampled_from([None, None, "accepts", "refuses", "raises"]),
            ),
            min_size=1,
            max_size=3,
        ),
        st.lists(
            st.one_of(
                publish,
                st.builds(
                    Together, st.lists(st.tuples(publish), min_size=2, max_size=3).map(tuple)
                ),
            ),
            min_size=1,
            max_size=2,
        ),
        st.lists(number(0, 3), max_size=8).map(tuple),
    )


B1 = Checker(programs(texts.serves_several_runs, runs=2))
B2 = Checker(programs(*texts.SUBSCRIPTIONS))
B3 = Checker(
    st.one_of(
        programs(texts.refuses, error=[ValueError], bad=texts.BAD_VALUES),
        programs(texts.refuses, error=[TypeError], bad=texts.BAD_TYPES),
    )
)
B4 = Checker(
    st.one_of(
        _aging_scripts("a", _heard),
        _aging_scripts("a.b", st.sampled_from(["a.b", "a.*", "*.b", "a.**", "**"])),
    ),
    order,
)
B5 = Checker(
    scripts(
        st.builds(
            Subscribe,
            st.lists(_meddling, max_size=2).map(tuple),
            event=_heard,
            component=_components,
            priority=priorities,
        ),
        st.one_of(publishes(), st.builds(_amid, publishes(), _meanwhile)),
        least=2,
        most_after=2,
    ),
    snapshot,
)
B6 = Checker(
    st.one_of(
        scripts(
            st.builds(Subscribe, event=_heard, component=_components, once=st.booleans()),
            st.one_of(st.builds(Unsubscribe, number(0, 4)), st.builds(UnsubscribeAll, _components)),
            most_after=5,
            scheduled=False,
        ),
        programs(texts.forgets, texts.keeps_what_is_of_another, end=texts.ENDINGS),
    ),
    removals,
)
B7 = Checker(programs(texts.runs_inline, texts.calls, handler=texts.HANDLERS))
B8 = Checker(
    scripts(
        st.builds(
            Subscribe,
            st.lists(
                st.one_of(
                    st.builds(Wait, number(1, 3)), often(2, st.builds(Unsubscribe, number(0, 4)))
                ),
                max_size=1,
            ).map(tuple),
            event=_near,
            filter=st.sampled_from([None, "accepts", "refuses", "raises", "exits", "awaitable"]),
            priority=priorities,
        ),
        publishes(),
    ),
    filters,
)
B9 = Checker(_once_scripts(), at_most_once)
_listening = scripts(
    st.builds(
        Subscribe,
        st.lists(st.builds(Subscribe, event=_patterns), max_size=1).map(tuple),
        event=_patterns,
    ),
    st.builds(Publish, st.just("sequential"), st.just("continue"), event=_names),
    least=3,
    most_after=5,
    scheduled=False,
)
B10 = Checker(
    st.one_of(
        often(3, _listening),
        programs(texts.hears_failures, pattern=("**", "event.handler.*")),
    ),
    hears,
)
B11 = Checker(
    scripts(
        st.builds(
            Subscribe,
            st.lists(
                st.one_of(
                    st.builds(Publish, st.sampled_from([None, *MODES]), event=st.just("b")),
                    st.builds(Wait),
                ),
                max_size=2,
            ).map(tuple),
            event=st.sampled_from(["a", "b", "*"]),
            priority=priorities,
        ),
        publishes(),
    ),
    at_once,
)
