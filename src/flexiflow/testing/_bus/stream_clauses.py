"""The checkers of the clauses of streams, of waiting and of topics (S1 to S4, T1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from flexiflow.testing._bus import stream_programs as texts
from flexiflow.testing._bus.stream_script import stream_script
from flexiflow.testing._examiner.clause import MODES, Checker, number, often, programs, scheduled

if TYPE_CHECKING:
    from flexiflow._stream import Overflow
    from flexiflow.testing._bus.stream_script import StreamStep

_OVERFLOWS: Final[tuple[Overflow, ...]] = ("drop_oldest", "drop_newest", "error")

_publish: st.SearchStrategy[StreamStep] = st.just("publish")
_read: st.SearchStrategy[StreamStep] = st.just("read")
_give_up: st.SearchStrategy[StreamStep] = st.sampled_from(["readers give up", "publishers give up"])
_step = st.one_of(often(3, _publish), often(2, _read), _give_up)


def _steps(most: int, then: tuple[StreamStep, ...]) -> st.SearchStrategy[tuple[StreamStep, ...]]:
    drawn = st.lists(_step, min_size=2, max_size=most)
    return drawn.map(lambda steps: (*steps, *then))


_modes = st.sampled_from(MODES)
_streams = st.one_of(
    st.builds(
        stream_script,
        number(1, 2),
        st.sampled_from(_OVERFLOWS),
        _modes,
        # Whatever was dropped then shows in what is read.
        _steps(6, ("publish", "read", "read")),
    ),
    st.builds(stream_script, number(0, 2), st.just("block"), _modes, _steps(8, ("read",))),
)
S1 = Checker(
    programs(
        texts.enters_a_stream,
        texts.enters_an_expectation,
        texts.shares_among_readers,
        texts.leaves_a_stream,
        texts.leaves_an_expectation,
        end=texts.ENDS,
    )
)
_cancelled = scheduled(
    texts.survives_a_cancelled_reader,
    turns=range(8),
    buffer=(3, 0),
    cancels=("scope", "native"),
)
S2 = Checker(
    st.one_of(often(2, _streams), _cancelled, programs(texts.has_read_only_statistics)),
)
S3 = Checker(programs(*texts.DEADLOCKS))
S4 = Checker(
    st.one_of(scheduled(texts.gives_events_in_order, buffer=(1, 0, 2)), programs(*texts.WAITING))
)
T1 = Checker(programs(*texts.TOPICS))
