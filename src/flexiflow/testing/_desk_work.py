"""Stores, receives and settles, and compares what a transport does with what it has to do."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from flexiflow.extras.durable import Batch, Buried, Failure, LogFull, Record
from flexiflow.testing._desk_calls import Broken, Hand
from flexiflow.testing._desk_judgements import check_counts, complain_of_delivery, judge_order
from flexiflow.testing._transport_model import OUTCOMES, Item, Letter, Model, names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexiflow.extras.durable import Delivery, Outcome, Stored
    from flexiflow.testing._desk_calls import Calls
    from flexiflow.testing._transport_model import GroupModel, Part

LENGTH: Final = 6
"""How many records the log of a full transport holds."""
ALL: Final = 1_000
_REASON: Final = Failure("builtins.OSError", "no", "")


class Work:
    """What publishers and workers do every day.

    Args:
        calls: what calls the transport.
        is_full: whether its log holds `LENGTH` records.
    """

    def __init__(self, calls: Calls, *, is_full: bool) -> None:
        self._calls = calls
        self._is_full = is_full
        self._batches: dict[str, Batch] = {}
        self._unstored: set[str] = set()
        self._latest: dict[str, int] = {}

    async def open(self) -> None:
        """Connect, and look where the log begins."""
        await self._calls.open()
        self._model = Model(self._calls.first.partitions)
        if self._is_full and self._calls.first.max_length != LENGTH:
            told = self._calls.first.max_length
            raise Broken("X5", f"a log of {LENGTH} tells that it holds {told}")
        _, self._seen = await self._calls.first.tail(None, 1, 0)

    async def store(self, producer: str, *keys: str | None) -> None:
        """Store a batch of new records, one for each key."""
        number = self._batches[producer].number + 1 if producer in self._batches else 1
        records = tuple(
            Record(f"{producer}{number}.{place}".encode(), key) for place, key in enumerate(keys)
        )
        self._batches[producer] = Batch(producer, number, records)
        self._unstored.add(producer)
        await self.again(producer)

    async def again(self, producer: str) -> None:
        """Store a producer's last batch again."""
        if producer not in self._batches:
            return
        batch, is_new = self._batches[producer], producer in self._unstored
        text = f"{producer} stores batch {batch.number}, {names(map(_item, batch.records))}"
        try:
            await self._calls.call(text, lambda: self._calls.first.store(batch))
        except LogFull:
            self._check_is_full(len(batch.records))
            await self._see({})
            return
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

    async def _see(self, wanted: dict[Item, str | None]) -> None:
        """Look at what was stored since the last time, which tells the partitions."""
        found: list[Stored] = []
        while True:
            look = partial(self._calls.first.tail, self._seen, 2, 0)
            seen, self._seen = await self._calls.call("somebody looks on", look)
            found += seen
            if not seen:
                break
        self._check_seen([Item(each.body, each.group) for each in found], list(wanted))
        for each in found:
            item = Item(each.body, each.group)
            self._note_partition(wanted[item], each.partition)
            self._model.items[each.partition].append(item)
            self._model.positions[each.partition].append(each.position)

    def _note_partition(self, key: str | None, partition: int) -> None:
        if key is not None and self._model.of_key.setdefault(key, partition) != partition:
            raise Broken("X4", f"records of the key {key!r} are in different partitions")

    def _check_seen(self, found: list[Item], wanted: list[Item]) -> None:
        more = [each for each in found if each not in wanted or found.count(each) > 1]
        if more and any(each.group for each in wanted):
            raise Broken("X3", f"what was redriven is stored as {more[0].name}")
        if more:
            raise Broken("X2", f"{more[0].name} was stored again")
        if len(found) < len(wanted):
            raise Broken("X1", f"{names(wanted)} was stored; who looks on sees {names(found)}")
        if len(self._model.items) == 1 and found != wanted:
            raise Broken("X4", f"{names(wanted)} was stored in another order: {names(found)}")

    async def enter(self, worker: str, partition: int = 0) -> Hand | None:
        """Join, and acquire a partition; None where it is another's."""
        place = partition % len(self._model.items)
        if (worker, place) in self._calls.hands:
            return self._calls.hands[worker, place]
        await self._join(worker)
        group = self._group_of(worker)
        member, at = self._calls.member(worker), anyio.current_time()
        lease = await self._calls.call(
            f"{worker} acquires partition {place}",
            lambda: self._calls.connection(worker).acquire(member, place),
        )
        is_exclusive = self._calls.first.is_exclusive
        is_free = not is_exclusive or not self._holders(group, place)
        if (lease is not None) != is_free:
            state = "free" if is_free else "another's"
            raise Broken("X4", f"{worker} acquired a partition that is {state}: {lease}")
        if lease is None:
            return None
        if is_exclusive and lease.token <= group.tokens[place]:
            raise Broken("X4", f"{worker} got the token {lease.token} after {group.tokens[place]}")
        group.tokens[place] = lease.token
        hand = self._calls.hands[worker, place] = Hand(worker, lease, at)
        return hand

    async def _join(self, worker: str) -> None:
        alive, name = await self._calls.join(worker), self._calls.member(worker).group
        expected = [each for each in self._calls.joined if self._calls.member(each).group == name]
        self._model.group(name)
        if alive != sorted(expected):
            raise Broken("X4", f"to {worker}, who joins, {alive} are alive, not {expected}")

    def _holders(self, group: GroupModel, place: int) -> list[str]:
        hands = self._calls.hands
        return [name for name, at in hands if at == place and self._group_of(name) is group]

    def _group_of(self, worker: str) -> GroupModel:
        return self._model.group(self._calls.member(worker).group)

    def _hand(self, worker: str) -> Hand | None:
        return self._calls.hands.get((worker, self._latest.get(worker, 0)))

    def _part(self, hand: Hand) -> Part:
        return self._group_of(hand.worker).parts[hand.lease.partition]

    async def receive(self, worker: str, limit: int, partition: int = 0) -> bool:
        """Be given records; tell whether there were any."""
        hand = await self.enter(worker, partition)
        return hand is not None and await self._be_given(hand, limit)

    async def _be_given(self, hand: Hand, limit: int) -> bool:
        part = self._part(hand)
        self._latest[hand.worker] = hand.lease.partition
        expected = part.next()[:limit]
        given = await self._receive(hand, limit, 0)
        if expected and not given:
            given = await self._receive(hand, limit, 0.2 * self._calls.means.lease)
        if len(given) > limit:
            raise Broken("X5", f"{hand.worker} asked for {limit} records, and got {len(given)}")
        places = judge_order(part, given, expected)
        if places is None:
            rest = await self._receive(hand, ALL, 0)
            raise complain_of_delivery(part, hand.worker, given, rest)
        for place, delivery in zip(places, given, strict=True):
            check_counts(part.give(place, hand.worker), delivery)
            hand.held.append((place, delivery))
        if given:
            # What was returned may be somebody's again, and is not settled any more.
            for each in self._calls.hands.values():
                each.last = ()
        return bool(given)

    async def _receive(self, hand: Hand, limit: int, wait: float) -> Sequence[Delivery]:
        text = f"{hand.worker} receives up to {limit} of partition {hand.lease.partition}"
        return await self._calls.call(text, lambda: hand.lease.receive(limit, wait))

    async def settle(self, worker: str, how: str, *at: int) -> None:
        """Settle some of what was given in the partition that was read last, in one call."""
        hand = self._hand(worker)
        held = hand.held if hand is not None else []
        chosen = [held[place] for place in dict.fromkeys(at) if place < len(held)]
        if hand is None or not chosen:
            return
        hand.last = tuple(OUTCOMES[how](delivery, _REASON) for _, delivery in chosen)
        await self._settle(hand)
        for (place, delivery), outcome in zip(chosen, hand.last, strict=True):
            hand.held.remove((place, delivery))
            self._write_down(hand, place, delivery, outcome)

    def _write_down(self, hand: Hand, place: int, delivery: Delivery, outcome: Outcome) -> None:
        part, group = self._part(hand), self._group_of(hand.worker)
        part.settle(place, outcome)
        if isinstance(outcome, Buried):
            letter = Letter(delivery.body, _REASON, outcome.attempts, outcome.deliveries)
            group.dead.append(letter)
            # Of what is gone a transport may have kept the body, or else it counts as missed.
            group.doubtful += [letter] if place in part.gone else []
        hold = part.pending.get(place)
        if hold is not None and hold.holder is not None:
            kept = delivery._replace(attempts=hold.attempts, deliveries=hold.deliveries)
            hand.held.append((place, kept))

    async def _settle(self, hand: Hand) -> None:
        text = f"{hand.worker} settles {', '.join(map(repr, hand.last))}"
        await self._calls.call(text, lambda: hand.lease.settle(hand.last))

    async def repeat(self, worker: str) -> None:
        """Settle once more what was settled last, as after a reply that was lost."""
        hand = self._hand(worker)
        if hand is not None and hand.last:
            await self._settle(hand)


def _item(record: Record) -> Item:
    return Item(record.body, record.group)
