"""Works with a transport, step by step, as bridges do on bad days too."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Literal, cast, final

import anyio
from anyio.lowlevel import checkpoint

from flexiflow.extras.durable import Acknowledged, ConsumerInUse, GroupMismatch, LeaseLost, Standing
from flexiflow.testing._desk_calls import Broken, Calls
from flexiflow.testing._desk_judgements import check_standing
from flexiflow.testing._desk_work import ALL, Work
from flexiflow.testing._transport_model import Item, Letter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from flexiflow.extras.durable import DeadLetter
    from flexiflow.testing._desk_calls import Hand, Means

_PAGE = 2


@final
class Desk(Work):
    """Does to a transport what bridges do.

    Workers "a" and "b" are of the group "g", "c" and "d" of "h"; one that has no lease where it
    needs one joins and acquires it. What is settled is chosen by its place among what is held. A
    step that can't be done is left out.
    """

    async def die(self, worker: str) -> None:
        """Let a worker be silent for longer than its lease, then call as if nothing were wrong."""
        for hand in await self._calls.be_silent(worker):
            self._part(hand).let_go(worker)
            await self._haunt(hand)

    async def _haunt(self, hand: Hand) -> None:
        outcomes = [Acknowledged(delivery.position) for _, delivery in hand.held]
        wheres: dict[str, Callable[[], Awaitable[object]]] = {
            "receives": lambda: hand.lease.receive(1, 0),
            "renews": hand.lease.renew,
        }
        if outcomes:
            wheres["settles"] = lambda: hand.lease.settle(outcomes)
        for what, call in wheres.items():
            try:
                await self._calls.call(f"{hand.worker}, whose lease has run out, {what}", call)
            except LeaseLost:
                continue
            raise Broken("X4", f"{hand.worker} {what}, though its lease has run out")

    async def leave(self, worker: str) -> None:
        """Release the leases of a worker, and let it leave."""
        for key in [key for key in self._calls.hands if key[0] == worker]:
            hand = self._calls.hands.pop(key)
            await self._calls.call(f"{worker} releases its lease", hand.lease.release)
            self._part(hand).let_go(worker)
        if self._calls.joined.pop(worker, None) is not None:
            member, leave = self._calls.member(worker), self._calls.connection(worker).leave
            await self._calls.call(f"{worker} leaves", lambda: leave(member))

    async def cancel(
        self, worker: str, turns: int, limit: int, then: Literal["receive", "leave"] = "receive"
    ) -> None:
        """Cancel a `receive` after some turns; then be given what it would have given, or leave."""
        hand = await self.enter(worker)
        if hand is None:
            return
        part = self._part(hand)
        expected = part.next()[:limit]
        given = await self._cancel(hand, turns, limit, wait=0 if expected else 60)
        if given:
            # It was over before it was cancelled, so that what it gave is let go by the program.
            then = "leave"
        part.doubt(limit)
        if then == "leave":
            await self.leave(worker)
            return
        for place in [place for place, hold in part.pending.items() if hold.is_doubtful]:
            part.pending[place].holder = None
        while part.is_doubtful:
            await self._be_given(hand, limit)

    async def _cancel(self, hand: Hand, turns: int, limit: int, wait: float) -> bool:
        given = False

        async def receive() -> None:
            nonlocal given
            given = bool(await hand.lease.receive(limit, wait))

        async with anyio.create_task_group() as group:
            group.start_soon(receive)
            for _ in range(turns):
                await checkpoint()
            group.cancel_scope.cancel()
        what = "too late" if given else "in time"
        self._calls.history.append(f"{hand.worker} receives, and is cancelled {what}")
        return given

    async def redrive(self, group: str, *at: int) -> None:
        """Redrive some dead letters, and ask for the same ones again."""
        letters = await self._letters(group)
        chosen = [letters[i] for i in dict.fromkeys(at) if i < len(letters)]
        ids = [each.id for each in chosen]
        text = f"{group} redrives {', '.join(ids)}"
        for expected in (len(ids), 0) if ids else ():
            count = await self._calls.call(text, lambda: self._calls.first.redrive(group, ids))
            if count != expected:
                raise Broken("X3", f"redriving {expected} dead letters counts {count}")
            wanted = [Item(each.body, group) for each in chosen[:expected]]
            await self._see(dict.fromkeys(wanted))
        dead = self._model.group(group).dead
        for each in chosen:
            dead.remove(Letter(each.body, each.failure, each.attempts, each.deliveries))

    async def _letters(self, group: str) -> list[DeadLetter]:
        letters: list[DeadLetter] = []
        while True:
            after = letters[-1].id if letters else None
            page = await self._calls.call(
                f"{group} lists dead letters after {after}",
                partial(self._calls.first.dead_letters, group, after=after, limit=_PAGE),
            )
            letters += page
            if not page:
                break
            if len(page) > _PAGE or len({each.id for each in letters}) < len(letters):
                raise Broken("X3", f"a page of {_PAGE} dead letters holds others, or too many")
        self._check_letters(group, [Letter(*each[1:5]) for each in letters])
        return letters

    def _check_letters(self, name: str, found: list[Letter]) -> None:
        group = self._model.groups.get(name)
        dead, doubtful = (group.dead, group.doubtful) if group else ([], [])
        if [each for each in found if each not in doubtful] != [
            each for each in dead if each not in doubtful
        ]:
            expected = [(each.body.decode(), *each[2:]) for each in dead]
            listed = [(each.body.decode(), *each[2:]) for each in found]
            raise Broken("X3", f"the dead letters of {name} are {expected}, listed are {listed}")

    async def look(self, name: str, *, at_end: bool = False) -> None:
        """Look how far a group is, and at its dead letters."""
        standing = await self._calls.call(
            f"{name} looks how far it is", lambda: self._calls.first.standing(name)
        )
        groups = await self._calls.call("somebody looks who there is", self._calls.first.groups)
        if [*groups] != sorted(self._model.groups):
            raise Broken("X1", f"there are the groups {sorted(self._model.groups)}, not {groups}")
        if name in self._model.groups:
            check_standing(self._model.groups[name], standing, at_end=at_end)
        elif standing != Standing(0, 0, 0, 0):
            raise Broken("X1", f"a group that is not there stands at {standing}")
        await self._letters(name)

    async def forget(self, name: str) -> None:
        """Delete a group, all of whose workers have left, and see that it begins anew."""
        for worker in [*self._calls.joined]:
            if self._calls.member(worker).group == name:
                await self.leave(worker)
        await self._calls.call(f"{name} is forgotten", lambda: self._calls.first.forget(name))
        self._model.groups.pop(name, None)
        await self.look(name)

    async def clash(self, worker: str) -> None:
        """Join as a namesake of a worker that is alive, and as one that takes other events."""
        if await self.enter(worker) is None:
            return
        member, join = self._calls.member(worker), self._calls.first.join
        namesake = member._replace(token=f"not {member.token}")
        await self._refused(ConsumerInUse, "a namesake joins", lambda: join(namesake))
        other = self._calls.member("e")._replace(group=member.group, patterns=("payment.*",))
        await self._refused(GroupMismatch, "who takes other events joins", lambda: join(other))

    async def _refused(
        self, error: type[Exception], text: str, call: Callable[[], Awaitable[object]]
    ) -> None:
        try:
            await self._calls.call(text, call)
        except error:
            return
        raise Broken("X4", f"{text}, and there is no {error.__name__}")

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
        """Let each group handle all that is left, and see that nothing is, and nothing was lost."""
        await self._calls.keep_alive()
        for worker in [*self._calls.joined]:
            await self.leave(worker)
        for name in [*self._model.groups] or ["g"]:
            for partition in range(len(self._model.items)):
                await self._drain(f"last-{name}", partition)
            await self.look(name, at_end=True)

    async def _drain(self, worker: str, partition: int) -> None:
        # Nobody holds the partition: without a lease there is a complaint.
        hand = cast("Hand", await self.enter(worker, partition))
        while await self.receive(worker, ALL, partition):
            await self.settle(worker, "acknowledge", *range(ALL))
            await self._calls.keep_alive(age=0.3 * self._calls.means.lease)
        self._part(hand).miss()


@asynccontextmanager
async def open_desk(
    means: Means, history: list[str] | None = None, **options: int
) -> AsyncGenerator[Desk]:
    """Make a transport with some options, and give a desk for it."""
    calls = Calls(means, options, [] if history is None else history)
    desk = Desk(calls, is_full="max_length" in options)
    async with aclosing(calls):
        await desk.open()
        yield desk
