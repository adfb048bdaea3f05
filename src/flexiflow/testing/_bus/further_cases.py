"""What clauses are tried with beyond their own cases: programs that cross features (P1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

from flexiflow.testing._bus import ending_programs as endings
from flexiflow.testing._bus import receiving_programs as receiving
from flexiflow.testing._bus import sight_programs as sights
from flexiflow.testing._bus import telling_programs as telling
from flexiflow.testing._bus import term_programs as terms
from flexiflow.testing._bus.subscription_programs import (
    by_leaving,
    by_unsubscribing,
    by_unsubscribing_all,
)
from flexiflow.testing._bus.walk_programs import walking
from flexiflow.testing._examiner.clause import drawn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flexiflow.testing._examiner.program import Case

_ENDS: Final = endings.ENDS
_OPTIONS: Final[dict[str, Any]] = {"option": endings.OPTIONS}
_SIGHTS: Final[dict[str, Any]] = {**_OPTIONS, "sights": sights.SIGHTS}
_TERMS: Final = ("", "around", "filter", "limit", "time limit")
_OVERFLOWS: Final = ("block", "drop_oldest", "drop_newest", "error")
_asked = drawn(sights.sees_each_answer, ends=_ENDS, early=(True, False), **_SIGHTS)
_ended = drawn(
    terms.starts_nobody_that_was_ended,
    by=terms.ENDERS,
    how=(by_unsubscribing, by_unsubscribing_all, by_leaving),
    option=_TERMS,
)
_cleanups = drawn(
    telling.tells_each_cleanup,
    first=("exits", "fails", "is cancelled"),
    cleanups=(("fails",), ("no", "fails"), ("fails", "fails"), ("fails", "no", "fails")),
    delivery=("concurrent", "tiered"),
)
_filter_fails = drawn(
    telling.tells_of_its_filter,
    waits=("never", "once", "twice"),
    left_by=("its end", "an exception", "a cancellation"),
)
_counted = drawn(
    receiving.counts_as_it_is_left,
    read=range(4),
    overflow=_OVERFLOWS,
    left_by=("its end", "an exception"),
)
_several_readers = drawn(receiving.has_several_readers, readers=(2, 3), last=range(3))
_yielding = drawn(
    receiving.yields_whatever_is_done,
    acts=[*((act,) for act in receiving.ACTS), ("heard", "asked"), ("fails", "asked sync")],
)

FURTHER: Final[Mapping[str, st.SearchStrategy[Case]]] = {
    "B5": st.one_of(walking("B5"), _ended),
    "B6": st.one_of(
        walking("B6"),
        drawn(
            telling.frees_what_failed,
            ends=("returns", "fails"),
            watched=(False, True),
            option=(*_TERMS, "once"),
        ),
    ),
    "B10": walking("B10"),
    "B12": walking("B12"),
    "B15": drawn(
        receiving.keeps_its_places,
        limit=(1, 2),
        buffer=(1, 2, 3),
        overflow=_OVERFLOWS[1:],
        number=range(3, 9),
    ),
    "D6": _yielding,
    "E4": _cleanups,
    "E5": drawn(terms.is_cancelled_with_terms, turns=range(1, 6), **_OPTIONS),
    "E7": drawn(telling.is_told_once, how=("published", "failed", "nested")),
    "S1": walking("S1"),
    "S2": st.one_of(_counted, _several_readers, drawn(receiving.fails_by_its_filter)),
    "S3": _several_readers,
    "S4": st.one_of(
        drawn(receiving.has_its_priority, priorities=((1, 3), (3, 1), (5, 3), (3, 5))),
        _filter_fails,
    ),
    "V1": drawn(terms.is_late, late=("returns", "fails", "waits", "is cancelled"), **_OPTIONS),
    "V2": st.one_of(
        drawn(
            terms.shares_its_slots,
            limit=(1, 2, 3),
            seconds=((5, 1, 1, 1), (1, 2, 3, 4), (3, 3, 1, 2, 1)),
            option=_TERMS,
        ),
        drawn(terms.waits_for_who_can_end, others=(0, 1, 2), option=_TERMS),
    ),
    "I2": st.one_of(drawn(sights.sees_each_end, ends=_ENDS, **_SIGHTS), _asked),
    "I3": drawn(
        sights.survives_in_each_place,
        place=sights.PLACES,
        ends=_ENDS,
        **_OPTIONS,
    ),
    "A1": walking("A1"),
    "A2": st.one_of(_asked, _yielding),
    "A3": st.one_of(
        drawn(
            terms.calls_after_each_end,
            ends=(
                ("fails", "returns"),
                ("times out", "fails", "returns"),
                ("is stray", "returns", "fails"),
                ("returns", "returns"),
            ),
            **_OPTIONS,
        ),
        drawn(
            terms.sees_no_built_in_event,
            event=terms.BUILT_IN,
            pattern=("", "**"),
        ),
    ),
}
"""The cases by clause."""
