"""Faults of transports: members with different patterns (X15)."""

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
from properties.reference.transport import PlainLease, PlainTransport


@breaks("X15")
class AllowsOtherPatterns(PlainTransport):
    """Lets the workers of a group have any patterns."""

    async def join(self, member: Member) -> Sequence[str]:
        try:
            return await super().join(member)
        except GroupMismatch:
            return [member.consumer]


@breaks("X15")
class AllowsEqualPatternsAlone(PlainTransport):
    """Refuses a member with more patterns, so that no deploy rolls."""

    async def join(self, member: Member) -> Sequence[str]:
        group = self.memory._state.groups.get(member.group)
        alive = group._alive.values() if group is not None else ()
        for peer, _ in alive:
            if peer.consumer != member.consumer and peer.patterns != member.patterns:
                raise GroupMismatch(member.group, peer.patterns, member.patterns)
        return await super().join(member)


@breaks("X15")
class GivesToThoseWhoStandBy(PlainTransport):
    """Gives records to any member that has a lease."""

    class Generous(PlainLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            patterns, self.group.patterns = self.group.patterns, self.member.patterns
            try:
                return await super().receive(room)
            finally:
                self.group.patterns = patterns

    lease_type = Generous


@breaks("X15")
class LeasesToThoseWhoStandBy(PlainTransport):
    """Leases partitions to any member."""

    async def acquire(self, member: Member, partition: int) -> PlainLease | None:
        group = self.memory._state.groups[member.group]
        patterns, group.patterns = group.patterns, member.patterns
        try:
            return await super().acquire(member, partition)
        finally:
            group.patterns = patterns


@breaks("X15")
class NamesThoseWhoStandBy(PlainTransport):
    """Lists members that stand by among those that share the partitions."""

    async def join(self, member: Member) -> Sequence[str]:
        await super().join(member)
        return sorted(self.memory._state.groups[member.group]._alive)


@breaks("X15")
class EndsLeasesOfThoseWhoStandBy(PlainTransport):
    """Refuses to settle for a member that stands by."""

    class Strict(PlainLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            if self.member.patterns != self.group.patterns:
                raise LeaseLost(self.member.consumer, self.member.group, self.partition)
            return await super().settle(outcomes)

    lease_type = Strict


@breaks("X15")
class NeverTakesLess(PlainTransport):
    """Keeps members standing by even after those with more patterns have left."""

    async def join(self, member: Member) -> Sequence[str]:
        group = self.memory._state.groups.get(member.group)
        before = group.patterns if group is not None else ()
        consumers = await super().join(member)
        if before == ("order.**",) != member.patterns:
            self.memory._state.groups[member.group].patterns = before
            return [each for each in consumers if each == "w"]
        return consumers
