"""Faults of transports: where a group begins, and begins again (Y5)."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

from anyio import current_time

from flexiflow.extras.durable import (
    Acknowledged,
    Delivery,
    LeaseLost,
    Member,
    Outcome,
    Replayed,
    Room,
    Settled,
    Start,
    StartTrimmed,
    Stored,
)
from flexiflow.extras.durable._memory.group import Group
from flexiflow.extras.durable._memory.log import Log
from flexiflow.extras.durable._memory.readings import Reading
from properties.faults._transport_registry import breaks
from properties.reference.transport import PlainLease, PlainTransport


class _Beginning(PlainTransport):
    """Begins where `begin` says, if a group is new."""

    def begin(self, reading: Reading, log: Log, start: Start) -> None:
        """Change where a group begins in a log."""

    async def join(self, member: Member) -> Sequence[str]:
        is_new = member.group not in self.memory._state.groups
        joined = await super().join(member)
        if is_new:
            group = self.memory._state.groups[member.group]
            for log, reading in zip(self.memory._state.logs, group.readings, strict=True):
                self.begin(reading, log, member.start)
        return joined


class _Replaying(PlainTransport):
    """Does something before a group begins again, and after that."""

    def before(self, group: Group) -> None:
        """Change a group before that."""

    def after(self, group: Group, since: Start) -> None:
        """Change a group after that."""

    async def replay(self, group: str, since: Start) -> Replayed:
        if group in self.memory._state.groups:
            self.before(self.memory._state.groups[group])
        replayed = await super().replay(group, since)
        self.after(self.memory._state.groups[group], since)
        return replayed


@breaks("Y5")
class BeginsWithTheSecond(_Beginning):
    """Passes over the oldest record."""

    def begin(self, reading: Reading, log: Log, start: Start) -> None:
        if start == "oldest" and log.records:
            reading.given = log.first


@breaks("Y5", "X1")
class BeginsAlwaysWithTheOldest(PlainTransport):
    """Ignores where a group is to begin."""

    async def join(self, member: Member) -> Sequence[str]:
        return await super().join(member._replace(start="oldest"))


@breaks("Y5")
class BeginsBeforeWhatIsNew(_Beginning):
    """Begins with the last record where it should begin with the next one."""

    def begin(self, reading: Reading, log: Log, start: Start) -> None:
        if start == "new" and log.records:
            reading.given = log.last - 1


@breaks("Y5")
class BeginsAfterATime(_Beginning):
    """Passes over what was stored at the very time."""

    def begin(self, reading: Reading, log: Log, start: Start) -> None:
        if isinstance(start, float):
            times = log.times.items()
            reading.given = max((at for at, time in times if time <= start), default=0)


@breaks("Y5")
class BeginsAtATimeWithTheOldest(_Beginning):
    """Knows no times."""

    def begin(self, reading: Reading, log: Log, start: Start) -> None:
        if isinstance(start, float):
            reading.given = log.first - 1


@breaks("Y5")
class SkipsWhatHasNoTime(_Beginning):
    """Takes a record whose time is not known for one from before any time."""

    def begin(self, reading: Reading, log: Log, start: Start) -> None:
        if isinstance(start, float):
            late = (at for at in log.records if log.times.get(at, -1.0) >= start)
            reading.given = next(late, log.last + 1) - 1


@breaks("Y5")
class BeginsAtAPosition(_Beginning):
    """Begins with the record of a position, and not behind it."""

    def begin(self, reading: Reading, log: Log, start: Start) -> None:
        if isinstance(start, tuple):
            reading.given = max(reading.given - 1, log.first - 1)


@breaks("Y5")
class BeginsEverywhereAtOnePosition(PlainTransport):
    """Begins in each partition behind the position of the first one."""

    async def join(self, member: Member) -> Sequence[str]:
        start = member.start
        if isinstance(start, tuple) and len(start) == self.partitions:
            ends = [log.last for log in self.memory._state.logs]
            if start[0].isdigit():
                start = tuple(str(min(int(start[0]), end)) for end in ends)
        return await super().join(member._replace(start=start))


@breaks("Y5")
class BeginsWhereNothingIsKept(PlainTransport):
    """Begins with the oldest record where others were deleted behind the position."""

    async def join(self, member: Member) -> Sequence[str]:
        try:
            return await super().join(member)
        except StartTrimmed:
            return await super().join(member._replace(start="oldest"))


@breaks("Y5")
class RefusesTheOldestPosition(PlainTransport):
    """Refuses the position behind which the oldest record is, once others were deleted."""

    async def join(self, member: Member) -> Sequence[str]:
        firsts = tuple(str(log.first - 1) for log in self.memory._state.logs)
        is_new = member.group not in self.memory._state.groups
        if is_new and member.start == firsts != ("0",) * self.partitions:
            raise StartTrimmed(member.group, 0, firsts[0], firsts[0])
        return await super().join(member)


@breaks("Y5")
class TakesAnyPosition(PlainTransport):
    """Begins with the oldest record if it can't read a position."""

    async def join(self, member: Member) -> Sequence[str]:
        try:
            return await super().join(member)
        except ValueError:
            return await super().join(member._replace(start="oldest"))


