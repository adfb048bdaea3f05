"""Scenes for transports: scripts that are tried before any are drawn, as few draws lead to them."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final

from flexiflow.testing._examiner.acts import Act
from flexiflow.testing._transport.desk_log import LENGTH, MOST
from flexiflow.testing._transport.moves import PARTITIONS, TransportScript

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flexiflow.testing._transport.moves import Moves


def _scenes(scenes: Iterable[Moves], **options: int) -> tuple[TransportScript, ...]:
    """Return scripts of a transport that is made with these options."""
    return tuple(TransportScript(acts, options=tuple(options.items())) for acts in scenes)


def _when_due(how: str, *acts: Act) -> Moves:
    """Do something when records are due that were scheduled in another order."""
    return (
        Act("enter", ("a",)),
        Act("schedule", (how, "soon", None, None)),
        Act("schedule", ("delay", "sooner", None)),
        Act("pass_time", ()),
        *acts,
    )


_WHEN_DUE: Final = [
    _when_due(*each)
    for each in product(
        ("delay", "at"),
        (
            Act("store", ("p", None)),
            Act("receive", ("a", 3)),
            Act("unschedule", (0,)),
            Act("schedule_again", (0,)),
            Act("begin", ("c", "new", 0)),
            Act("replay", ("g", "new", 0)),
            Act("die", ("a",)),
            Act("reopen", ()),
        ),
    )
]
_CANCELLED: Final = [
    (Act("schedule", ("delay", when, None)), Act("unschedule", (0,)), act)
    for when, act in product(
        ("soon", "later", "now"),
        (Act("pass_time", ()), Act("schedule_again", (0,)), Act("reopen", ())),
    )
]
_INTO_A_FULL_LOG: Final = (
    Act("join", ("a",)),
    Act("schedule", ("delay", "soon", None, None)),
    Act("store", ("p", *[None] * LENGTH)),
    Act("pass_time", ()),
    Act("look", ("g",)),
    Act("store", ("q", None)),
)
_MANY: Final = Act("schedule", ("delay", "later", *[None] * MOST))
_TOO_MANY: Final = [
    (_MANY, Act("schedule", ("delay", "later", None))),
    (_MANY, Act("schedule_again", (0,))),
    (_MANY, Act("unschedule", (0,)), Act("schedule", ("delay", "later", None))),
]
Y3: Final = (
    *_scenes(_WHEN_DUE),
    *_scenes(_CANCELLED),
    *_scenes([_INTO_A_FULL_LOG], max_length=LENGTH),
    *_scenes(_TOO_MANY, max_scheduled=MOST),
    *_scenes([(Act("schedule", ("delay", "later", *"kkll")),)], partitions=PARTITIONS),
    *_scenes([(Act("strange", ()),)]),
)
"""Scenes of what is scheduled."""


def _begin_again(where: tuple[str, int], how: str) -> Moves:
    """Make a group begin again in which records are in different states."""
    return (
        Act("store", ("p", None, None, None)),
        Act("receive", ("a", 2)),
        Act("settle", ("a", how, 0)),
        Act("replay", ("g", *where)),
        Act("look", ("g",)),
        Act("receive", ("b", 3)),
    )


_WHERES: Final = (("oldest", 0), ("place", 1), ("new", 0))
_BEGUN_AGAIN: Final = [
    _begin_again(*each)
    for each in product(
        _WHERES, ("acknowledge", "bury", "postpone", "defer", "note", "return", "queue")
    )
]


def _report_late(how: str, then: str) -> Moves:
    """Settle by a lease that a replay has ended what another lease was given anew."""
    return (
        Act("store", ("p", None)),
        Act("receive", ("a", 1)),
        Act("replay", ("g", "oldest", 0)),
        Act("receive", ("b", 1)),
        Act("settle", ("a", how, 0)),
        Act(then, ("b",)),
    )


_REPORTED_LATE: Final = [
    _report_late(*each) for each in product(("acknowledge", "bury", "let go"), ("leave", "renew"))
]


def _redrive_and_begin(where: tuple[str, int], state: str) -> Moves:
    """Make a group begin again that has redriven a record, which is in some state by then."""
    given = (Act("receive", ("a", 3)), Act("settle", ("a", state, 0)))
    return (
        Act("store", ("p", None)),
        Act("receive", ("a", 1)),
        Act("settle", ("a", "bury", 0)),
        Act("redrive", ("g", 0)),
        *(given if state else ()),
        Act("replay", ("g", *where)),
    )


_REDRIVEN: Final = [
    _redrive_and_begin(*each)
    for each in product(_WHERES, ("", "acknowledge", "bury", "defer", "note"))
]


def _begin(where: tuple[str, int], *, is_there: bool) -> Moves:
    """Begin in a log that holds something; or try to, where the group is there already."""
    joined = (Act("join", ("a",)),) if is_there else ()
    return (Act("store", ("p", None, None)), *joined, Act("begin", ("b", *where)))


_BEGUN: Final = [
    _begin(where, is_there=is_there)
    for where in (*_WHERES, *[("wrong", number) for number in range(3)], ("time", 2))
    for is_there in (False, True)
]


def _begin_at_a_time(method: str, who: str, *, is_known: bool) -> Moves:
    """Begin at a later record's time; there may be one before it of which no time is known."""
    return (
        *((Act("join", ("c",)),) if method == "replay" else ()),
        Act("store", ("p", None)),
        *(() if is_known else (Act("insert", (0, 0)),)),
        Act("pass_time", ()),
        Act("store", ("q", None)),
        Act(method, (who, "time", 1)),
    )


