"""A desk's storing, joining and leasing, compared with the model."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from flexiflow.extras.durable import Batch, EventTooLarge, LeaseLost, LogFull, Noted, Record, Room
from flexiflow.testing._transport.desk_calls import RANKS, Broken, Hand
from flexiflow.testing._transport.model import Item, Model, Tenure, names

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flexiflow.extras.durable import Lease, Stored
    from flexiflow.testing._transport.desk_calls import Calls
    from flexiflow.testing._transport.model import GroupModel, Part

LENGTH: Final = 6
"""How many records the log of a full transport holds."""
SIZE: Final = 64
"""The largest event, in bytes, of a transport that was made with `max_event_bytes`."""


class Work:
    """Stores, joins and leases.

    Args:
        calls: calls the transport.
        is_full: whether its log holds at most `LENGTH` records.
        is_small: whether its events have at most `SIZE` bytes.
    """

    def __init__(self, calls: Calls, *, is_full: bool, is_small: bool) -> None:
        self._calls = calls
        self._is_full = is_full
        self._is_small = is_small
        self._batches: dict[str, Batch] = {}
        self._unstored: set[str] = set()
        self._inserted = 0
        self._latest: dict[str, int] = {}

    async def open(self) -> None:
        """Connect, and find where the log ends now."""
        await self._calls.open()
        first = self._calls.first
        self._model = Model(first.partitions, is_exclusive=first.is_exclusive)
        if self._is_full and self._calls.first.max_length != LENGTH:
            told = self._calls.first.max_length
            raise Broken("X5", f"a log of {LENGTH} tells that it holds {told}")
        if self._is_small and first.max_event_bytes != SIZE:
            told = first.max_event_bytes
            raise Broken("X14", f"a transport that takes {SIZE} bytes tells that it takes {told}")
        _, self._seen = await self._calls.first.tail(None, 1, 0)

    async def store(self, producer: str, *keys: str | None) -> None:
        """Store a batch of new records, one for each key."""
        await self._store(producer, [(0, key) for key in keys])

    async def store_sized(self, producer: str, *sizes: int) -> None:
        """Store a batch of new records, with bodies of these sizes."""
        await self._store(producer, [(size, None) for size in sizes])

    async def _store(self, producer: str, records: list[tuple[int, str | None]]) -> None:
        number = self._batches[producer].number + 1 if producer in self._batches else 1
        self._batches[producer] = Batch(
            producer,
            number,
            tuple(
                Record(f"{producer}{number}.{place}".encode().ljust(size), key)
                for place, (size, key) in enumerate(records)
            ),
        )
        self._unstored.add(producer)
        await self.again(producer)

    async def again(self, producer: str) -> None:
        """Store a producer's last batch again."""
        if producer not in self._batches:
            return
        batch, is_new = self._batches[producer], producer in self._unstored
        text = f"{producer} stores batch {batch.number}, {names(map(_item, batch.records))}"
        largest = max(len(each.body) for each in batch.records)
        is_too_large = largest > self._calls.first.max_event_bytes
        try:
            await self._calls.call(text, lambda: self._calls.first.store(batch))
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
            self._check_is_not_full(len(batch.records))
        await self._see({_item(each): each.key for each in batch.records} if is_new else {})

    def _check_is_full(self, wanted: int) -> None:
        if not self._is_full or self._model.crowding(0)[1] + wanted <= LENGTH:
            raise Broken("X5", "a log with room for a batch raised LogFull")

    def _check_is_not_full(self, wanted: int) -> None:
        if self._is_full and self._model.crowding(0)[0] + wanted > LENGTH:
            raise Broken("X5", f"a log of {LENGTH} took {wanted} more than it may delete others")

    async def _see(self, wanted: dict[Item, str | None], clause: str = "X2") -> None:
        """Check what was stored since the last time, and note its partitions."""
        found: list[Stored] = []
        while True:
            look = partial(self._calls.first.tail, self._seen, 2, 0)
            seen, self._seen = await self._calls.call("somebody looks on", look)
            found += seen
            if not seen:
                break
        items = [self._item_seen(each, list(wanted)) for each in found]
        self._check_seen(items, list(wanted), clause)
        for each, item in zip(found, items, strict=True):
            self._note_partition(wanted[item], each.partition)
            self._model.items[each.partition].append(item)
            self._model.positions[each.partition].append(each.position)
            self._model.keys[each.partition].append(wanted[item])

    def _item_seen(self, seen: Stored, wanted: list[Item]) -> Item:
        """Return the record that is seen; if it is too large, any part of its body may be seen."""
        most = self._calls.first.max_event_bytes
        for item in wanted:
            if len(item.body) > most and item.body.startswith(seen.body):
                return item
        return Item(seen.body, seen.group)

    async def insert(self, partition: int, size: int) -> None:
        """Store a record behind the transport's back, however large."""
        if self._calls.means.insert is None:
            return
        partition %= len(self._model.items)
        self._inserted += 1
        body = f"else{self._inserted}".encode().ljust(size)
        await self._calls.means.insert(self._calls.transport, partition, body)
        self._calls.history.append(f"somebody stores {size} bytes in partition {partition}")
        await self._see({Item(body, None): None})

    def _note_partition(self, key: str | None, partition: int) -> None:
        if key is not None and self._model.of_key.setdefault(key, partition) != partition:
            raise Broken("X4", f"records of the key {key!r} are in different partitions")

    def _check_seen(self, found: list[Item], wanted: list[Item], clause: str) -> None:
        more = [each for each in found if each not in wanted or found.count(each) > 1]
        if more and any(each.group for each in wanted):
            raise Broken("X3", f"what was redriven is stored as {more[0].name}")
        if more:
            how = "again" if clause == "X2" else "of a batch that was refused"
            raise Broken(clause, f"{more[0].name} was stored {how}")
        if len(found) < len(wanted):
            raise Broken("X1", f"{names(wanted)} was stored; an onlooker sees {names(found)}")
        if len(self._model.items) == 1 and found != wanted:
            raise Broken("X4", f"{names(wanted)} was stored in another order: {names(found)}")

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

    async def _haunt(self, hand: Hand) -> None:
        """Call by a lease whose partition is another's, as if nothing were wrong."""
        outcomes = [Noted(each.position, each.attempts, each.deliveries) for _, each in hand.held]
        wheres: dict[str, Callable[[], Awaitable[object]]] = {
            "receives": lambda: hand.lease.receive(Room(1)),
            "renews": hand.lease.renew,
            "settles": lambda: hand.lease.settle(outcomes),
        }
        for what, call in wheres.items():
            await self._refused(
                LeaseLost, f"{hand.worker}, whose partition is another's, {what}", call
            )

    async def _refused(
        self,
        error: type[Exception],
        text: str,
        call: Callable[[], Awaitable[object]],
        clause: str = "X4",
    ) -> None:
        try:
            await self._calls.call(text, call)
        except error:
            return
        raise Broken(clause, f"{text}, and there is no {error.__name__}")

    async def _join(self, worker: str) -> bool:
        """Join, and return whether the group takes what the worker takes."""
        told, name = await self._calls.join(worker), self._calls.member(worker).group
        alive = [each for each in self._calls.joined if self._calls.member(each).group == name]
        rank = max(RANKS.get(each, 1) for each in alive)
        expected = sorted(each for each in alive if RANKS.get(each, 1) == rank)
        self._model.group(name).rank = rank
        if told != expected:
            clause = "X15" if expected != sorted(alive) else "X4"
            raise Broken(clause, f"{worker} joins: those who receive are {expected}, not {told}")
        return worker in expected

    async def join(self, worker: str) -> None:
        """Join, or go on being a member."""
        await self._join(worker)

    def _group_of(self, worker: str) -> GroupModel:
        return self._model.group(self._calls.member(worker).group)

    def _hand(self, worker: str) -> Hand | None:
        return self._calls.hands.get((worker, self._latest.get(worker, 0)))

    def _part(self, hand: Hand) -> Part:
        return self._group_of(hand.worker).parts[hand.lease.partition]


def _item(record: Record) -> Item:
    return Item(record.body, record.group)