@breaks("Y5")
class MakesTheGroupFirst(PlainTransport):
    """Makes a group, and then refuses to begin."""

    async def join(self, member: Member) -> Sequence[str]:
        try:
            return await super().join(member)
        except (StartTrimmed, ValueError):
            await super().join(member._replace(start="oldest"))
            await self.leave(member)
            raise


@breaks("Y5")
class MovesWithEachMember(PlainTransport):
    """Lets each member say where the group goes on."""

    async def join(self, member: Member) -> Sequence[str]:
        if member.group in self.memory._state.groups and member.start == "new":
            for log, reading in zip(
                self.memory._state.logs,
                self.memory._state.groups[member.group].readings,
                strict=True,
            ):
                reading.given = log.last
        return await super().join(member)


@breaks("Y5")
class TellsNoTimes(PlainTransport):
    """Does not tell when records were stored."""

    async def tail(
        self, after: Sequence[str] | None, limit: int, wait: float
    ) -> tuple[Sequence[Stored], Sequence[str]]:
        found, positions = await super().tail(after, limit, wait)
        return [each._replace(time=None) for each in found], positions


@breaks("Y5")
class TellsAnotherClock(PlainTransport):
    """Tells the times of records by a clock that is a minute ahead."""

    async def tail(
        self, after: Sequence[str] | None, limit: int, wait: float
    ) -> tuple[Sequence[Stored], Sequence[str]]:
        found, positions = await super().tail(after, limit, wait)
        return [each._replace(time=(each.time or 0) + 60) for each in found], positions


@breaks("Y5")
class ReplaysNothing(_Replaying):
    """Says that a group has begun again, and leaves it as it is."""

    def before(self, group: Group) -> None:
        self.given = [(each.given, {**each._pending}) for each in group.readings]

    def after(self, group: Group, since: Start) -> None:
        for reading, (given, pending) in zip(group.readings, self.given, strict=True):
            reading.given, reading._pending = given, pending


@breaks("Y5")
class ReplaysWhatIsNotThere(PlainTransport):
    """Lets a group begin again that is not there."""

    async def replay(self, group: str, since: Start) -> Replayed:
        if group not in self.memory._state.groups:
            return Replayed(("0",) * self.partitions, is_complete=True)
        return await super().replay(group, since)


@breaks("Y5")
class KeepsLeases(_Replaying):
    """Leaves the leases of a group that begins again."""

    def before(self, group: Group) -> None:
        self.leases = [{**each.leases} for each in group.readings]
        self.replay_before = group.replay

    def after(self, group: Group, since: Start) -> None:
        group.replay = self.replay_before
        for reading, leases in zip(group.readings, self.leases, strict=True):
            reading.leases = leases


