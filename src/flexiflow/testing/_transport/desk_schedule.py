"""A desk's scheduling and cancelling, compared with its plans (Y3)."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from flexiflow.extras.durable import Record, ScheduleFull
from flexiflow.testing._transport.desk_calls import Broken
from flexiflow.testing._transport.desk_log import MOST
from flexiflow.testing._transport.desk_taking import Taking
from flexiflow.testing._transport.holds import Span
from flexiflow.testing._transport.plans import LATER, Plan, check_listed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flexiflow.extras.durable import ScheduledRecord

SOON: Final = 0.3
"""In how many leases a record is due that a script waits for."""
_DELAYS: Final[Mapping[str, float]] = {"now": 0.0, "sooner": 0.1, "soon": SOON, "later": LATER}
_PAGE: Final = 2
_TICKET: Final = re.compile("[A-Za-z0-9-]+")


class Scheduling(Taking):
    """Schedules and cancels; what is scheduled is chosen by its place among all that ever was."""

    async def schedule(self, how: str, when: str, *keys: str | None) -> None:
        """Schedule a new record for each key, all of them for the same time.

        Args:
            how: "at" a time, "past" for one that is over, or after a "delay".
            when: the time, as "now", "sooner", "soon" or "later".
            keys: the keys.
        """
        delay, at = _DELAYS[when] * self._calls.means.lease, None
        if how != "delay":
            at = await self._measure() + delay - (self._calls.means.lease if how == "past" else 0)
        for key in keys:
            body = f"s{len(self._plans) + 1}".encode()
            ticket = await self._new_ticket(key)
            now = self._calls.now()
            plan = Plan(ticket, Record(body, key), now, now, at, delay if at is None else None)
            if await self._schedule(plan):
                self._plans[body] = plan
                self._model.planned.add(body)
        await self._see_plans()

    async def _new_ticket(self, key: str | None) -> str:
        ticket = self._calls.first.new_ticket(key)
        if not _TICKET.fullmatch(ticket):
            raise Broken("Y3", f"{ticket!r} is a ticket, and not of letters, digits and hyphens")
        if any(ticket == each.ticket for each in self._plans.values()):
            raise Broken("Y3", f"{ticket!r} is given as a new ticket again")
        return ticket

    async def _schedule(self, plan: Plan) -> bool:
        """Schedule what is planned; return whether there was room for it."""
        text = f"somebody schedules {plan.record.body.decode()} with {plan.ticket}"
        text += f" at {plan.at}" if plan.delay is None else f" in {plan.delay:g} s"
        call = partial(
            self._calls.first.schedule, plan.ticket, plan.record, at=plan.at, delay=plan.delay
        )
        try:
            _, plan.made = await self._calls.timed(text, call)
        except ScheduleFull:
            self._check_is_full_of_plans(plan)
            return False
        if plan.at is not None:
            plan.due = self._offset.span(plan.at)
        else:
            delay = plan.delay or 0.0
            plan.due = Span(plan.made.earliest + delay, plan.made.latest + delay)
        return True

    def _check_is_full_of_plans(self, plan: Plan) -> None:
        waiting = [each for each in self._plans.values() if each.state == "waiting"]
        if "max_scheduled" not in self._options or len(waiting) < MOST:
            raise Broken("Y3", f"{plan.name} was refused, where {len(waiting)} are scheduled")

    async def _see_plans(self) -> None:
        """Check what is due by now, and what is listed."""
        await self._catch_up()
        await self.list_plans()
        if "max_scheduled" in self._options:
            counts = [each.partition for each in self._plans.values() if each.state == "waiting"]
            most = max(map(counts.count, counts), default=0)
            if most > MOST:
                raise Broken("Y3", f"{most} are scheduled, where {MOST} may be")

    async def schedule_again(self, at: int) -> None:
        """Schedule once more, as after a reply that was lost; nothing may change."""
        plans = self._all_plans
        if at < len(plans):
            plan = plans[at]
            made, due = plan.made, plan.due
            await self._schedule(plan)
            plan.made, plan.due = made, due
            await self._see_plans()

    async def unschedule(self, at: int) -> None:
        """Cancel what was scheduled, and then once more, with the same answer."""
        plans = self._all_plans
        if at >= len(plans):
            return
        plan, answers = plans[at], list[bool]()
        text, cancel = f"somebody cancels {plan.ticket}", self._calls.first.cancel
        for _ in range(2):
            answers.append(await self._calls.call(text, lambda: cancel(plan.ticket)))
        self._check_cancelled(plan, answers)
        if answers[0]:
            plan.state = "cancelled"
        await self._see_plans()

    def _check_cancelled(self, plan: Plan, answers: list[bool]) -> None:
        is_open = plan.state == "waiting" and plan.may_be_due(self._calls.now())
        right = [plan.state != "stored"] * 2
        if answers[0] != answers[1] or (answers != right and not is_open):
            state = "scheduled" if plan.state == "waiting" else plan.state
            raise Broken("Y3", f"{plan.name} is {state}, and to cancel it returns {answers}")

    async def list_plans(self) -> None:
        """List what is scheduled, page by page."""
        found: list[ScheduledRecord] = []
        earliest = anyio.current_time()
        while True:
            after = found[-1] if found else None
            page = await self._calls.call(
                "somebody lists what is scheduled",
                partial(self._calls.first.scheduled, after=after, limit=_PAGE),
            )
            found += page
            if not page:
                break
            if len(page) > _PAGE or len({each.ticket for each in found}) < len(found):
                raise Broken("Y3", f"a page of {_PAGE} lists what was listed, or too many")
        at = Span(earliest, anyio.current_time())
        check_listed(self._all_plans, found, self._offset, at)
        for each in found:
            self._note_partition(each.record.key, each.partition, "Y3")

    async def strange(self) -> None:
        """Use a ticket of another transport, which is refused."""
        calls, lease = self._calls, self._calls.means.lease
        async with calls.means.make() as other, other.connect() as connection:
            ticket = connection.new_ticket(None)
        schedule, cancel = calls.first.schedule, calls.first.cancel
        text = f"somebody schedules with {ticket} of another transport"
        record = Record(b"strange")
        await self._refused(ValueError, text, lambda: schedule(ticket, record, delay=lease), "Y3")
        text = f"somebody cancels {ticket} of another transport"
        await self._refused(ValueError, text, lambda: cancel(ticket), "Y3")
        await self._see_plans()
