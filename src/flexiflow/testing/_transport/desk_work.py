"""A desk's storing, joining and leasing, compared with the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from flexiflow.extras.durable import Batch, EventTooLarge, LeaseLost, LogFull, Noted, Record, Room
from flexiflow.testing._transport.desk_calls import RANKS, Broken, Hand
from flexiflow.testing._transport.desk_log import LENGTH, WINDOW, Watching
from flexiflow.testing._transport.holds import Item, Tenure, names
from flexiflow.testing._transport.model import REPLAY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from flexiflow.extras.durable import Lease
    from flexiflow.testing._transport.desk_calls import Calls
    from flexiflow.testing._transport.model import GroupModel
    from flexiflow.testing._transport.part import Part


class Work(Watching):
    """Stores, joins and leases."""

    def __init__(self, calls: Calls, options: Mapping[str, int]) -> None:
        super().__init__(calls, options)
        self._batches: dict[str, Batch] = {}
        self._unstored: set[str] = set()
        self._stored_at: dict[str, float] = {}
        self._latest: dict[str, int] = {}

    async def store(self, producer: str, *keys: str | None) -> None:
        """Store a batch of new records, one for each key."""
        await self._store(producer, [(0, key) for key in keys])

    async def store_sized(self, producer: str, *sizes: int) -> None:
        """Store a batch of new records, with bodies of these sizes."""
        await self._store(producer, [(size, None) for size in sizes])

    async def store_lasting(self, producer: str, *keys: str | None) -> None:
        """Store a batch of a producer that is remembered for ever."""
        await self._store(producer, [(0, key) for key in keys], is_lasting=True)

    async def _store(
        self, producer: str, records: list[tuple[int, str | None]], *, is_lasting: bool = False
    ) -> None:
        number = self._batches[producer].number + 1 if producer in self._batches else 1
        self._batches[producer] = Batch(
            producer,
            number,
            tuple(
                Record(f"{producer}{number}.{place}".encode().ljust(size), key)
                for place, (size, key) in enumerate(records)
            ),
            is_lasting or (producer in self._batches and self._batches[producer].is_lasting),
        )
        self._unstored.add(producer)
        await self.again(producer)

    async def again(self, producer: str) -> None:
        """Store a producer's last batch again."""
        if producer not in self._batches or self._may_be_forgotten(producer):
            return
        batch, is_new = self._batches[producer], producer in self._unstored
        text = f"{producer} stores batch {batch.number}, {names(map(_item, batch.records))}"
        largest = max(len(each.body) for each in batch.records)
        is_too_large = largest > self._calls.first.max_event_bytes
        try:
            _, at = await self._calls.timed(text, lambda: self._calls.first.store(batch))
        except EventTooLarge:
            if not is_too_large:
                raise Broken("X14", f"{largest} bytes are refused as too large") from None
            await self._see({}, "X14")
            return
        except LogFull:
            self._check_is_full(len(batch.records))
            await self._see({})
            return
        if is_too_large:
            raise Broken("X14", f"a record of {largest} bytes was stored")
        self._unstored.discard(producer)
        if is_new:
            self._stored_at[producer] = at.earliest
            self._check_is_not_full(len(batch.records))
        await self._see({_item(each): each.key for each in batch.records} if is_new else {}, at=at)

    def _may_be_forgotten(self, producer: str) -> bool:
        """Return whether a producer's last batch may be taken for a new one by now."""
        if "idempotency_window" not in self._options or self._batches[producer].is_lasting:
            return False
        stored_at = self._stored_at.get(producer)
        return stored_at is not None and self._calls.now().latest - stored_at > WINDOW / 2

    async def ask(self, producer: str) -> None:
        """Ask for the number of a producer's last batch."""
        batch = self._batches.get(producer)
        number = 0 if batch is None else batch.number - (producer in self._unstored)
        text = f"somebody asks for the last batch of {producer}"
        told = await self._calls.call(text, lambda: self._calls.first.produced(producer))
        is_open = batch is not None and self._may_be_forgotten(producer)
        if told != number and not is_open:
            raise Broken("X2", f"the last batch of {producer} was {number}, and is told as {told}")

    async def outlast(self) -> None:
        """Wait until producers may be forgotten, if that is not too long."""
        if "idempotency_window" in self._options:
            await self._calls.pass_time(1.1 * WINDOW / self._calls.means.lease)

    def _check_is_full(self, wanted: int) -> None:
        if not self._is_full or self._model.crowding(0)[1] + wanted <= LENGTH:
            raise Broken("X5", "a log with room for a batch raised LogFull")

    def _check_is_not_full(self, wanted: int) -> None:
        if self._is_full and self._model.crowding(0)[0] + wanted > LENGTH:
            raise Broken("X5", f"a log of {LENGTH} took {wanted} more than it may delete others")

    async def enter(self, worker: str, partition: int = 0) -> Hand | None:
        """Join, and acquire a partition; return None if another worker has it, or it stands by."""
        place = partition % len(self._model.items)
        hand = self._calls.hands.get((worker, place))
        if hand is not None and not hand.tenure.is_over:
            return hand
        takes = await self._join(worker)
        member, at = self._calls.member(worker), anyio.current_time()
        lease = await self._calls.call(
            f"{worker} acquires partition {place}",
            lambda: self._calls.connection(worker).acquire(member, place),
        )
        self._check_lease(worker, place, lease, takes=takes)
        if lease is None:
            return None
        group, tenure = self._group_of(worker), Tenure(worker, member.longest_delay)
        if not group.is_replay(lease.replay):
            told = f"{worker} is told of the replay {lease.replay}"
            raise Broken("Y5", f"{told}, and its number is {REPLAY}")
        group.tokens[place] = lease.token
        hand = Hand(worker, lease, at, tenure)
        self._check_lines(hand)
        for other in self._displace(group, place):
            await self._haunt(other)
        self._calls.hands[worker, place] = hand
        group.tenures[place].append(tenure)
        return hand

    def _check_lease(self, worker: str, place: int, lease: Lease | None, *, takes: bool) -> None:
        """Check that a worker was given a lease if it may have one, and only then."""
        group, is_exclusive = self._group_of(worker), self._calls.first.is_exclusive
        is_free = not is_exclusive or not any(each.is_live for each in group.tenures[place])
        if not takes:
            if lease is not None:
                raise Broken("X15", f"{worker}, which has to stand by, acquired a partition")
            return
        if (lease is not None) != is_free:
            state = "free" if is_free else "another's"
            told = "a lease" if lease is not None else "None"
            raise Broken("X4", f"{worker} acquired a partition that is {state}: {told}")
        if lease is not None and is_exclusive and lease.token <= group.tokens[place]:
            raise Broken("X4", f"{worker} got the token {lease.token} after {group.tokens[place]}")

    def _check_lines(self, hand: Hand) -> None:
        """Check that a lease has the keys of what waits, if it is for all of it."""
        part = self._part(hand)
        waits = {each.key for each in part.waiting.values() if not each.is_done} - {None}
        may = {each.key for each in (*part.waiting.values(), *part.pending.values())}
        told = {*hand.lease.lines}
        if not (waits if part.is_exclusive else set[str]()) <= told <= may:
            raise Broken("X12", f"{hand.worker} is told of the lines {told}, and there are {waits}")

    def _displace(self, group: GroupModel, place: int) -> list[Hand]:
        """Return the hands that lose their lease of a partition to its new lease."""
        if not self._calls.first.is_exclusive:
            return []
        for each in group.tenures[place]:
            each.end()
        group.tenures[place].clear()
        return [
            hand
            for (worker, at), hand in self._calls.hands.items()
            if at == place and self._group_of(worker) is group
        ]

    async def _haunt(self, hand: Hand, clause: str = "X4") -> None:
        """Call by a lease that was ended, as if nothing were wrong."""
        outcomes = [Noted(each.position, each.attempts, each.deliveries) for _, each in hand.held]
        wheres: dict[str, Callable[[], Awaitable[object]]] = {
            "receives": lambda: hand.lease.receive(Room(1)),
            "renews": hand.lease.renew,
            "settles": lambda: hand.lease.settle(outcomes),
        }
        for what, call in wheres.items():
            await self._refused(
                LeaseLost, f"{hand.worker}, whose lease was ended, {what}", call, clause
            )

    async def _join(self, worker: str) -> bool:
        """Join, and return whether the group takes what the worker takes."""
        name = self._calls.member(worker).group
        if name not in self._model.groups:
            await self._look_back()
            return await self._create(worker, self._model.first)
        return self._check_joined(worker, await self._calls.join(worker))

    async def _create(self, worker: str, places: list[int], *, is_moved: bool = False) -> bool:
        """Join as the first member of a group, which begins at these places."""
        told = await self._calls.join(worker)
        # What is due meanwhile may be before the place where the group begins, or after it.
        await self._stay()
        self._model.add_group(self._calls.member(worker).group, places, is_moved=is_moved)
        return self._check_joined(worker, told)

    def _check_joined(self, worker: str, told: list[str]) -> bool:
        name = self._calls.member(worker).group
        alive = [each for each in self._calls.joined if self._calls.member(each).group == name]
        rank = max(RANKS.get(each, 1) for each in alive)
        expected = sorted(each for each in alive if RANKS.get(each, 1) == rank)
        self._model.groups[name].rank = rank
        if told != expected:
            clause = "X15" if expected != sorted(alive) else "X4"
            raise Broken(clause, f"{worker} joins: those who receive are {expected}, not {told}")
        return worker in expected

    async def join(self, worker: str) -> None:
        """Join, or go on being a member."""
        await self._join(worker)

    def _hand(self, worker: str) -> Hand | None:
        return self._calls.hands.get((worker, self._latest.get(worker, 0)))

    def _part(self, hand: Hand) -> Part:
        return self._group_of(hand.worker).parts[hand.lease.partition]


def _item(record: Record) -> Item:
    return Item(record.body, record.group)
