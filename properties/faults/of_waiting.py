"""Faults of transports: waiting for the next attempt, and for others of a key (X12)."""

from collections.abc import Sequence
from math import inf

from anyio import current_time

from flexiflow.extras.durable import (
    Batch,
    Delivery,
    Followed,
    LogFull,
    Outcome,
    Postponed,
    Returned,
    Room,
    Settled,
    Standing,
)
from properties.faults._transport_registry import breaks
from properties.faults.plain_transport import FaultyLease, FaultyTransport


@breaks("X12")
class LosesItsTimeOverARelease(FaultyTransport):
    """Makes everything due at once when a lease is released."""

    class Hasty(FaultyLease):
        async def release(self) -> None:
            for position, entry in self.reading._waiting.items():
                if entry.due != inf:
                    self.reading._wait_until(position, entry, min(entry.due, current_time()))
            await super().release()

    lease_type = Hasty


@breaks("X12")
class WaitsAnewForEachWorker(FaultyTransport):
    """Starts the delay of what waits anew when its worker has gone."""

    class Slow(FaultyLease):
        async def release(self) -> None:
            least = current_time() + self.member.longest_delay
            for position, entry in self.reading._waiting.items():
                self.reading._wait_until(position, entry, max(entry.due, least))
            await super().release()

    lease_type = Slow