_TIMED: Final = [
    _begin_at_a_time(*each, is_known=is_known)
    for each in (("begin", "c"), ("replay", "h"))
    for is_known in (True, False)
]

_NUMBERED: Final = (
    Act("enter", ("a",)),
    Act("replay", ("g", "new", 0)),
    Act("enter", ("a",)),
    Act("forget", ("g",)),
    Act("enter", ("a",)),
    Act("survey", ()),
)
"""Make two groups of one name, so that the numbers of their replays can be compared."""


def _when_trimmed(*acts: Act) -> Moves:
    """Do something where records were deleted to make room for others."""
    return (
        Act("begin", ("a", "new", 0)),
        Act("store", ("p", *[None] * LENGTH)),
        Act("receive", ("a", LENGTH)),
        Act("settle", ("a", "acknowledge", *range(LENGTH))),
        Act("store", ("q", None, None)),
        *acts,
    )


_TRIMMED: Final = [
    _when_trimmed(Act(method, (who, *where)))
    for method, who in (("begin", "c"), ("replay", "g"))
    for where in (("place", 1), ("place", 2), ("place", 4), ("time", 0), ("oldest", 0))
]
_APART: Final = [
    (Act("store", ("p", *"kkl")), Act("begin", ("c", "place", 2))),
    (Act("store", ("p", *"kkl")), Act("receive", ("a", 3, 1)), Act("replay", ("g", "place", 2))),
]
Y5: Final = (
    *_scenes(_BEGUN_AGAIN),
    *_scenes(_REDRIVEN),
    *_scenes(_TRIMMED, max_length=LENGTH),
    *_scenes(_REPORTED_LATE),
    *_scenes(_BEGUN),
    *_scenes([*_TIMED, _NUMBERED]),
    *_scenes([*_APART, *_BEGUN_AGAIN[:3], *_REPORTED_LATE[:1]], partitions=PARTITIONS),
)
"""Scenes of where a group begins."""

_SURVEY: Final = Act("survey", ())
_BURIED: Final = (Act("receive", ("a", 1, 1)), Act("settle", ("a", "bury", 0)))
Y6: Final = (
    *_scenes([_when_trimmed(_SURVEY)], max_length=LENGTH),
    *_scenes([(Act("store", ("p", None, None)), *_BURIED, _SURVEY)], partitions=PARTITIONS),
    *_scenes(
        [
            (*_BEGUN_AGAIN[0], _SURVEY),
            (Act("store", ("p", None)), Act("join", ("a",)), Act("join", ("c",)), _SURVEY),
            (Act("schedule", ("delay", "later", None)), _SURVEY),
        ]
    ),
)
"""Scenes of what a survey tells."""
