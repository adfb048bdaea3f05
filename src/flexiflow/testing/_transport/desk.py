"""The desk: calls a transport step by step, as bridges do, and compares it with a reference model.

Scripts call the methods of `Desk`. Each calls the transport (`desk_calls`), updates the model
(`model`), and raises `Broken`, with a clause's number, if the two differ. The class is
in six modules: `Watching` looks at the logs (`desk_log`); `Work` stores, joins and leases
(`desk_work`); `Taking` receives, settles and renews (`desk_taking`); `Scheduling` schedules and
cancels (`desk_schedule`); `Caring` redrives, begins anew, and looks how far groups are
(`desk_groups`); `Desk` itself adds deaths, cancellations, damage, and the final check.
"""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from itertools import chain
from typing import TYPE_CHECKING, Final, Literal, cast, final

import anyio
from anyio.lowlevel import checkpoint

from flexiflow.extras.durable import ConsumerInUse, GroupMismatch, Room
from flexiflow.testing._transport import outcomes
from flexiflow.testing._transport.desk_calls import LONGEST, OTHERS, Broken, Calls
from flexiflow.testing._transport.desk_groups import Caring
from flexiflow.testing._transport.desk_schedule import SOON
from flexiflow.testing._transport.desk_taking import ALL
from flexiflow.testing._transport.holds import Span

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from flexiflow.testing._transport.desk_calls import Hand, Means

_ROUNDS: Final = 5
"""How often delayed records are waited for at the end."""


