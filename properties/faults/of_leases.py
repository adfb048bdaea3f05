"""Faults of transports: leases that have run out (X11)."""

from collections.abc import Sequence

from anyio import current_time

from flexiflow.extras.durable import Acknowledged, Delivery, Followed, Outcome, Room, Settled
from properties.faults._transport_registry import breaks
from properties.faults.plain_transport import FaultyLease, FaultyTransport


@breaks("X11")
class SettlesWhatAnotherHolds(FaultyTransport):
    """Writes down what a lease says of a record, whoever holds it by now."""

    class Overwriting(FaultyLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            for entry in self.entries(outcomes):
                if self.token in self.reading.leases:
                    entry.holder = self.token
            return await super().settle(outcomes)

    lease_type = Overwriting


@breaks("X11")
class TakesBackWhatIsAnothers(FaultyTransport):
    """Gives a lease that is renewed all back that it had held."""

    class Greedy(FaultyLease):
        async def renew(self, positions: Sequence[str] = ()) -> Sequence[str]:
            lost = await super().renew(positions)
            for position in lost:
                if (entry := self.reading._pending.get(int(position))) is not None:
                    entry.holder = self.token
            return []

    lease_type = Greedy


@breaks("X11")
class EndsWhatHasRunOut(FaultyTransport):
    """Ends a lease as soon as it has run out."""

    class Strict(FaultyLease):
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
class DropsWhatComesLate(FaultyTransport):
    """Writes nothing down of a lease that has run out, and does not tell."""

    class Dropping(FaultyLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            if self.token in self.reading.leases and self.is_late:
                return Settled()
            return await super().settle(outcomes)

    lease_type = Dropping


@breaks("X11")
class LosesAllThatIsLate(FaultyTransport):
    """Tells a lease that has run out that all it held is another's."""

    class Gloomy(FaultyLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            settled = await super().settle(outcomes)
            if not self.is_late:
                return settled
            return Settled([e.position for e in outcomes if not isinstance(e, Followed)])

    lease_type = Gloomy


@breaks("X11")
class ForgetsThatItIsDone(FaultyTransport):
    """Forgets what a lease has acknowledged that had lost it."""

    class Forgetful(FaultyLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            try:
                return await super().settle(outcomes)
            finally:
                for entry in self.entries(outcomes):
                    entry.is_done = False

    lease_type = Forgetful


@breaks("X11")
class HearsNothingOfTheDisplaced(FaultyTransport):
    """Writes down nothing of one whose partition is another's: all its attempts are deaths."""

    class Deaf(FaultyLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            return await super().settle(outcomes if self.token in self.reading.leases else [])

    lease_type = Deaf


@breaks("X11")
class CountsAStaleEnd(FaultyTransport):
    """Goes on counting an attempt as begun that has ended at a lease that had lost it."""

    class Counting(FaultyLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            before = [(entry, entry.deliveries) for entry in self.entries(outcomes)]
            settled = await super().settle(outcomes)
            for entry, deliveries in before:
                if entry.holder != self.token and not entry.is_done:
                    entry.deliveries = deliveries
            return settled

    lease_type = Counting


@breaks("X11")
class ForgetsAStaleFailure(FaultyTransport):
    """Counts no attempt that failed at a lease that had lost it."""

    class Forgiving(FaultyLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            before = [(entry, entry.attempts) for entry in self.entries(outcomes)]
            settled = await super().settle(outcomes)
            for entry, attempts in before:
                if entry.holder not in {0, self.token}:
                    entry.attempts = attempts
            return settled

    lease_type = Forgiving


@breaks("X11")
class TellsOfNothingLost(FaultyTransport):
    """Doesn't tell a worker that what it settles is another's."""

    class Silent(FaultyLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            return (await super().settle(outcomes))._replace(lost=())

    lease_type = Silent


@breaks("X11")
class RenewsAndTellsNothing(FaultyTransport):
    """Doesn't tell a worker that renews what it has lost."""

    class Silent(FaultyLease):
        async def renew(self, positions: Sequence[str] = ()) -> Sequence[str]:
            await super().renew(positions)
            return ()

    lease_type = Silent


@breaks("X11")
class SettlesForTheDead(FaultyTransport):
    """Settles at once what a lease has acknowledged that had lost it, under the one who has it."""

    class Hasty(FaultyLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            settled = await super().settle(outcomes)
            for each in outcomes:
                if isinstance(each, Acknowledged) and each.position in settled.lost:
                    self.reading._pending.pop(int(each.position), None)
            return settled

    lease_type = Hasty
