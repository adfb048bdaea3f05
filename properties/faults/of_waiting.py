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
from properties.reference.transport import PlainLease, PlainTransport


@breaks("X12")
class LosesItsTimeOverARelease(PlainTransport):
    """Makes everything due at once when a lease is released."""

    class Hasty(PlainLease):
        async def release(self) -> None:
            for position, entry in self.reading._waiting.items():
                if entry.due != inf:
                    self.reading._wait_until(position, entry, min(entry.due, current_time()))
            await super().release()

    lease_type = Hasty


@breaks("X12")
class WaitsAnewForEachWorker(PlainTransport):
    """Starts the delay of what waits anew when its worker has gone."""

    class Slow(PlainLease):
        async def release(self) -> None:
            least = current_time() + self.member.longest_delay
            for position, entry in self.reading._waiting.items():
                self.reading._wait_until(position, entry, max(entry.due, least))
            await super().release()

    lease_type = Slow


@breaks("X12")
class LosesWhatTheDeadPostponed(PlainTransport):
    """Forgets what waits under a lease that is gone."""

    class Loyal(PlainLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            waiting = self.reading._waiting
            live = {self.token, *self.reading.live(current_time())}
            gone = [at for at, entry in waiting.items() if entry.holder not in live]
            for position in gone:
                del waiting[position]
            return await super().receive(room)

    lease_type = Loyal


@breaks("X12")
class GivesTheLineAtOnce(PlainTransport):
    """Makes a whole line due when its first is."""

    class Open(PlainLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            settled = await super().settle(outcomes)
            for position, entry in self.reading._waiting.items():
                if entry.due == inf:
                    self.reading._wait_until(position, entry, current_time())
            return settled

    lease_type = Open


@breaks("X12")
class NeverGoesOn(PlainTransport):
    """Never makes the next of a key follow."""

    class Stuck(PlainLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            line = {at: each for at, each in self.reading._waiting.items() if each.due == inf}
            settled = await super().settle(outcomes)
            for each in line.values():
                each.due = inf
            self.reading._dues = [each for each in self.reading._dues if each[1] not in line]
            return settled

    lease_type = Stuck


@breaks("X12")
class FollowsAnothersLine(PlainTransport):
    """Makes the next record of a key follow, also if it waits under another lease."""

    class Loose(PlainLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            settled = await super().settle(outcomes)
            keys = {each.key for each in outcomes if isinstance(each, Followed)}
            for position, entry in self.reading._waiting.items():
                if entry.key in keys and entry.due == inf:
                    self.reading._wait_until(position, entry, current_time())
            return settled

    lease_type = Loose


@breaks("X12")
class FollowsTwice(PlainTransport):
    """Makes one more record follow each time that it is told to, as after a lost reply."""

    class Eager(PlainLease):
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
class SaysTooSoonThatItIsOver(PlainTransport):
    """Reports a line as over while its last record still waits."""

    class Hasty(PlainLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            settled = await super().settle(outcomes)
            return settled._replace(over=[e.key for e in outcomes if isinstance(e, Followed)])

    lease_type = Hasty


@breaks("X12")
class NeverSaysThatItIsOver(PlainTransport):
    """Never reports a line as over, so that a worker keeps sending events of its key behind it."""

    class Silent(PlainLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            return (await super().settle(outcomes))._replace(over=())

    lease_type = Silent


@breaks("X12")
class LeavesTheLineBehind(PlainTransport):
    """Gives the first of a line to another worker, and leaves the others where they were."""

    class Careless(PlainLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            before = [(e, e.holder) for e in self.reading._waiting.values() if e.due == inf]
            given = await super().receive(room)
            for entry, holder in before:
                entry.holder = holder
            return given

    lease_type = Careless


@breaks("X12")
class GivesNewThoughTooManyWait(PlainTransport):
    """Ignores how many wait."""

    class Generous(PlainLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            return await super().receive(Room(room.records, room.size, again=room.again))

    lease_type = Generous


@breaks("X12")
class GivesNewBeforeWhatIsDue(PlainTransport):
    """Gives what has waited only if there is nothing new."""

    class Starving(PlainLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            is_shut = len(self.reading._waiting) >= room.waiting
            if self.log.last > self.reading.given and not is_shut:
                room = room._replace(again=0)
            return await super().receive(room)

    lease_type = Starving


@breaks("X12")
class GivesAllThatIsDue(PlainTransport):
    """Gives more that has waited than is asked for, so that new records starve."""

    class Starving(PlainLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            return await super().receive(Room(room.records, room.size, room.waiting))

    lease_type = Starving


@breaks("X12")
class GivesTheLastDueFirst(PlainTransport):
    """Gives what has waited in the order of storing, whenever it is due."""

    class Sorting(PlainLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            given = await super().receive(room)
            return sorted(given, key=lambda each: int(each.position))

    lease_type = Sorting


@breaks("X12")
class TellsOfNothingThatWaits(PlainTransport):
    """Reports that nothing waits."""

    async def standing(self, group: str) -> Standing:
        return (await super().standing(group))._replace(waiting=0)


@breaks("X12")
class HidesThatItHasWaited(PlainTransport):
    """Doesn't mark a record as one that has waited, behind which others of its key may wait."""

    class Hiding(PlainLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            return [each._replace(has_waited=False) for each in await super().receive(room)]

    lease_type = Hiding


@breaks("X12")
class GivesWhatWaitsElsewhere(PlainTransport):
    """Gives what waits to any worker, whichever postponed it."""

    class Loose(PlainLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            for entry in self.reading._waiting.values():
                entry.holder = 0 if entry.due != inf else entry.holder
            return await super().receive(room)

    lease_type = Loose


@breaks("X5")
class HoldsTheLogForWhatWaits(PlainTransport):
    """Counts what waits as part of the log."""

    async def store(self, batch: Batch) -> None:
        waiting = [
            at
            for group in self.memory._state.groups.values()
            for reading in group.readings
            for at in reading._waiting
        ]
        [log, *_] = self.memory._state.logs
        if waiting and log.last + len(batch.records) - min(waiting) >= self.max_length:
            raise LogFull(self.address, self.max_length)
        await super().store(batch)


@breaks("X12")
class SpendsAttemptsOnRestarts(PlainTransport):
    """Counts one attempt more for what waits when its lease is released."""

    class Spending(PlainLease):
        async def release(self) -> None:
            for entry in self.reading._waiting.values():
                entry.attempts += 1
            await super().release()

    lease_type = Spending


@breaks("X12")
class WaitsForEver(PlainTransport):
    """Accepts any delay, as after a clock that was set back."""

    class Patient(PlainLease):
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
class DropsWhatIsReturnedTwice(PlainTransport):
    """Settles what has waited once and is returned."""

    class Dropping(PlainLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            settled = await super().settle(outcomes)
            for each in outcomes:
                if isinstance(each, Returned):
                    self.reading._waiting.pop(int(each.position), None)
            return settled

    lease_type = Dropping


@breaks("X12")
class TellsOfNoLines(PlainTransport):
    """Doesn't report to a new lease of which keys records wait."""

    class Silent(PlainLease):
        lines = ()

    lease_type = Silent


@breaks("X12")
class ForgetsWhatWaitsWhenItIsOpened(PlainTransport):
    """Keeps what waits only while a process has the transport open."""

    def closed(self) -> None:
        for group in self.memory._state.groups.values():
            for reading in group.readings:
                reading._waiting.clear()