@final
class Desk(Caring):
    """Does to a transport what bridges do.

    Workers "a" and "b" are of the group "g", "c" and "d" of "h"; "n" and "w" of "g" have fewer and
    more patterns than the others. A worker that needs a lease and has none joins and acquires one.
    What is settled is chosen by its place among what is held. A step that can't be done is left
    out.
    """

    async def die(self, worker: str) -> None:
        """Keep a worker silent for longer than its lease, and then forget it."""
        await self.oversleep(worker)
        for key in [key for key in self._calls.hands if key[0] == worker]:
            del self._calls.hands[key]

    async def reopen(self) -> None:
        """Forget all workers, as if they had died, and open the transport anew."""
        self._calls.hands.clear()
        self._calls.joined.clear()
        for group in self._model.groups.values():
            group.rank = None
            for tenure in chain.from_iterable(group.tenures):
                tenure.is_live = False
        await self._calls.reopen()
        await self._calls.pass_time(1.5)

    async def leave(self, worker: str) -> None:
        """Release the leases of a worker, and let it leave."""
        for key in [key for key in self._calls.hands if key[0] == worker]:
            hand = self._calls.hands.pop(key)
            if hand.tenure.is_over:
                continue
            await self._with(hand, "releases its lease", hand.lease.release)
            hand.tenure.end()
            tenures = self._group_of(worker).tenures[hand.lease.partition]
            tenures[:] = [each for each in tenures if each is not hand.tenure]
        if self._calls.joined.pop(worker, None) is not None:
            member, leave = self._calls.member(worker), self._calls.connection(worker).leave
            await self._calls.call(f"{worker} leaves", lambda: leave(member))
            self._forget_rank(worker)

    async def cancel(
        self, worker: str, turns: int, limit: int, then: Literal["receive", "leave"] = "receive"
    ) -> None:
        """Cancel a `receive` after some turns; then receive what it would have given, or leave."""
        hand = await self.enter(worker)
        if hand is None or not hand.tenure.is_live or not self._takes(hand):
            return
        part, start = self._part(hand), self._calls.now().earliest
        if await self._cancel(hand, turns, limit):
            # It ended before the cancellation, and what it returned is dropped: the worker leaves.
            then = "leave"
        at = Span(start, self._calls.now().latest)
        part.doubt(hand.tenure, limit, at)
        outcomes.clamp(part, hand.tenure, at)
        if then == "leave":
            # It is unknown which of the others' records it took.
            self._forget(hold.holder for hold in part.pending.values() if hold.is_doubtful)
            await self.leave(worker)
            return
        while part.is_doubtful:
            await self._be_given(hand, Room(limit))

    async def _cancel(self, hand: Hand, turns: int, limit: int) -> bool:
        """Cancel a `receive` after some turns; return whether it had returned records by then."""
        given = False

        async def receive() -> None:
            nonlocal given
            given = bool(await hand.lease.receive(Room(limit)))
            await hand.lease.wait(60)

        async with anyio.create_task_group() as group:
            group.start_soon(receive)
            for _ in range(turns):
                await checkpoint()
            group.cancel_scope.cancel()
        what = "too late" if given else "in time"
        self._calls.history.append(f"{hand.worker} receives, and is cancelled {what}")
        return given

    async def forget(self, name: str) -> None:
        """Delete a group, after all of its workers have left, and check that it begins anew."""
        for worker in self._present():
            if self._calls.member(worker).group == name:
                await self.leave(worker)
        await self._calls.call(f"{name} is forgotten", lambda: self._calls.first.forget(name))
        self._model.forget(name)
        await self.look(name)

    def _present(self) -> list[str]:
        """Return the workers that have joined, or have a lease, even one that has run out."""
        holding = (worker for worker, _ in self._calls.hands)
        return [*dict.fromkeys([*self._calls.joined, *holding])]

    async def clash(self, worker: str) -> None:
        """Join as a namesake of a living worker, and with other patterns; both are refused."""
        if await self.enter(worker) is None:
            return
        await self._join(worker)
        member, join = self._calls.member(worker), self._calls.first.join
        namesake = member._replace(token=f"not {member.token}")
        await self._refused(ConsumerInUse, "a namesake joins", lambda: join(namesake))
        other = self._calls.member("e")._replace(group=member.group, patterns=OTHERS)
        text = "a worker that takes other events joins"
        await self._refused(GroupMismatch, text, lambda: join(other), "X15")
        await self._join(worker)

    async def damage(self, partition: int, at: int) -> None:
        """Delete a stored record behind the transport's back."""
        partition %= len(self._model.items)
        if self._calls.means.damage is None or at >= len(self._model.items[partition]):
            return
        if at not in self._model.gone[partition]:
            position = self._model.positions[partition][at]
            await self._calls.means.damage(self._calls.transport, partition, position)
            self._calls.history.append(f"somebody deletes {position} of partition {partition}")
            self._model.delete(partition, at)

    async def finish(self) -> None:
        """Handle all that is left, in each group; check that nothing remains or was lost."""
        await self._calls.keep_alive()
        soon = 2 * SOON * self._calls.means.lease
        if self._is_anything_due_within(soon):
            await self._calls.pass_time(2 * SOON)
        if self._plans:
            await self._see_plans()
        for worker in self._present():
            await self.leave(worker)
        for name in [*self._model.groups] or ["g"]:
            for partition in range(len(self._model.items)):
                await self._drain(f"last-{name}", partition)
            await self.look(name, at_end=True)

    def _is_anything_due_within(self, seconds: float) -> bool:
        """Return whether something scheduled is due soon."""
        until = self._calls.now().latest + seconds
        waiting = [each for each in self._all_plans if each.state == "waiting"]
        return any(each.due.earliest < until for each in waiting)

    async def _drain(self, worker: str, partition: int) -> None:
        # No worker holds the partition any more: `enter` returns a hand, or raises `Broken`.
        hand = cast("Hand", await self.enter(worker, partition))
        part = self._part(hand)
        for _ in range(_ROUNDS):
            while await self.receive(worker, ALL, partition):
                await self.settle(worker, "acknowledge", *range(ALL))
                await self._calls.keep_alive(age=0.3 * self._calls.means.lease)
            if not part.waiting:
                break
            await self._calls.pass_time(LONGEST)
        for place in part.waiting:
            told = f"{worker} was never given {part.items[place].name}, which waits"
            raise Broken(part.clause("X12"), told)
        part.miss()


@asynccontextmanager
async def open_desk(
    means: Means, history: list[str] | None = None, **options: int
) -> AsyncGenerator[Desk]:
    """Make a transport with some options, and yield a desk for it."""
    calls = Calls(means, options, [] if history is None else history)
    desk = Desk(calls, options)
    async with aclosing(calls):
        await desk.open()
        yield desk