@breaks("X12")
class LosesWhatTheDeadPostponed(FaultyTransport):
    """Forgets what waits under a lease that is gone."""

    class Loyal(FaultyLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            waiting = self.reading._waiting
            live = {self.token, *self.reading.live(current_time())}
            gone = [at for at, entry in waiting.items() if entry.holder not in live]
            for position in gone:
                del waiting[position]
            return await super().receive(room)

    lease_type = Loyal


@breaks("X12")
class GivesTheLineAtOnce(FaultyTransport):
    """Makes a whole line due when its first is."""

    class Open(FaultyLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            settled = await super().settle(outcomes)
            for position, entry in self.reading._waiting.items():
                if entry.due == inf:
                    self.reading._wait_until(position, entry, current_time())
            return settled

    lease_type = Open


@breaks("X12")
class NeverGoesOn(FaultyTransport):
    """Never makes the next of a key follow."""

    class Stuck(FaultyLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            line = {at: each for at, each in self.reading._waiting.items() if each.due == inf}
            settled = await super().settle(outcomes)
            for each in line.values():
                each.due = inf
            self.reading._dues = [each for each in self.reading._dues if each[1] not in line]
            return settled

    lease_type = Stuck


@breaks("X12")
class FollowsAnothersLine(FaultyTransport):
    """Makes the next of a key follow under whatever lease it waits."""

    class Loose(FaultyLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            settled = await super().settle(outcomes)
            keys = {each.key for each in outcomes if isinstance(each, Followed)}
            for position, entry in self.reading._waiting.items():
                if entry.key in keys and entry.due == inf:
                    self.reading._wait_until(position, entry, current_time())
            return settled

    lease_type = Loose


@breaks("X12")
class FollowsTwice(FaultyTransport):
    """Makes one more record follow each time that it is told to, as after a lost reply."""

    class Eager(FaultyLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            settled = await super().settle(outcomes)
            for each in outcomes:
                if isinstance(each, Followed):
                    self._let_follow(each.key)
            return settled

        def _let_follow(self, key: str) -> None:
            waiting = self.reading._waiting
            line = [at for at, e in waiting.items() if e.key == key and e.due == inf]
            if line:
                first = min(line)
                self.reading._wait_until(first, waiting[first], current_time())

    lease_type = Eager


@breaks("X12")
class SaysTooSoonThatItIsOver(FaultyTransport):
    """Reports a line as over while its last record still waits."""

    class Hasty(FaultyLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            settled = await super().settle(outcomes)
            return settled._replace(over=[e.key for e in outcomes if isinstance(e, Followed)])

    lease_type = Hasty


@breaks("X12")
class NeverSaysThatItIsOver(FaultyTransport):
    """Never reports a line as over, so that a worker keeps sending events of its key behind it."""

    class Silent(FaultyLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            return (await super().settle(outcomes))._replace(over=())

    lease_type = Silent


@breaks("X12")
class LeavesTheLineBehind(FaultyTransport):
    """Gives the first of a line to another worker, and leaves the others where they were."""

    class Careless(FaultyLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            before = [(e, e.holder) for e in self.reading._waiting.values() if e.due == inf]
            given = await super().receive(room)
            for entry, holder in before:
                entry.holder = holder
            return given

    lease_type = Careless


@breaks("X12")
class GivesNewThoughTooManyWait(FaultyTransport):
    """Ignores how many wait."""

    class Generous(FaultyLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            return await super().receive(Room(room.records, room.size, again=room.again))

    lease_type = Generous


@breaks("X12")
class GivesNewBeforeWhatIsDue(FaultyTransport):
    """Gives what has waited only if there is nothing new."""

    class Starving(FaultyLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            is_shut = len(self.reading._waiting) >= room.waiting
            if self.log.last > self.reading.given and not is_shut:
                room = room._replace(again=0)
            return await super().receive(room)

    lease_type = Starving


@breaks("X12")
class GivesAllThatIsDue(FaultyTransport):
    """Gives more that has waited than is asked for, so that new records starve."""

    class Starving(FaultyLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            return await super().receive(Room(room.records, room.size, room.waiting))

    lease_type = Starving


@breaks("X12")
class GivesTheLastDueFirst(FaultyTransport):
    """Gives what has waited in the order of storing, whenever it is due."""

    class Sorting(FaultyLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            given = await super().receive(room)
            return sorted(given, key=lambda each: int(each.position))

    lease_type = Sorting


@breaks("X12")
class TellsOfNothingThatWaits(FaultyTransport):
    """Reports that nothing waits."""

    async def standing(self, group: str) -> Standing:
        return (await super().standing(group))._replace(waiting=0)


@breaks("X12")
class HidesThatItHasWaited(FaultyTransport):
    """Doesn't mark a record as one that has waited, behind which others of its key may wait."""

    class Hiding(FaultyLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            return [each._replace(has_waited=False) for each in await super().receive(room)]

    lease_type = Hiding


@breaks("X12")
class GivesWhatWaitsElsewhere(FaultyTransport):
    """Gives what waits to any worker, whichever postponed it."""

    class Loose(FaultyLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            for entry in self.reading._waiting.values():
                entry.holder = 0 if entry.due != inf else entry.holder
            return await super().receive(room)

    lease_type = Loose


@breaks("X5")
class HoldsTheLogForWhatWaits(FaultyTransport):
    """Counts what waits as part of the log."""

    async def store(self, batch: Batch) -> None:
        waiting = [
            at
            for group in self.memory._groups.values()
            for reading in group.readings
            for at in reading._waiting
        ]
        [log, *_] = self.memory._logs
        if waiting and log.last + len(batch.records) - min(waiting) >= self.max_length:
            raise LogFull(self.address, self.max_length)
        await super().store(batch)


@breaks("X12")
class SpendsAttemptsOnRestarts(FaultyTransport):
    """Counts one attempt more for what waits when its lease is released."""

    class Spending(FaultyLease):
        async def release(self) -> None:
            for entry in self.reading._waiting.values():
                entry.attempts += 1
            await super().release()

    lease_type = Spending


@breaks("X12")
class WaitsForEver(FaultyTransport):
    """Accepts any delay, as after a clock that was set back."""

    class Patient(FaultyLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            settled = await super().settle(outcomes)
            for each in outcomes:
                if isinstance(each, Postponed) and each.delay is not None:
                    self.delay(each.position, each.delay)
            return settled

        def delay(self, position: str, delay: float) -> None:
            if (entry := self.reading._waiting.get(int(position))) is not None:
                self.reading._wait_until(int(position), entry, current_time() + delay)

    lease_type = Patient


@breaks("X12")
class DropsWhatIsReturnedTwice(FaultyTransport):
    """Settles what has waited once and is returned."""

    class Dropping(FaultyLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            settled = await super().settle(outcomes)
            for each in outcomes:
                if isinstance(each, Returned):
                    self.reading._waiting.pop(int(each.position), None)
            return settled

    lease_type = Dropping


@breaks("X12")
class TellsOfNoLines(FaultyTransport):
    """Doesn't report to a new lease of which keys records wait."""

    class Silent(FaultyLease):
        lines = ()

    lease_type = Silent


@breaks("X12")
class ForgetsWhatWaitsWhenItIsOpened(FaultyTransport):
    """Keeps what waits only while a process has the transport open."""

    def closed(self) -> None:
        for group in self.memory._groups.values():
            for reading in group.readings:
                reading._waiting.clear()
