"""Faults of transports: leases that have run out (X11)."""

from collections.abc import Sequence

from anyio import current_time

from flexiflow.extras.durable import Acknowledged, Delivery, Followed, Outcome, Room, Settled
from properties.faults._transport_registry import breaks
from properties.reference.transport import PlainLease, PlainTransport


@breaks("X11")
class SettlesWhatAnotherHolds(PlainTransport):
    """Settles a record as a lease says, even if another lease holds it by now."""

    class Overwriting(PlainLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            for entry in self.entries(outcomes):
                if self.token in self.reading.leases:
                    entry.holder = self.token
            return await super().settle(outcomes)

    lease_type = Overwriting


@breaks("X11")
class TakesBackWhatIsAnothers(PlainTransport):
    """Gives a renewed lease everything back that it had held."""

    class Greedy(PlainLease):
        async def renew(self, positions: Sequence[str] = ()) -> Sequence[str]:
            lost = await super().renew(positions)
            for position in lost:
                if (entry := self.reading._pending.get(int(position))) is not None:
                    entry.holder = self.token
            return []

    lease_type = Greedy


@breaks("X11")
class EndsWhatHasRunOut(PlainTransport):
    """Ends a lease as soon as it has run out."""

    class Strict(PlainLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            self._end()
            return await super().receive(room)

        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            self._end()
            return await super().settle(outcomes)

        def _end(self) -> None:
            if self.token not in self.reading.live(current_time()):
                self.reading.leases.pop(self.token, None)

    lease_type = Strict


@breaks("X11")
class DropsWhatComesLate(PlainTransport):
    """Ignores what a lease settles that has run out, without a word."""

    class Dropping(PlainLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            if self.token in self.reading.leases and self.is_late:
                return Settled()
            return await super().settle(outcomes)

    lease_type = Dropping


@breaks("X11")
class LosesAllThatIsLate(PlainTransport):
    """Reports everything as lost that a lease settles after it has run out."""

    class Gloomy(PlainLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            settled = await super().settle(outcomes)
            if not self.is_late:
                return settled
            return Settled([e.position for e in outcomes if not isinstance(e, Followed)])

    lease_type = Gloomy


@breaks("X11")
class ForgetsThatItIsDone(PlainTransport):
    """Forgets what was acknowledged by a lease that had lost it."""

    class Forgetful(PlainLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            try:
                return await super().settle(outcomes)
            finally:
                for entry in self.entries(outcomes):
                    entry.is_done = False

    lease_type = Forgetful


@breaks("X11")
class HearsNothingOfTheDisplaced(PlainTransport):
    """Ignores the reports of a displaced lease, so that all its attempts count as deaths."""

    class Deaf(PlainLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            return await super().settle(outcomes if self.token in self.reading.leases else [])

    lease_type = Deaf


@breaks("X11")
class CountsAStaleEnd(PlainTransport):
    """Goes on counting an attempt as begun that ended at a lease which had lost the record."""

    class Counting(PlainLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            before = [(entry, entry.deliveries) for entry in self.entries(outcomes)]
            settled = await super().settle(outcomes)
            for entry, deliveries in before:
                if entry.holder != self.token and not entry.is_done:
                    entry.deliveries = deliveries
            return settled

    lease_type = Counting


@breaks("X11")
class ForgetsAStaleFailure(PlainTransport):
    """Doesn't count an attempt that failed at a lease which had lost the record."""

    class Forgiving(PlainLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            before = [(entry, entry.attempts) for entry in self.entries(outcomes)]
            settled = await super().settle(outcomes)
            for entry, attempts in before:
                if entry.holder not in {0, self.token}:
                    entry.attempts = attempts
            return settled

    lease_type = Forgiving


@breaks("X11")
class TellsOfNothingLost(PlainTransport):
    """Doesn't report to a worker that what it settles is another's."""

    class Silent(PlainLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            return (await super().settle(outcomes))._replace(lost=())

    lease_type = Silent


@breaks("X11")
class RenewsAndTellsNothing(PlainTransport):
    """Doesn't report to a worker that renews what it has lost."""

    class Silent(PlainLease):
        async def renew(self, positions: Sequence[str] = ()) -> Sequence[str]:
            await super().renew(positions)
            return ()

    lease_type = Silent


@breaks("X11")
class SettlesForTheDead(PlainTransport):
    """Settles what a lease that had lost it has acknowledged, though another one holds it."""

    class Hasty(PlainLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            settled = await super().settle(outcomes)
            for each in outcomes:
                if isinstance(each, Acknowledged) and each.position in settled.lost:
                    self.reading._pending.pop(int(each.position), None)
            return settled

    lease_type = Hasty
