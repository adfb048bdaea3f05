"""Faults of transports: members that take different events (X15)."""

from collections.abc import Sequence

from flexiflow.extras.durable import (
    Delivery,
    GroupMismatch,
    LeaseLost,
    Member,
    Outcome,
    Room,
    Settled,
)
from properties.faults._transport_registry import breaks
from properties.faults.plain_transport import FaultyLease, FaultyTransport


@breaks("X15")
class AllowsOtherPatterns(FaultyTransport):
    """Lets the workers of a group take whatever they want."""

    async def join(self, member: Member) -> Sequence[str]:
        try:
            return await super().join(member)
        except GroupMismatch:
            return [member.consumer]


@breaks("X15")
class AllowsEqualPatternsAlone(FaultyTransport):
    """Refuses who takes more, so that no deploy rolls."""

    async def join(self, member: Member) -> Sequence[str]:
        group = self.memory._groups.get(member.group)
        alive = group._alive.values() if group is not None else ()
        for peer, _ in alive:
            if peer.consumer != member.consumer and peer.patterns != member.patterns:
                raise GroupMismatch(member.group, peer.patterns, member.patterns)
        return await super().join(member)


@breaks("X15")
class GivesToThoseWhoStandBy(FaultyTransport):
    """Gives records to whoever has a lease."""

    class Generous(FaultyLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            patterns, self.group.patterns = self.group.patterns, self.member.patterns
            try:
                return await super().receive(room)
            finally:
                self.group.patterns = patterns

    lease_type = Generous


@breaks("X15")
class LeasesToThoseWhoStandBy(FaultyTransport):
    """Leases to any member."""

    async def acquire(self, member: Member, partition: int) -> FaultyLease | None:
        group = self.memory._groups[member.group]
        patterns, group.patterns = group.patterns, member.patterns
        try:
            return await super().acquire(member, partition)
        finally:
            group.patterns = patterns


@breaks("X15")
class NamesThoseWhoStandBy(FaultyTransport):
    """Has partitions shared among workers that are given none."""

    async def join(self, member: Member) -> Sequence[str]:
        await super().join(member)
        return sorted(self.memory._groups[member.group]._alive)


@breaks("X15")
class EndsLeasesOfThoseWhoStandBy(FaultyTransport):
    """Lets nobody settle who takes less than others."""

    class Strict(FaultyLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            if self.member.patterns != self.group.patterns:
                raise LeaseLost(self.member.consumer, self.member.group, self.partition)
            return await super().settle(outcomes)

    lease_type = Strict


@breaks("X15")
class NeverTakesLess(FaultyTransport):
    """Lets those stand by for ever that take less than one that has left."""

    async def join(self, member: Member) -> Sequence[str]:
        group = self.memory._groups.get(member.group)
        before = group.patterns if group is not None else ()
        consumers = await super().join(member)
        if before == ("order.**",) != member.patterns:
            self.memory._groups[member.group].patterns = before
            return [each for each in consumers if each == "w"]
        return consumers
