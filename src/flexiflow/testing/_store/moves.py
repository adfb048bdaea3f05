"""Scripts for stores: the steps to do at a desk, and how they are drawn."""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from hypothesis import strategies as st

from flexiflow.testing._examiner.acts import Act, Acts
from flexiflow.testing._examiner.clause import number
from flexiflow.testing._store.model import NAMES, REFUSED, SNAPSHOTS, STATES, TIMES

if TYPE_CHECKING:
    from flexiflow.testing._examiner.program import Case

_MOST: Final = 6
"""The most moves that are drawn for a script, after the first."""

Moves: TypeAlias = tuple[Act, ...]
"""Steps that are drawn together."""


def scripts(*moves: st.SearchStrategy[Moves]) -> st.SearchStrategy[Case]:
    """Draw a script that begins with a save, and goes on with these moves, with equal chances."""
    # Drawn by index, since `one_of` would drop repeated moves.
    drawn = number(0, len(moves) - 1).flatmap(moves.__getitem__)
    lists = st.lists(drawn, min_size=1, max_size=_MOST)
    return st.builds(_script, saves, lists)


def _script(first: Moves, others: list[Moves]) -> Acts:
    return Acts((*first, *chain.from_iterable(others)))


def _move(method: str, *given: st.SearchStrategy[Any]) -> st.SearchStrategy[Moves]:
    return st.tuples(*given).map(lambda drawn: (Act(method, drawn),))


# In most scripts there are few names, so that the moves meet.
names = st.one_of(st.sampled_from(NAMES[:3]), st.sampled_from(NAMES))
stores = number(0, 1)
times = st.sampled_from((None, *TIMES))
_states = st.sampled_from(STATES)
_snapshots = st.sampled_from(SNAPSHOTS)

saves = _move("save", names, _states, _snapshots, times, stores)
loads = _move("load", names, stores)
conflicts = _move("conflict", names, number(0, 4).map(lambda away: away - 2), stores)
refusals = _move("refuse", names, st.sampled_from([*REFUSED]))
deletes = _move("delete", names, stores)
dues = _move("due", st.sampled_from((*TIMES, -2.0)), number(0, 4), stores)
nevers: st.SearchStrategy[Moves] = st.tuples(names).map(
    lambda given: (
        Act("save", (*given, "new", None, math.inf)),
        Act("due", (math.inf, 4)),
    )
)
races = _move("race", names, number(2, 4))
crowds = _move(
    "together", st.lists(st.sampled_from(NAMES[:6]), min_size=1, max_size=4, unique=True).map(tuple)
)
cancels = _move("cancel", names, number(0, 6))
reopenings: st.SearchStrategy[Moves] = st.just((Act("reopen", ()),))
looks = _move("versions", names)
forgettings: st.SearchStrategy[Moves] = st.tuples(names).map(
    lambda given: (Act("save", (*given, "new")), Act("delete", given), Act("versions", given))
)
