"""Faults of transports: sizes (X14), and what a server has lost (X13)."""

from collections.abc import Sequence

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
from properties.faults.plain_transport import FaultyLease, FaultyTransport


@breaks("X14")
class HandsOutWhatIsTooLarge(FaultyTransport):
    """Reads any body into memory."""

    class Generous(FaultyLease):
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
class IgnoresSizes(FaultyTransport):
    """Counts records, whatever size they are of."""

    class Generous(FaultyLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            return await super().receive(Room(room.records, waiting=room.waiting, again=room.again))

    lease_type = Generous


@breaks("X14")
class StoresWhatIsTooLarge(FaultyTransport):
    """Refuses nothing."""

    async def store(self, batch: Batch) -> None:
        most, self.memory._max_event_bytes = self.memory._max_event_bytes, 1_000_000
        try:
            await super().store(batch)
        finally:
            self.memory._max_event_bytes = most


@breaks("X14")
class StoresTheOthers(FaultyTransport):
    """Stores of a batch with a record that is too large those that are not."""

    async def store(self, batch: Batch) -> None:
        small = tuple(e for e in batch.records if len(e.body) <= self.max_event_bytes)
        try:
            await super().store(batch)
        except EventTooLarge:
            await super().store(batch._replace(records=small))
            raise


@breaks("X14")
class BuriesNoBody(FaultyTransport):
    """Makes a dead letter of what was given without its body, without it."""

    class Careless(FaultyLease):
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
class RefusesTheLargest(FaultyTransport):
    """Takes less than it says."""

    async def store(self, batch: Batch) -> None:
        for each in batch.records:
            if len(each.body) >= self.max_event_bytes:
                raise EventTooLarge("an event", len(each.body), self.max_event_bytes)
        await super().store(batch)


@breaks("X14")
class TellsThatItTakesMore(FaultyTransport):
    """Tells bridges of a size that it refuses."""

    @property
    def max_event_bytes(self) -> int:
        return 2 * super().max_event_bytes


@breaks("X13")
class HidesWhatItHasLost(FaultyTransport):
    """Counts nothing as missed that a server has lost."""

    async def standing(self, group: str) -> Standing:
        return (await super().standing(group))._replace(missed=0)
