"""What a survey of a transport must tell, compared with the model (Y6)."""

from __future__ import annotations

from math import isclose
from typing import TYPE_CHECKING, Final

from flexiflow.testing._transport.desk_calls import Broken
from flexiflow.testing._transport.model import REPLAY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flexiflow.extras.durable import GroupSurvey, LogSurvey, Member, Survey
    from flexiflow.testing._transport.holds import Span
    from flexiflow.testing._transport.model import GroupModel, Model
    from flexiflow.testing._transport.plans import Offset, Plan

_ABOUT: Final = 0.01
"""By how many seconds a time may be off: a transport may count milliseconds."""


def check_survey(
    survey: Survey,
    model: Model,
    plans: Sequence[Plan],
    members: Mapping[str, Member],
    offset: Offset,
    at: Span,
) -> None:
    """Compare a survey with the model.

    Args:
        survey: the survey.
        model: the model.
        plans: what was scheduled.
        members: the members that are certainly alive, by name.
        offset: by how much the transport's clock is ahead of the loop's.
        at: when the survey was made.
    """
    now = offset.span(survey.now)
    _compare("now", not (now.is_before(at) or at.is_before(now)), survey.now, at)
    _compare("partitions", len(survey.logs) == len(model.items), len(survey.logs), len(model.items))
    for partition, log in enumerate(survey.logs):
        _check_log(model, partition, log)
    waiting = [each for each in plans if each.state == "waiting"]
    certain = sum(not each.may_be_due(at) for each in waiting)
    told = sum(log.scheduled for log in survey.logs)
    _compare("scheduled", certain <= told <= len(waiting), told, certain)
    names = [each.name for each in survey.groups]
    _compare("groups", names == sorted(model.groups), names, sorted(model.groups))
    for each in survey.groups:
        _check_group(model, each, [one for one in members.values() if one.group == each.name])
        for member in each.members:
            is_alive = offset.span(member.until).latest >= at.earliest
            _compare(f"until of {member.consumer}", is_alive, member.until, "later than now")


def _check_log(model: Model, partition: int, log: LogSurvey) -> None:
    first, gone = model.first[partition], model.gone[partition]
    kept = [place for place in range(first, len(model.items[partition])) if place not in gone]
    where = f" of partition {partition}"
    _compare("length" + where, log.length == len(kept), log.length, len(kept))
    oldest = model.times[partition][kept[0]] if kept else None
    _compare("oldest" + where, _is_same(log.oldest, oldest), log.oldest, oldest)
    is_size = log.size is None or (log.size > 0) >= bool(kept)
    _compare("size" + where, is_size, log.size, "more than 0")


def _check_group(model: Model, told: GroupSurvey, members: Sequence[Member]) -> None:
    group, where = model.groups[told.name], f" of {told.name}"
    alive = [(each.consumer, each.patterns) for each in sorted(members, key=lambda it: it.consumer)]
    found = [(each.consumer, each.patterns) for each in told.members]
    _compare("members" + where, found == alive, found, alive)
    _compare("replay" + where, group.is_replay(told.replay), told.replay, REPLAY)
    dead = [0] * len(group.parts)
    for grave in group.graves:
        dead[grave.partition] += 1
    counted = [each.dead for each in told.standings]
    _compare("dead" + where, counted == dead or bool(group.doubtful), counted, dead)
    if any(part.is_doubtful or part.gone or any(part.ghosts) for part in group.parts):
        return
    for partition, (part, standing) in enumerate(zip(group.parts, told.standings, strict=True)):
        held = len(part.pending), len(part.waiting)
        is_right = (standing.pending, standing.waiting) == held
        _compare(f"pending and waiting{where}", is_right, standing, held)
        is_right = part.lag <= standing.lag <= part.lag + len(part.passed)
        _compare(f"lag{where} in partition {partition}", is_right, standing.lag, part.lag)
    _check_oldest(model, group, told)


def _check_oldest(model: Model, group: GroupModel, told: GroupSurvey) -> None:
    """Check how old what a group has not settled is; what waits outside the log may not count."""
    in_log, all_of_it = list[float | None](), list[float | None]()
    for part, times in zip(group.parts, model.times, strict=True):
        held = [place for place, hold in part.pending.items() if not hold.has_waited]
        in_log += [times[place] for place in [*sorted(held), *part.new()][:1]]
        unsettled = [*part.pending, *part.waiting, *part.new()]
        all_of_it += [times[place] for place in sorted(unsettled)[:1]]
    right = [_first(times) for times in (all_of_it, in_log)]
    is_right = any(_is_same(told.oldest, each) for each in right)
    _compare(f"oldest of {told.name}", is_right, told.oldest, right[0])


def _first(times: Sequence[float | None]) -> float | None:
    return min((each for each in times if each is not None), default=None)


def _is_same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return isclose(one, other, abs_tol=_ABOUT, rel_tol=0.0)


def _compare(what: str, is_right: bool, told: object, expected: object) -> None:  # noqa: FBT001
    if not is_right:
        raise Broken("Y6", f"a survey tells {what} as {told}, and it is {expected}")