@breaks("Y5")
class LetsEndedLeasesSettle(PlainTransport):
    """Takes the report of a lease that a replay has ended for one of now."""

    class Late(PlainLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            try:
                return await super().settle(outcomes)
            except LeaseLost:
                reading, now = self.reading, current_time()
                for each in outcomes:
                    if isinstance(each, Acknowledged):
                        reading.settle(self.log, each, self.token, now)
                raise

    lease_type = Late


@breaks("Y5")
class HidesThatALeaseHasEnded(PlainTransport):
    """Gives nothing by a lease that a replay has ended, and does not tell why."""

    class Hiding(PlainLease):
        async def renew(self, positions: Sequence[str] = ()) -> Sequence[str]:
            if self.lease.replay != self.group.replay:
                return [*positions]
            return await super().renew(positions)

    lease_type = Hiding


@breaks("Y5")
class TellsNoReplays(PlainTransport):
    """Tells a lease that its group has never begun again."""

    class Forgetful(PlainLease):
        @property
        def replay(self) -> int:
            return 0

    lease_type = Forgetful


@breaks("Y5")
class CountsReplays(PlainTransport):
    """Numbers the replays of a group from 0 on, also where it was forgotten and made anew."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.counts = Counter[str]()

    async def replay(self, group: str, since: Start) -> Replayed:
        replayed = await super().replay(group, since)
        self.counts[group] += 1
        return replayed

    async def forget(self, group: str) -> None:
        await super().forget(group)
        del self.counts[group]

    class Counted(PlainLease):
        @property
        def replay(self) -> int:
            counts: Counter[str] = cast("CountsReplays", self.transport).counts
            return counts[self.member.group]

    lease_type = Counted


@breaks("Y5")
class KeepsWhatIsHeld(_Replaying):
    """Leaves what is held as it was, in place of giving it anew."""

    def before(self, group: Group) -> None:
        self.pending = [{**each._pending} for each in group.readings]

    def after(self, group: Group, since: Start) -> None:
        for reading, pending in zip(group.readings, self.pending, strict=True):
            reading._pending.update(pending)
            reading._passed |= {at for at in pending if at > reading.given}


@breaks("Y5")
class KeepsWhatWaits(_Replaying):
    """Gives anew what waits, and again when its time has come."""

    def before(self, group: Group) -> None:
        self.waiting = [({**each._waiting}, [*each._dues]) for each in group.readings]

    def after(self, group: Group, since: Start) -> None:
        for reading, (waiting, dues) in zip(group.readings, self.waiting, strict=True):
            reading._waiting, reading._dues = waiting, dues


@breaks("Y5")
class KeepsDeadLetters(_Replaying):
    """Keeps the dead letters of what is given anew."""

    def before(self, group: Group) -> None:
        self.dead = group.dead

    def after(self, group: Group, since: Start) -> None:
        group.dead = self.dead


@breaks("Y5")
class DropsAllDeadLetters(_Replaying):
    """Drops dead letters from before the place, too."""

    def after(self, group: Group, since: Start) -> None:
        group.dead = {}


@breaks("Y5")
class DropsAllThatIsHeld(_Replaying):
    """Drops what is held from before the place, too."""

    def after(self, group: Group, since: Start) -> None:
        for reading in group.readings:
            reading._pending.clear()


@breaks("Y5")
class DropsAllThatWaits(_Replaying):
    """Drops what waits from before the place, too."""

    def after(self, group: Group, since: Start) -> None:
        for reading in group.readings:
            reading._waiting.clear()
            reading._dues.clear()


@breaks("Y5")
class KeepsCounts(PlainTransport):
    """Gives anew with the counts of before what was held."""

    counts: dict[int, tuple[int, int]]

    async def replay(self, group: str, since: Start) -> Replayed:
        self.counts = {}
        for reading in (
            self.memory._state.groups[group].readings if group in await self.groups() else ()
        ):
            held = reading._pending.items()
            self.counts |= {at: (each.attempts, each.deliveries) for at, each in held}
        return await super().replay(group, since)

    class Counting(PlainLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            counts = getattr(self.transport, "counts", {})
            return [
                each._replace(
                    attempts=max(each.attempts, counts.get(int(each.position), (0, 0))[0])
                )
                for each in await super().receive(room)
            ]

    lease_type = Counting


@breaks("Y5")
class NeverGoesOn(_Replaying):
    """Begins again, but never skips what was not given yet."""

    def before(self, group: Group) -> None:
        self.given = [each.given for each in group.readings]

    def after(self, group: Group, since: Start) -> None:
        for reading, given in zip(group.readings, self.given, strict=True):
            reading.given = min(reading.given, given)


@breaks("Y5")
class GivesCopies(_Replaying):
    """Gives what was redriven besides what it is a copy of."""

    def after(self, group: Group, since: Start) -> None:
        for reading in group.readings:
            reading._passed.clear()


@breaks("Y5")
class LosesCopies(_Replaying):
    """Passes over what was redriven, even if its original is not given anew."""

    def after(self, group: Group, since: Start) -> None:
        for log, reading in zip(self.memory._state.logs, group.readings, strict=True):
            copies = {at for at, record in log.since(reading.given) if record.group is not None}
            reading._passed |= copies
            for at in copies:
                reading._pending.pop(at, None)


@breaks("Y5")
class MissesWhatWasDeleted(_Replaying):
    """Counts as missed what was deleted before, when a group begins again."""

    def after(self, group: Group, since: Start) -> None:
        for log, reading in zip(self.memory._state.logs, group.readings, strict=True):
            if since != "new" and log.first > 1:
                reading.missed += log.first - 1


@breaks("Y5")
class TellsThatAllIsThere(PlainTransport):
    """Tells that all is kept since the new place, whatever was deleted."""

    async def replay(self, group: str, since: Start) -> Replayed:
        return (await super().replay(group, since))._replace(is_complete=True)


@breaks("Y5")
class TellsThatNothingIsSure(PlainTransport):
    """Tells that not all is kept since the new place, though it is."""

    async def replay(self, group: str, since: Start) -> Replayed:
        return (await super().replay(group, since))._replace(is_complete=False)


@breaks("Y5")
class TellsWhereItWas(PlainTransport):
    """Tells the place where a group was before it has begun again."""

    async def replay(self, group: str, since: Start) -> Replayed:
        readings = (
            self.memory._state.groups[group].readings if group in self.memory._state.groups else []
        )
        places = tuple(str(each.given) for each in readings)
        return (await super().replay(group, since))._replace(after=places)


@breaks("Y5")
class ForgetsToKeepTheLog(_Replaying):
    """Deletes what a group that has begun again was not given yet, to make room."""

    def after(self, group: Group, since: Start) -> None:
        for log, reading in zip(self.memory._state.logs, group.readings, strict=True):
            for position in [at for at in log.records if at > reading.given][:1]:
                del log.records[position]
                reading._passed.add(position)
