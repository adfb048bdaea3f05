"""Faults of transports: sizes (X14), and what a server has lost (X13)."""

from collections.abc import Sequence
from typing import Any

from flexiflow.extras.durable import (
    Batch,
    Delivery,
    EventTooLarge,
    Outcome,
    Room,
    Settled,
    Standing,
)
from properties.faults._transport_registry import breaks
from properties.reference.transport import PlainLease, PlainTransport


@breaks("X14")
class HandsOutWhatIsTooLarge(PlainTransport):
    """Gives a record that is too large with its body."""

    class Generous(PlainLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            given = await super().receive(room)
            return [
                each._replace(body=self.log.records[int(each.position)].body, oversize=0)
                if each.oversize
                else each
                for each in given
            ]

    lease_type = Generous


@breaks("X14")
class IgnoresSizes(PlainTransport):
    """Counts records, whatever their size."""

    class Generous(PlainLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            return await super().receive(Room(room.records, waiting=room.waiting, again=room.again))

    lease_type = Generous


@breaks("X14")
class StoresWhatIsTooLarge(PlainTransport):
    """Stores records of any size."""

    async def store(self, batch: Batch) -> None:
        connection: Any = self.connection
        most, connection.max_event_bytes = connection.max_event_bytes, 1_000_000
        try:
            await super().store(batch)
        finally:
            connection.max_event_bytes = most


@breaks("X14")
class StoresTheOthers(PlainTransport):
    """Stores the small records of a batch that it refuses for a large one."""

    async def store(self, batch: Batch) -> None:
        small = tuple(e for e in batch.records if len(e.body) <= self.max_event_bytes)
        try:
            await super().store(batch)
        except EventTooLarge:
            await super().store(batch._replace(records=small))
            raise


@breaks("X14")
class BuriesNoBody(PlainTransport):
    """Makes a dead letter without a body of a record that was given without its body."""

    class Careless(PlainLease):
        async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
            before = {*self.group.dead}
            settled = await super().settle(outcomes)
            for number in {*self.group.dead} - before:
                dead = self.group.dead[number]
                if len(dead.letter.body) > self.transport.max_event_bytes:
                    letter = dead.letter._replace(body=b"")
                    self.group.dead[number] = dead._replace(letter=letter)
            return settled

    lease_type = Careless


@breaks("X14")
class RefusesTheLargest(PlainTransport):
    """Refuses records of exactly the size that it allows."""

    async def store(self, batch: Batch) -> None:
        for each in batch.records:
            if len(each.body) >= self.max_event_bytes:
                raise EventTooLarge("an event", len(each.body), self.max_event_bytes)
        await super().store(batch)


@breaks("X14")
class TellsThatItTakesMore(PlainTransport):
    """Reports a larger size than it stores."""

    @property
    def max_event_bytes(self) -> int:
        return 2 * super().max_event_bytes


@breaks("X13")
class HidesWhatItHasLost(PlainTransport):
    """Doesn't count what a server has lost as missed."""

    async def standing(self, group: str) -> Standing:
        return (await super().standing(group))._replace(missed=0)
