"""Faults of transports: X1 to X8 and X10, and the list of all."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from itertools import count

from anyio import current_time
from anyio.lowlevel import checkpoint

from flexiflow.extras.durable import (
    Acknowledged,
    Batch,
    Buried,
    DeadLetter,
    Delivery,
    Failure,
    LeaseLost,
    LogFull,
    Member,
    Outcome,
    Returned,
    Room,
    Settled,
    Standing,
    Stored,
)
from flexiflow.extras.durable._memory.entries import Grave
from flexiflow.extras.durable._memory.producers import Producers
from properties.faults import (
    of_leases,
    of_members,
    of_schedules,
    of_sizes,
    of_starts,
    of_surveys,
    of_waiting,
)
from properties.faults._transport_registry import TRANSPORT_FAULTS, TransportFault, breaks
from properties.reference.transport import (
    PlainLease,
    PlainTransport,
    damage,
    empty,
    insert,
)

__all__ = [
    "TRANSPORT_FAULTS",
    "PlainTransport",
    "TransportFault",
    "damage",
    "empty",
    "insert",
    "of_leases",
    "of_members",
    "of_schedules",
    "of_sizes",
    "of_starts",
    "of_surveys",
    "of_waiting",
]


@breaks("X1")
class GivesToTwo(PlainTransport):
    """Gives what one worker holds to another."""

    class Taking(PlainLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            for held in self.reading._pending.values():
                held.holder = 0
            return await super().receive(room)

    lease_type = Taking


@breaks("X1")
class LosesWhatIsReturned(PlainTransport):
    """Treats what is returned as handled."""

    class Losing(PlainLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            return await super().settle(
                [
                    Acknowledged(each.position) if isinstance(each, Returned) else each
                    for each in outcomes
                ]
            )

    lease_type = Losing


@breaks("X1")
class AcknowledgesWhatItGives(PlainTransport):
    """Treats what is given as handled, as a queue without acknowledgements does."""

    class Hasty(PlainLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            given = await super().receive(room)
            await super().settle([Acknowledged(each.position) for each in given])
            return given

    lease_type = Hasty


@breaks("X1")
class GivesAgainWhatIsHandled(PlainTransport):
    """Treats what is acknowledged as returned."""

    class Stubborn(PlainLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            return await super().settle(
                [
                    Returned(each.position, 0, 0) if isinstance(each, Acknowledged) else each
                    for each in outcomes
                ]
            )

    lease_type = Stubborn


@breaks("X1")
class LosesWhatTheDeadHold(PlainTransport):
    """Forgets what a worker held whose lease ran out."""

    class Forgetful(PlainLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            pending, live = self.reading._pending, {0, *self.reading.live(current_time())}
            for position in [at for at, held in pending.items() if held.holder not in live]:
                del pending[position]
            return await super().receive(room)

    lease_type = Forgetful


@breaks("X1")
class LosesWhatACancelledReceiveTook(PlainTransport):
    """Waits between taking records and giving them."""

    class Slow(PlainLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            given = await super().receive(room)
            await checkpoint()
            return given

    lease_type = Slow


@breaks("X1")
class SkipsWhatIsLookedAt(PlainTransport):
    """Leaves out the first of the records that `tail` returns."""

    async def tail(
        self, after: Sequence[str] | None, limit: int, wait: float
    ) -> tuple[Sequence[Stored], Sequence[str]]:
        found, positions = await super().tail(after, limit, wait)
        return found[1:], positions


@breaks("X1")
class BeginsAtTheEnd(PlainTransport):
    """Gives a new group nothing that was stored before it."""

    async def join(self, member: Member) -> Sequence[str]:
        is_new = member.group not in self.memory._state.groups
        joined = await super().join(member)
        if is_new:
            readings = self.memory._state.groups[member.group].readings
            for log, reading in zip(self.memory._state.logs, readings, strict=True):
                reading.given = log.last
        return joined


@breaks("X1")
class ForgetsNoGroup(PlainTransport):
    """Keeps a group that is to be forgotten."""

    async def forget(self, group: str) -> None:
        await checkpoint()


@breaks("X1")
class TellsNoLag(PlainTransport):
    """Reports a lag of 0 for every group."""

    async def standing(self, group: str) -> Standing:
        return (await super().standing(group))._replace(lag=0)


@breaks("X2", "X8")
class StoresAgain(PlainTransport):
    """Treats each batch as a new one, even if it is stored again."""

    def __init__(self, **options: int) -> None:
        super().__init__(**options)
        self.numbers = count()

    async def store(self, batch: Batch) -> None:
        await super().store(batch._replace(producer=f"{batch.producer}{next(self.numbers)}"))


@breaks("X2")
class RemembersOneProducer(PlainTransport):
    """Forgets a producer when another one stores."""

    async def store(self, batch: Batch) -> None:
        if not await self.produced(batch.producer):
            self.memory._state.producers = Producers(600.0)
        await super().store(batch)


@breaks("X1")
class RefusesTheFirst(PlainTransport):
    """Remembers the numbers of batches, but not whose they are."""

    async def store(self, batch: Batch) -> None:
        await super().store(batch._replace(producer="all", number=batch.number * 2))


@breaks("X3")
class ForgetsCountsOfTheDead(PlainTransport):
    """Counts attempts anew for what it gives to another worker."""

    class Forgiving(PlainLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            for held in self.reading._pending.values():
                if held.holder not in self.reading.live(current_time()):
                    held.attempts = 0
            return await super().receive(room)

    lease_type = Forgiving


@breaks("X3")
class SuspectsNothing(PlainTransport):
    """Doesn't mark what may have killed a worker as suspect."""

    class Trusting(PlainLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            given = await super().receive(room)
            return [each._replace(is_suspect=False) for each in given]

    lease_type = Trusting


@breaks("X3")
class CountsEachDelivery(PlainTransport):
    """Counts one delivery more for all that is given again, whether or not an attempt had begun."""

    class Counting(PlainLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            for held in self.reading._pending.values():
                held.deliveries += held.holder not in self.reading.live(current_time())
            return await super().receive(room)

    lease_type = Counting


@breaks("X3")
class BuriesTwice(PlainTransport):
    """Makes two dead letters of one event."""

    class Burying(PlainLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            settled = await super().settle(outcomes)
            log = self.transport.memory._state.logs[self.partition]
            for each in outcomes:
                if isinstance(each, Buried):
                    grave = Grave(log.records[int(each.position)], int(each.position))
                    self.group.bury(each, grave, self.partition, 0)
            return settled

    lease_type = Burying


@breaks("X3")
class BuriesWithoutReason(PlainTransport):
    """Doesn't keep the reason why an event was given up."""

    class Silent(PlainLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            nothing = Failure("", "", "")
            return await super().settle(
                [
                    each._replace(failure=nothing) if isinstance(each, Buried) else each
                    for each in outcomes
                ]
            )

    lease_type = Silent


@breaks("X3")
class RedrivesToAll(PlainTransport):
    """Gives to all groups what one redrives."""

    async def redrive(self, group: str, ids: Sequence[str]) -> int:
        redriven = await super().redrive(group, ids)
        for log in self.memory._state.logs:
            for position, record in log.records.items():
                log.records[position] = record._replace(group=None)
        return redriven


@breaks("X3")
class KeepsWhatItRedrives(PlainTransport):
    """Keeps a dead letter when it is redriven."""

    async def redrive(self, group: str, ids: Sequence[str]) -> int:
        dead = {**self.memory._state.groups[group].dead}
        redriven = await super().redrive(group, ids)
        self.memory._state.groups[group].dead = dead
        return redriven


@breaks("X3")
class ListsTheFirstPage(PlainTransport):
    """Lists the first page of dead letters, whatever `after` is."""

    async def dead_letters(
        self, group: str, *, after: str | None = None, limit: int = 100
    ) -> Sequence[DeadLetter]:
        return await super().dead_letters(group, limit=limit)


@breaks("X4")
class LetsTheDeadSettle(PlainTransport):
    """Hides from a worker that settles that its partition is another's."""

    class Hiding(PlainLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            try:
                return await super().settle(outcomes)
            except LeaseLost:
                return Settled()

    lease_type = Hiding


@breaks("X4")
class LetsTheDeadRenew(PlainTransport):
    """Hides from a worker that renews that its partition is another's."""

    class Returning(PlainLease):
        async def renew(self, positions: Sequence[str] = ()) -> Sequence[str]:
            try:
                return await super().renew(positions)
            except LeaseLost:
                return []

    lease_type = Returning


@breaks("X4")
class GivesEqualTokens(PlainTransport):
    """Gives each lease the same token."""

    class Equal(PlainLease):
        @property
        def token(self) -> int:
            return 1

    lease_type = Equal


@breaks("X4")
class LeasesToTwo(PlainTransport):
    """Ends a worker's lease to give the partition to another."""

    async def acquire(self, member: Member, partition: int) -> PlainLease | None:
        self.memory._state.groups[member.group].readings[partition].leases.clear()
        return await super().acquire(member, partition)


@breaks("X4")
class GivesTheLastFirst(PlainTransport):
    """Gives records in the reverse of the order in which they were stored."""

    class Reversing(PlainLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            return [*reversed(await super().receive(room))]

    lease_type = Reversing


@breaks("X4")
class SpreadsKeys(PlainTransport):
    """Ignores keys."""

    async def store(self, batch: Batch) -> None:
        records = tuple(each._replace(key=None) for each in batch.records)
        await super().store(batch._replace(records=records))


@breaks("X4")
class AllowsNamesakes(PlainTransport):
    """Treats any worker of the same name as the same worker."""

    async def join(self, member: Member) -> Sequence[str]:
        return await super().join(member._replace(token=""))


@breaks("X5")
class DropsWhatIsTooMuch(PlainTransport):
    """Drops what a full log has no room for."""

    async def store(self, batch: Batch) -> None:
        try:
            await super().store(batch)
        except LogFull:
            return


@breaks("X5")
class NeverMakesRoom(PlainTransport):
    """Keeps what every group has settled."""

    async def store(self, batch: Batch) -> None:
        [log, *_] = self.memory._state.logs
        if len(log.records) + len(batch.records) > self.max_length:
            raise LogFull(self.address, self.max_length)
        await super().store(batch)


@breaks("X5")
class TellsThatItHoldsMore(PlainTransport):
    """Reports a larger log than it has, so that publishers bring batches that never fit."""

    @property
    def max_length(self) -> int:
        return 1_000_000


@breaks("X5")
class GivesMoreThanIsAsked(PlainTransport):
    """Gives one record more than it was asked for."""

    class Generous(PlainLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            return await super().receive(room._replace(records=room.records + 1))

    lease_type = Generous


@breaks("X6")
class MissesNothing(PlainTransport):
    """Hides that something was deleted before it was settled."""

    async def standing(self, group: str) -> Standing:
        return (await super().standing(group))._replace(missed=0)


@breaks("X6")
class MissesTwice(PlainTransport):
    """Counts twice what was deleted."""

    async def standing(self, group: str) -> Standing:
        standing = await super().standing(group)
        return standing._replace(missed=2 * standing.missed)


@breaks("X7")
class ChangesTheBody(PlainTransport):
    """Changes the bodies that it stores."""

    async def store(self, batch: Batch) -> None:
        records = tuple(
            each._replace(body=each.body.replace(b"specversion", b"Specversion"))
            for each in batch.records
        )
        await super().store(batch._replace(records=records))


@breaks("X10")
class OpensOnlyWhileEmpty(PlainTransport):
    """Can't be opened again once it holds anything."""

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[PlainTransport]:
        if any(log.records for log in self.memory._state.logs):
            raise ConnectionError
        async with super().connect():
            yield self
