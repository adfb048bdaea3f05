"""What a desk has scheduled, and what must have come of it (Y3)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Final, NamedTuple, final

from flexiflow.testing._transport.desk_calls import Broken
from flexiflow.testing._transport.holds import Span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flexiflow.extras.durable import Record, ScheduledRecord, Stored

_ABOUT: Final = 0.01
"""By how many seconds a time may be off: a transport may count milliseconds."""

LATER: Final = 1_000.0
"""In how many leases a record is due that never is while a script plays."""


@final
@dataclass(eq=False, slots=True)
class Plan:
    """A record that was scheduled.

    Attributes:
        ticket: its ticket.
        record: the record.
        made: when it was scheduled.
        due: when it is due; both by the clock of the loop.
        at: when it is due by the transport's clock, if it was told so.
        delay: in how many seconds it is due, if it was told so.
        partition: its partition, once that is known.
        state: "waiting", "cancelled", or "stored".
    """

    ticket: str
    record: Record
    made: Span
    due: Span
    at: float | None
    delay: float | None
    partition: int | None = None
    state: str = "waiting"

    @property
    def name(self) -> str:
        """Its name in a complaint."""
        return f"record {self.record.body.decode()}, which was scheduled,"

    @property
    def comes(self) -> Span:
        """When it can be put into its log: when it is due, but not before it was scheduled."""
        earliest = max(self.due.earliest, self.made.earliest)
        return Span(earliest, max(self.due.latest, self.made.latest))

    def is_due(self, at: Span) -> bool:
        """Return whether it is certainly due at some time."""
        return self.comes.is_before(at)

    def may_be_due(self, at: Span) -> bool:
        """Return whether it may be due at some time."""
        return self.comes.earliest <= at.latest + _ABOUT

    def is_after(self, other: Plan) -> bool:
        """Return whether it certainly comes after another one of its partition."""
        if other.comes.is_before(self.comes):
            return True
        is_early = all(each.made.is_before(each.due) for each in (self, other))
        is_same = self.at is not None and self.at == other.at
        return is_early and is_same and self.ticket > other.ticket


class Offset(NamedTuple):
    """By how much the transport's clock is ahead of the loop's, at least and at most."""

    least: float
    most: float

    def span(self, time: float) -> Span:
        """Return when it is some time by the transport's clock."""
        return Span(time - self.most, time - self.least)


def check_stored(plans: Mapping[bytes, Plan], found: Sequence[Stored], looked: Span) -> None:
    """Check that of what was scheduled an onlooker has seen what is due, once, in order."""
    for each in found:
        plan = plans.get(each.body)
        if plan is None or each.group is not None:
            continue
        if plan.state != "waiting":
            raise Broken("Y3", f"{plan.name} is stored, and was {plan.state} before")
        if not plan.may_be_due(looked):
            raise Broken("Y3", f"{plan.name} is stored before its time")
        plan.state = "stored"
    for plan in plans.values():
        if plan.state == "waiting" and plan.is_due(looked):
            raise Broken("Y3", f"{plan.name} is due, and an onlooker does not see it")


def check_places(plans: Mapping[bytes, Plan], found: Sequence[Stored], at: Span | None) -> None:
    """Check the order of what was stored at some time, in one partition."""
    for one, other in combinations(found, 2):
        first, second = (plans.get(each.body) if not each.group else None for each in (one, other))
        if second is None:
            continue
        if first is not None:
            if first.is_after(second):
                raise Broken("Y3", f"{second.name} is due before {first.name} and comes after it")
        elif at is not None and second.is_due(at):
            told = f"record {one.body.decode(errors='replace').rstrip()} was stored"
            raise Broken("Y3", f"{second.name} was due before {told}, and comes after it")


def check_time(each: Stored, offset: Offset, at: Span) -> None:
    """Check when a record was stored, as an onlooker is told."""
    name = each.body.decode(errors="replace").rstrip()
    if each.time is None:
        raise Broken("Y5", f"record {name} has no time")
    told = offset.span(each.time)
    if told.is_before(at) or at.is_before(told):
        wrong = told.earliest - at.earliest
        raise Broken("Y5", f"the time of record {name} is wrong by {wrong:g} s")


def check_listed(
    plans: Sequence[Plan], found: Sequence[ScheduledRecord], offset: Offset, at: Span
) -> None:
    """Compare the scheduled records that a transport lists with those there must be."""
    by_ticket = {plan.ticket: plan for plan in plans}
    order = [(each.due, each.ticket) for each in found]
    if order != sorted(set(order)):
        raise Broken("Y3", f"what is scheduled is listed in the order {order}")
    for each in found:
        plan = by_ticket.get(each.ticket)
        if plan is None or plan.state != "waiting":
            state = "not scheduled" if plan is None else plan.state
            raise Broken("Y3", f"{each.record.body!r} is listed as scheduled, and is {state}")
        _check_plan(plan, each, offset.span(each.due))
        plan.partition = each.partition
    listed = {each.ticket for each in found}
    for plan in plans:
        is_waiting = plan.state == "waiting" and not plan.may_be_due(at)
        if is_waiting and plan.ticket not in listed:
            raise Broken("Y3", f"{plan.name} is not listed")


def _check_plan(plan: Plan, told: ScheduledRecord, due: Span) -> None:
    if told.record != plan.record or due.is_before(plan.due) or plan.due.is_before(due):
        raise Broken("Y3", f"{plan.name} is listed as {told}")
    if plan.partition not in {None, told.partition}:
        raise Broken("Y3", f"{plan.name} was in partition {plan.partition}, listed is {told}")
