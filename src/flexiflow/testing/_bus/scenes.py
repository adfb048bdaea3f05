"""Programs with which clauses are tried in every examination, before any are drawn (P1).

What is rare among what is drawn, and what a bus does in one step out of many, is tried for sure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flexiflow.testing._bus import exit_programs as exits
from flexiflow.testing._bus import expecting_programs as expecting
from flexiflow.testing._bus import line_programs as lines
from flexiflow.testing._bus import plan_programs as planned
from flexiflow.testing._bus import room_programs as room
from flexiflow.testing._bus import term_programs as terms
from flexiflow.testing._bus import waiting_programs as waiting
from flexiflow.testing._bus.plans import PLANS
from flexiflow.testing._bus.stream_clauses import stream_script
from flexiflow.testing._bus.subscription_programs import by_unsubscribing, by_unsubscribing_all
from flexiflow.testing._examiner.clause import each_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flexiflow.testing._bus.stream_clauses import StreamStep
    from flexiflow.testing._examiner.program import Case

_PLAIN: Final = ("sequential",)
_PLANS: Final = tuple(each for each in PLANS if "async" in each)
_AT_ONCE: Final[dict[str, Any]] = {"delivery": ("concurrent", "tiered"), "policy": ("raise",)}
_WAYS: Final = ("publish", "ask")
_HOW: Final = (by_unsubscribing, by_unsubscribing_all)
_ended: Final = each_of(lines.ends_a_line, way=_WAYS, how=_HOW, delivery=_PLAIN)
_cleanups: Final = each_of(
    lines.announces_each_cleanup,
    first=("exits", "fails", "is cancelled"),
    cleanups=(("fails",), ("fails", "no", "fails")),
    delivery=("concurrent", "tiered"),
)
_STEPS: Final[tuple[tuple[int, tuple[StreamStep, ...]], ...]] = (
    (1, ("publishers give up", "read")),
    (2, ("read", "publishers give up", "read")),
    (0, ("read", "read", "readers give up")),
    (3, ("publishers give up",)),
)


def _script(buffer: int, more: int, then: tuple[StreamStep, ...]) -> Case:
    """Fill a stream that blocks, and let some publishers wait; do something, publish, and read."""
    first: list[StreamStep] = ["publish"] * (buffer + more)
    last: list[StreamStep] = ["publish", "read", "read", "read"]
    return stream_script(buffer, "block", "sequential", [*first, *then, *last])


_scripts: Final = tuple(_script(buffer, more, then) for buffer in range(3) for more, then in _STEPS)

SCENES: Final[Mapping[str, tuple[Case, ...]]] = {
    "A1": (*_ended, *each_of(lines.answers_at_once, number=(2, 3))),
    "B5": each_of(
        planned.ends_in_each_plan,
        planned.joins_in_each_plan,
        plan=_PLANS,
        by=terms.ENDERS,
        event=("a", "*"),
        delivery=_PLAIN,
    ),
    "B8": each_of(
        planned.asks_in_each_plan,
        planned.asks_nobody_that_has_ended,
        plan=_PLANS,
        accepts=(True, False, None),
        how=("one", "all"),
        delivery=_PLAIN,
    ),
    "B9": each_of(
        planned.is_called_once_in_each_plan, plan=_PLANS, overlap=(False, True), delivery=_PLAIN
    ),
    "B15": (
        *each_of(
            room.waits_for_all,
            limit=(1, 2),
            buffer=(0, 1),
            publishers=(2, 4),
            left_by=("its end", "an exception"),
            gives_up=(False, True),
        ),
        *each_of(
            room.lets_exits_out,
            room.refuses_to_wait_for_its_opener,
            room.is_entered_once,
            waits=(False, True),
            limit=(1, 2),
            late=(True,),
            when=("within", "later"),
            delivery=_PLAIN,
        ),
    ),
    "E1": (
        *each_of(exits.fails_many_times, number=(12,)),
        *each_of(planned.fails_in_each_plan, plan=_PLANS, pattern=("a", "*"), delivery=_PLAIN),
    ),
    "E4": (*_cleanups, *each_of(exits.exits_in_a_cleanup, **_AT_ONCE)),
    "E5": (
        *each_of(exits.exits_in_each_plan, plan=_PLANS, delivery=_PLAIN, policy=("continue",)),
        *each_of(exits.starts_nobody_when_cancelled),
        *each_of(exits.exits_as_it_is_told, waits=(False, True)),
    ),
    "E8": each_of(exits.splits_what_a_cancelled_one_raises, plan=_PLANS, delivery=_PLAIN),
    "I1": each_of(expecting.knows_each_instrument, removed=(0, 1), delivery=_PLAIN),
    "I2": each_of(
        planned.watches_whom_it_calls, plan=_PLANS, skips=("filter", "end"), delivery=_PLAIN
    ),
    "I3": each_of(
        expecting.survives_a_stray_instrument,
        where=tuple(f"{verb} {what}" for verb in ("enters", "leaves") for what in "ah"),
    ),
    "S1": each_of(
        expecting.tells_its_waiters,
        waiting.lets_publishers_go,
        waiting.tells_its_readers,
        waiting.yields_as_it_is_read,
        buffer=(0, 1),
        publishers=(1, 3),
        readers=(1,),
        comes=(False, True),
        left_by=("its end", "an exception", "a cancellation"),
        delivery=_PLAIN,
    ),
    "S2": (
        *each_of(
            waiting.wakes_another,
            acts=(
                ("0", "publish"),
                ("publish", "0"),
                ("publish", "1"),
                ("0", "publish", "1"),
                ("publish", "0", "publish"),
                ("publish", "publish", "0"),
            ),
            readers=(2, 3),
            delivery=_PLAIN,
        ),
        *_scripts,
    ),
    "S3": each_of(
        waiting.knows_its_consumer,
        readers=((), (0,), (1,), (1, 1), (0, 1), (1, 0), (1, 2)),
        publisher=(0, 1, 2),
        way=("itself", "a handler"),
        delivery=_PLAIN,
    )
    + each_of(waiting.refuses_each_handler, handlers=(1, 2, 3))
    + each_of(
        waiting.gives_a_reader_its_turn,
        room.refuses_to_wait_for_its_opener,
        limit=(1, 2),
        late=(False, True),
        delivery=_PLAIN,
    ),
    "S4": each_of(
        expecting.gives_all_the_same,
        expecting.takes_the_first_of_a_filter,
        waiters=(2, 3),
        late=(False, True),
        fails=(False, True),
        delivery=_PLAIN,
    ),
    "V1": each_of(
        planned.is_late_in_each_plan, plan=_PLANS, delivery=_PLAIN, policy=("continue", "raise")
    ),
    "V2": (
        *each_of(
            planned.is_limited_in_each_plan,
            plan=_PLANS,
            limit=(1, 2),
            within=(False, True),
            delivery=_PLAIN,
        ),
        *each_of(
            lines.passes_the_slot_on,
            limit=(1, 2),
            leaving=((2,), (3,), (2, 3)),
            moment=("in line", "as a call ends", "after a call"),
            way=_WAYS,
            delivery=_PLAIN,
        ),
        *_ended,
    ),
}
"""The programs by clause."""
