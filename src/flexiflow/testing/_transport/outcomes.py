"""The outcomes of deliveries: how a worker reports them, and what the model makes of them."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, TypeAlias

from flexiflow.extras.durable import Acknowledged, Buried, Followed, Noted, Postponed, Returned
from flexiflow.testing._transport.desk_calls import Broken, Inconclusive
from flexiflow.testing._transport.holds import Span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flexiflow.extras.durable import Delivery, Failure, Outcome, Settled
    from flexiflow.testing._transport.holds import Hold, Tenure
    from flexiflow.testing._transport.part import Part

DELAYS: Final[Mapping[str, float]] = {"postpone": 0.0, "delay": 0.3, "defer": 1_000.0}
"""After how many leases a postponed record is due, by its name in scripts."""


Settling: TypeAlias = Acknowledged | Noted | Returned | Buried | Postponed
"""The outcome of one record."""


def make_outcome(
    how: str, given: Delivery, key: str | None, *, lease: float, failure: Failure
) -> Outcome:
    """Return an outcome of a delivery, by its name in scripts.

    Args:
        how: the name.
        given: what was given.
        key: its key.
        lease: the length of a lease, in seconds.
        failure: why it is buried.
    """
    at, attempts, deliveries = given.position, given.attempts, given.deliveries
    delays = {"queue": None, **{each: delay * lease for each, delay in DELAYS.items()}}
    outcomes: dict[str, Outcome] = {
        "acknowledge": Acknowledged(at),
        "note": Noted(at, attempts + 1, deliveries),
        "begin": Noted(at, attempts, deliveries + 1),
        "return": Returned(at, attempts, 0),
        "let go": Returned(at, attempts + 1, deliveries),
        "bury": Buried(at, attempts + 1, deliveries, failure),
        **{each: Postponed(at, attempts + 1, 0, delay, key) for each, delay in delays.items()},
    }
    return outcomes[how]


def settle(part: Part, place: int, outcome: Settling, tenure: Tenure, at: Span) -> None:
    """Note the outcome of a record that a lease was given at some time.

    Args:
        part: the group's part that has it.
        place: its place there.
        outcome: what became of it.
        tenure: the lease.
        at: when.
    """
    hold = part.pending.get(place) or part.waiting.get(place)
    is_repeated = hold is not None and tenure in (
        hold.holder if place in part.waiting else None,
        hold.returned if hold.holder is None else None,
    )
    if hold is None or is_repeated:
        return
    if hold.holder is not tenure or tenure.is_over:
        _report(hold, outcome)
    elif isinstance(outcome, Acknowledged | Buried):
        del part.pending[place]
        part.settled.add(place)
        # A holder may settle a deleted record; whether that counts as missed then is left open.
        part.missed[1] += place in part.gone and not hold.has_waited
        if hold.has_waited and hold.key is not None:
            follow(part, hold.key, tenure, at)
    else:
        hold.attempts, hold.deliveries = outcome.attempts, outcome.deliveries
        if isinstance(outcome, Postponed):
            hold.key = outcome.key
        if isinstance(outcome, Postponed) or (isinstance(outcome, Returned) and hold.has_waited):
            _wait(part, place, hold, outcome, at)
        elif isinstance(outcome, Returned):
            hold.holder, hold.returned = None, tenure


def _report(hold: Hold, outcome: Settling) -> None:
    """Note how an attempt ended under a lease that has lost the record (X11)."""
    if isinstance(outcome, Noted):
        return
    hold.is_done |= isinstance(outcome, Acknowledged)
    attempts = 0 if isinstance(outcome, Acknowledged) else outcome.attempts
    counts = max(hold.attempts, attempts), min(hold.deliveries, 1)
    if hold.holder is None:
        # Nobody holds it, so the report may be taken or not: both counts are right.
        hold.spare = counts
    else:
        (hold.attempts, hold.deliveries), hold.is_told = counts, True


def _wait(part: Part, place: int, hold: Hold, outcome: Postponed | Returned, at: Span) -> None:
    is_there = part.has(place)
    del part.pending[place]
    if not is_there:
        # Without its body it can't wait, and is missed.
        return
    hold.has_waited = True
    hold.is_loose = isinstance(outcome, Returned)
    hold.due = _due(part, hold, outcome, at)
    part.waiting[place] = hold


def _due(part: Part, hold: Hold, outcome: Postponed | Returned, at: Span) -> Span | None:
    """Return when a waiting record is due, or None if it is behind another one."""
    if isinstance(outcome, Returned):
        return at
    if outcome.delay is not None:
        longest = hold.holder.longest if hold.holder is not None else inf
        # A transport may shorten the delay to the longest one at once.
        earliest = at.earliest + min(outcome.delay, longest)
        return Span(earliest, at.latest + outcome.delay)
    heads = part.heads(hold.key, hold.holder) if hold.holder is not None else []
    _check_heads(heads)
    return None if heads else at


def _check_heads(heads: Sequence[Hold]) -> None:
    # A head that was returned, or is done, may have ceased to be one.
    if heads and all(head.is_loose or head.is_done for head in heads):
        raise Inconclusive


def follow(part: Part, key: str, tenure: Tenure, at: Span) -> None:
    """Make the first in a key's line due, if it is behind nothing any more."""
    heads, line = part.heads(key, tenure), part.line(key, tenure)
    if line:
        _check_heads(heads)
    if line and not heads:
        part.waiting[line[0]].due = at


def clamp(part: Part, tenure: Tenure, at: Span) -> None:
    """Make all records due by the longest delay after a `receive`, at the latest."""
    for hold in part.waiting.values():
        if hold.due is not None:
            latest = min(hold.due.latest, at.latest + tenure.longest)
            hold.due = hold.due._replace(latest=latest)


def check_settled(
    part: Part, outcomes: Sequence[tuple[int, Outcome]], tenure: Tenure, given: Settled
) -> None:
    """Compare the lost records that `settle` returned with those in the model."""
    lost, may = list[str](), list[str]()
    for place, outcome in outcomes:
        hold = part.pending.get(place) or part.waiting.get(place)
        if isinstance(outcome, Followed) or hold is None or hold.holder is tenure:
            continue
        is_held = place in part.pending and hold.holder is not None and not hold.holder.is_over
        (lost if is_held else may).append(outcome.position)
    told = [*given.lost]
    if not {*lost} <= {*told} <= {*lost, *may}:
        raise Broken("X11", f"of what was settled {lost} are another's, and {told} are told")


def check_over(
    part: Part, outcomes: Sequence[tuple[int, Outcome]], tenure: Tenure, given: Settled
) -> None:
    """Compare the lines that `settle` reported as over with those in the model."""
    keys = dict.fromkeys(each.key for _, each in outcomes if isinstance(each, Followed))
    over = [key for key in keys if not part.waits(key, tenure)]
    may = [key for key in keys if all(each.is_loose for each in part.waits(key, tenure))]
    told = [*given.over]
    if not {*over} <= {*told} <= {*over, *may}:
        raise Broken("X12", f"the lines of {over} are over, and those of {told} are told to be")
