"""A desk's receiving, settling and renewing, compared with the model."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from flexiflow.extras.durable import Buried, Failure, Followed, LeaseLost, Noted, Room
from flexiflow.testing._transport import outcomes
from flexiflow.testing._transport.desk_calls import RANKS, Broken
from flexiflow.testing._transport.desk_judgements import (
    check_counts,
    check_oversize,
    check_room,
    complain_of_delivery,
    judge_order,
)
from flexiflow.testing._transport.desk_work import Work
from flexiflow.testing._transport.holds import Grave, Letter
from flexiflow.testing._transport.outcomes import make_outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from flexiflow.extras.durable import Delivery
    from flexiflow.testing._transport.desk_calls import Hand
    from flexiflow.testing._transport.holds import Offer, Span, Tenure
    from flexiflow.testing._transport.outcomes import Settling
    from flexiflow.testing._transport.part import Part
    from flexiflow.testing._transport.plans import Plan

_T = TypeVar("_T")

ALL: Final = 1_000
_REASON: Final = Failure("builtins.OSError", "no", "")


class Taking(Work):
    """Receives, settles and renews, also by workers that were too slow."""

    async def receive(
        self,
        worker: str,
        limit: int,
        partition: int = 0,
        size: int = sys.maxsize,
        waiting: int = sys.maxsize,
        again: int = sys.maxsize,
    ) -> bool:
        """Receive records, and return whether there were any."""
        hand = await self.enter(worker, partition)
        return hand is not None and await self._be_given(hand, Room(limit, size, waiting, again))

    async def _be_given(self, hand: Hand, room: Room) -> bool:
        self._latest[hand.worker] = hand.lease.partition
        if self._group_of(hand.worker).rank is None:
            # A member has left, which the group notices when the next one joins.
            await self._join(hand.worker)
        due = [each for each in self._all_plans if each.is_due(self._calls.now())]
        due = [each for each in due if each.state == "waiting"]
        given, at = await self._receive(hand, room)
        if not self._takes(hand):
            await self._catch_up()
            if given:
                raise Broken("X15", f"{hand.worker}, which has to stand by, was given records")
            return False
        if due and not given:
            given, at = await self._wait(hand, room)
        # What was due by then may have been given.
        await self._catch_up()
        part = self._part(hand)
        offer = part.offer(hand.tenure, at, room)
        if not given and offer.certain:
            self._check_due(part, offer, due)
        if offer.certain and not given:
            given, at = await self._wait(hand, room)
            await self._catch_up()
            offer = part.offer(hand.tenure, at, room)
        await self._judge(hand, room, given, offer)
        self._note_given(hand, room, given, at)
        return bool(given)

    async def _wait(self, hand: Hand, room: Room) -> tuple[Sequence[Delivery], Span]:
        await self._with(hand, "waits", lambda: hand.lease.wait(0.2 * self._calls.means.lease))
        return await self._receive(hand, room)

    async def _judge(self, hand: Hand, room: Room, given: Sequence[Delivery], offer: Offer) -> None:
        """Check that a worker was given the right records, and note that it holds them."""
        part, most = self._part(hand), self._calls.first.max_event_bytes
        places = judge_order(part, given, offer)
        if places is None:
            rest, _ = await self._receive(hand, Room(ALL))
            raise complain_of_delivery(part, hand.worker, given, rest, offer)
        check_room(part, given, places, offer, room)
        for place, delivery in zip(places, given, strict=True):
            check_counts(part, part.give(place, hand.tenure), delivery)
            check_oversize(part.items[place], delivery, most)
            hand.held.append((place, delivery))

    def _note_given(self, hand: Hand, room: Room, given: Sequence[Delivery], at: Span) -> None:
        """Note what a `receive` may have done besides."""
        part, is_full = self._part(hand), len(given) >= room.records
        if is_full:
            # It may not have come to records that are done and whose holder is gone: forget those
            # holders.
            self._forget(hold.holder for hold in part.pending.values() if hold.is_ghost)
        part.bury_ghosts(at, hand.tenure, is_full=is_full)
        outcomes.clamp(part, hand.tenure, at)
        if given:
            # What was returned may have another holder by now; settling it again would differ.
            for other in self._calls.hands.values():
                other.last = ()

    def _forget(self, tenures: Iterable[Tenure | None]) -> None:
        """Forget the workers that have these leases."""
        lost = {*tenures}
        for key, hand in [*self._calls.hands.items()]:
            if hand.tenure in lost:
                del self._calls.hands[key]

    def _takes(self, hand: Hand) -> bool:
        """Return whether the group takes what a worker takes, as far as that can be known."""
        return self._group_of(hand.worker).rank in {None, RANKS.get(hand.worker, 1)}

    async def _receive(self, hand: Hand, room: Room) -> tuple[Sequence[Delivery], Span]:
        text = f"receives up to {room.records} of partition {hand.lease.partition}"
        return await self._with(hand, text, lambda: hand.lease.receive(room))

    def _check_due(self, part: Part, offer: Offer, due: Sequence[Plan]) -> None:
        """Check that nothing was due before a `receive` that gave nothing."""
        new = {part.items[place].body for place in offer.new}
        late = [plan for plan in due if plan.record.body in new]
        if late:
            told = f"{late[0].name} is due, and given only once an onlooker saw it"
            raise Broken("Y3", told)

    async def _with(
        self, hand: Hand, what: str, call: Callable[[], Awaitable[_T]]
    ) -> tuple[_T, Span]:
        """Make a call by a lease that is not over."""
        try:
            return await self._calls.timed(f"{hand.worker} {what}", call)
        except LeaseLost:
            told = "its lease is live" if hand.tenure.is_live else "its partition is nobody's"
            clause = "X11" if self._takes(hand) else "X15"
            raise Broken(clause, f"{hand.worker} lost its lease, though {told}") from None

    async def settle(self, worker: str, how: str, *at: int) -> None:
        """Settle some of what was given in the partition that was read last, in one call.

        If what is settled had waited, and is handled or buried, the next of its key follows.
        """
        hand = self._hand(worker)
        held = hand.held if hand is not None else []
        chosen = [held[place] for place in dict.fromkeys(at) if place < len(held)]
        if hand is None or not chosen:
            return
        part = self._part(hand)
        keys = self._model.keys[hand.lease.partition]
        make = partial(make_outcome, how, lease=self._calls.means.lease, failure=_REASON)
        hand.last = tuple((place, make(delivery, keys[place])) for place, delivery in chosen)
        if how in {"acknowledge", "bury"}:
            waited = (keys[place] for place, delivery in chosen if delivery.has_waited)
            lines = (key for key in dict.fromkeys(waited) if key is not None)
            hand.last += tuple((-1, Followed(key)) for key in lines)
        for place, delivery in chosen:
            hand.held.remove((place, delivery))
        await self._settle(hand)
        for (place, delivery), (_, outcome) in zip(chosen, hand.last, strict=False):
            hold = part.pending.get(place)
            if isinstance(outcome, Noted) and hold is not None:
                kept = delivery._replace(attempts=outcome.attempts, deliveries=outcome.deliveries)
                hand.held.append((place, kept))

    async def follow(self, worker: str, key: str) -> None:
        """Make the next record of a key follow."""
        hand = self._hand(worker)
        if hand is not None and not hand.tenure.is_over:
            hand.last = ((-1, Followed(key)),)
            await self._settle(hand)

    async def _settle(self, hand: Hand) -> None:
        """Settle the hand's last outcomes, and note them in the model."""
        part, given = self._part(hand), [outcome for _, outcome in hand.last]
        text = f"settles {', '.join(map(repr, given))}"
        if hand.tenure.is_over:
            what = f"{hand.worker}, whose lease was ended, {text}"
            clause = "Y5" if hand.tenure.is_void else "X4"
            await self._refused(LeaseLost, what, lambda: hand.lease.settle(given), clause)
            settled, at = None, self._calls.now()
        else:
            settled, at = await self._with(hand, text, lambda: hand.lease.settle(given))
            outcomes.check_settled(part, hand.last, hand.tenure, settled)
        if hand.tenure.is_void:
            # It was ended by a replay, and nothing is written any more.
            return
        for place, outcome in hand.last:
            if not isinstance(outcome, Followed):
                self._write_down(hand, place, outcome, at)
            elif settled is not None:
                outcomes.follow(part, outcome.key, hand.tenure, at)
        if settled is not None:
            outcomes.check_over(part, hand.last, hand.tenure, settled)

    def _write_down(self, hand: Hand, place: int, outcome: Settling, at: Span) -> None:
        part, group = self._part(hand), self._group_of(hand.worker)
        hold = part.pending.get(place)
        if isinstance(outcome, Buried) and hold is not None and hold.holder is hand.tenure:
            letter = Letter(part.items[place].body, _REASON, outcome.attempts, outcome.deliveries)
            grave = Grave(letter, hand.lease.partition, part.origin(place))
            group.graves.append(grave)
            # If the record was deleted, a transport may have kept the body; otherwise it counts as
            # missed.
            group.doubtful += [] if part.has(place) else [letter]
        outcomes.settle(part, place, outcome, hand.tenure, at)

    async def repeat(self, worker: str) -> None:
        """Settle the last outcomes once more, as after a reply that was lost."""
        hand = self._hand(worker)
        if hand is not None and hand.last:
            await self._settle(hand)

    async def renew(self, worker: str) -> None:
        """Join again and renew; check which records are reported as another's."""
        hand = self._hand(worker)
        if hand is None or hand.tenure.is_over:
            return
        await self._join(worker)
        part, start = self._part(hand), self._calls.now().earliest
        positions = [each.position for _, each in hand.held]
        lost, _ = await self._with(hand, "renews", partial(hand.lease.renew, positions))
        hand.renewed, hand.tenure.is_live = start, True
        expected = {
            each.position
            for place, each in hand.held
            if place not in part.pending or part.pending[place].holder is not hand.tenure
        }
        if {*lost} != expected:
            raise Broken("X11", f"{hand.worker} has lost {sorted(expected)}, and is told of {lost}")

    async def oversleep(self, worker: str) -> None:
        """Keep a worker silent for longer than its lease, while it holds what it was given."""
        await self._calls.be_silent(worker)
        self._forget_rank(worker)

    def _forget_rank(self, worker: str) -> None:
        group = self._model.groups.get(self._calls.member(worker).group)
        if group is not None:
            group.rank = None

    async def pass_time(self) -> None:
        """Wait until what was delayed for a short time is due."""
        await self._calls.pass_time(0.5)
