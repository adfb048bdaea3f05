"""Faults of transports: scheduled events (Y3)."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from math import inf

from anyio.lowlevel import checkpoint

from flexiflow._clock import time_of_day
from flexiflow.extras.durable import (
    Batch,
    Delivery,
    Record,
    Room,
    ScheduledRecord,
    ScheduleFull,
    Stored,
)
from flexiflow.extras.durable._memory.schedule import Schedule, _Used
from properties.faults._transport_registry import breaks
from properties.reference.transport import PlainLease, PlainTransport

NEVER = 1e9
"""A second that no script reaches."""


@breaks("Y3")
class StoresAtOnce(PlainTransport):
    """Stores what is scheduled without waiting for its time."""

    async def schedule(
        self, ticket: str, record: Record, *, at: float | None = None, delay: float | None = None
    ) -> None:
        await super().schedule(ticket, record, delay=0.0)


@breaks("Y3")
class StoresEarly(PlainTransport):
    """Puts into its log all that is due within the next few seconds."""

    async def tail(
        self, after: Sequence[str] | None, limit: int, wait: float
    ) -> tuple[Sequence[Stored], Sequence[str]]:
        for log in self.memory._state.logs:
            log.put_due(time_of_day() + 5)
        return await super().tail(after, limit, wait)


@breaks("Y3")
class CancelsInTheListAlone(PlainTransport):
    """Stores what was cancelled, and only does not list it any more."""

    def __init__(self, **options: int) -> None:
        super().__init__(**options)
        self.cancelled = set[str]()

    async def cancel(self, ticket: str) -> bool:
        log = self.memory._state.logs[int(ticket.split("-")[1])]
        if ticket not in log.schedule._records:
            return await super().cancel(ticket)
        self.cancelled.add(ticket)
        return True

    async def scheduled(
        self, *, after: ScheduledRecord | None = None, limit: int = 100
    ) -> Sequence[ScheduledRecord]:
        found = await super().scheduled(after=after)
        return [each for each in found if each.ticket not in self.cancelled][:limit]


@breaks("Y3")
class ListsByTicket(PlainTransport):
    """Lists what is scheduled in the order of the tickets."""

    async def scheduled(
        self, *, after: ScheduledRecord | None = None, limit: int = 100
    ) -> Sequence[ScheduledRecord]:
        found = sorted(await super().scheduled(), key=lambda each: each.ticket[::-1])
        last = "" if after is None else after.ticket[::-1]
        return [each for each in found if each.ticket[::-1] > last][:limit]


@breaks("Y3")
class ListsAnotherPartition(PlainTransport):
    """Lists what is scheduled as of another partition each time."""

    numbers = 0

    async def scheduled(
        self, *, after: ScheduledRecord | None = None, limit: int = 100
    ) -> Sequence[ScheduledRecord]:
        self.numbers += after is None
        found = await super().scheduled(after=after, limit=limit)
        return [each._replace(partition=self.numbers % 2) for each in found]


@breaks("Y3")
class HalvesDelays(PlainTransport):
    """Stores what is scheduled after half of its delay."""

    async def schedule(
        self, ticket: str, record: Record, *, at: float | None = None, delay: float | None = None
    ) -> None:
        await super().schedule(ticket, record, at=at, delay=delay and delay / 2)


@breaks("Y3")
class TakesATimeForADelay(PlainTransport):
    """Adds the present time to what is a time already."""

    async def schedule(
        self, ticket: str, record: Record, *, at: float | None = None, delay: float | None = None
    ) -> None:
        given = at + time_of_day() if at is not None else None
        await super().schedule(ticket, record, at=given, delay=delay)


@breaks("Y3")
class NeverStores(PlainTransport):
    """Keeps what is scheduled for ever."""

    async def schedule(
        self, ticket: str, record: Record, *, at: float | None = None, delay: float | None = None
    ) -> None:
        await super().schedule(ticket, record, at=inf)


@breaks("Y3")
class SchedulesNothing(PlainTransport):
    """Forgets what is scheduled."""

    async def schedule(
        self, ticket: str, record: Record, *, at: float | None = None, delay: float | None = None
    ) -> None:
        await checkpoint()


@breaks("Y3")
class ForgetsWithTheConnection(PlainTransport):
    """Loses what is scheduled when a connection is closed."""

    def closed(self) -> None:
        for log in self.memory._state.logs:
            log.schedule = Schedule(0, NEVER)


@breaks("Y3")
class StoresBeforeWhatIsDue(PlainTransport):
    """Puts what is due into its log only behind the batch that is stored then."""

    async def store(self, batch: Batch) -> None:
        schedules = [log.schedule for log in self.memory._state.logs]
        for log in self.memory._state.logs:
            log.schedule = Schedule(0, NEVER)
        try:
            await super().store(batch)
        finally:
            for log, schedule in zip(self.memory._state.logs, schedules, strict=True):
                log.schedule = schedule


@breaks("Y3")
class GivesBeforeWhatIsDue(PlainTransport):
    """Puts what is due into its log when somebody stores or looks on, but not for a worker."""

    class Hasty(PlainLease):
        async def receive(self, room: Room) -> Sequence[Delivery]:
            schedule, self.log.schedule = self.log.schedule, Schedule(0, NEVER)
            try:
                return await super().receive(room)
            finally:
                self.log.schedule = schedule

    lease_type = Hasty


@breaks("Y3")
class WakesNobody(PlainTransport):
    """Lets a worker that waits sleep, also if a record is due meanwhile."""

    class Asleep(PlainLease):
        async def wait(self, seconds: float) -> None:
            schedule, self.log.schedule = self.log.schedule, Schedule(0, NEVER)
            try:
                await super().wait(seconds)
            finally:
                self.log.schedule = schedule

    lease_type = Asleep


@breaks("Y3")
class IgnoresTimesOnceDue(PlainTransport):
    """Puts into the log in the order of their tickets what is due at the same look."""

    async def tail(
        self, after: Sequence[str] | None, limit: int, wait: float
    ) -> tuple[Sequence[Stored], Sequence[str]]:
        now = time_of_day()
        for log in self.memory._state.logs:
            due = [each for each in log.schedule.after(None) if each.due <= now]
            for each in due:
                log.schedule.cancel(each.ticket, now)
                log.schedule.add(each.ticket, each.record, due[0].due)
        return await super().tail(after, limit, wait)


@breaks("Y3")
class StoresTheLastTicketFirst(PlainTransport):
    """Puts into the log the greatest ticket first, of those with the same time."""

    def __init__(self, **options: int) -> None:
        super().__init__(**options)
        self.numbers = count()

    def new_ticket(self, key: str | None) -> str:
        name, partition, _ = super().new_ticket(key).split("-")
        return f"{name}-{partition}-{next(self.numbers):032x}"

    async def schedule(
        self, ticket: str, record: Record, *, at: float | None = None, delay: float | None = None
    ) -> None:
        number = int(ticket.split("-")[2], 16)
        given = at - number / 1e6 if at is not None else None
        await super().schedule(ticket, record, at=given, delay=delay)


@breaks("Y3")
class DropsWhatIsDueWhileFull(PlainTransport):
    """Drops what is due while its log is full."""

    def drop(self) -> None:
        now = time_of_day()
        for log in self.memory._state.logs:
            if len(log.records) >= self.max_length and log.schedule.next_at <= now:
                log.schedule.take_due(now)

    async def tail(
        self, after: Sequence[str] | None, limit: int, wait: float
    ) -> tuple[Sequence[Stored], Sequence[str]]:
        self.drop()
        return await super().tail(after, limit, wait)


@breaks("Y3")
class KeepsWhatIsDueWhileFull(PlainTransport):
    """Keeps what is due while its log is full."""

    async def tail(
        self, after: Sequence[str] | None, limit: int, wait: float
    ) -> tuple[Sequence[Stored], Sequence[str]]:
        kept = [log.schedule for log in self.memory._state.logs]
        for log in self.memory._state.logs:
            if len(log.records) >= self.max_length:
                log.schedule = Schedule(0, NEVER)
        try:
            return await super().tail(after, limit, wait)
        finally:
            for log, schedule in zip(self.memory._state.logs, kept, strict=True):
                log.schedule = schedule


@breaks("Y3")
class SchedulesTwice(PlainTransport):
    """Schedules another record when a call is repeated."""

    def __init__(self, **options: int) -> None:
        super().__init__(**options)
        self.seen = set[str]()

    async def schedule(
        self, ticket: str, record: Record, *, at: float | None = None, delay: float | None = None
    ) -> None:
        used = self.new_ticket(record.key) if ticket in self.seen else ticket
        self.seen.add(ticket)
        await super().schedule(used, record, at=at, delay=delay)


@breaks("Y3")
class ForgetsTicketsThatAreStored(PlainTransport):
    """Schedules anew what was put into its log before."""

    async def schedule(
        self, ticket: str, record: Record, *, at: float | None = None, delay: float | None = None
    ) -> None:
        for log in self.memory._state.logs:
            log.schedule._used = {
                name: used for name, used in log.schedule._used.items() if used.is_cancelled
            }
        await super().schedule(ticket, record, at=at, delay=delay)


@breaks("Y3")
class ForgetsTicketsThatAreCancelled(PlainTransport):
    """Schedules anew what was cancelled before."""

    async def schedule(
        self, ticket: str, record: Record, *, at: float | None = None, delay: float | None = None
    ) -> None:
        for log in self.memory._state.logs:
            log.schedule._used = {
                name: used for name, used in log.schedule._used.items() if not used.is_cancelled
            }
        await super().schedule(ticket, record, at=at, delay=delay)


@breaks("Y3")
class GivesOneTicket(PlainTransport):
    """Gives the same ticket for all records of a key."""

    def __init__(self, **options: int) -> None:
        super().__init__(**options)
        self.tickets: dict[str | None, str] = {}

    def new_ticket(self, key: str | None) -> str:
        return self.tickets.setdefault(key, super().new_ticket(key))


@breaks("Y3")
class GivesOddTickets(PlainTransport):
    """Gives tickets with characters that have to be quoted elsewhere."""

    def new_ticket(self, key: str | None) -> str:
        return super().new_ticket(key).replace("-", "/")

    async def schedule(
        self, ticket: str, record: Record, *, at: float | None = None, delay: float | None = None
    ) -> None:
        await super().schedule(ticket.replace("/", "-"), record, at=at, delay=delay)


@breaks("Y3")
class CancelsNothing(PlainTransport):
    """Says that a record was cancelled, and keeps it."""

    async def cancel(self, ticket: str) -> bool:
        log = self.memory._state.logs[int(ticket.split("-")[1])]
        kept = [each for each in log.schedule.after(None) if each.ticket == ticket]
        is_cancelled = await super().cancel(ticket)
        for each in kept:
            log.schedule.add(each.ticket, each.record, each.due)
        return is_cancelled


@breaks("Y3")
class CancelsWhatIsStored(PlainTransport):
    """Says that a record was cancelled that is in its log."""

    async def cancel(self, ticket: str) -> bool:
        await super().cancel(ticket)
        return True


@breaks("Y3")
class CancelsSilently(PlainTransport):
    """Never says that a record was cancelled."""

    async def cancel(self, ticket: str) -> bool:
        await super().cancel(ticket)
        return False


@breaks("Y3")
class ForgetsThatItCancelled(PlainTransport):
    """Says False when it is asked again to cancel a record."""

    async def cancel(self, ticket: str) -> bool:
        log = self.memory._state.logs[int(ticket.split("-")[1])]
        is_new = any(each.ticket == ticket for each in log.schedule.after(None))
        return await super().cancel(ticket) and is_new


@breaks("Y3")
class CancelsTheNext(PlainTransport):
    """Cancels the record that is due next."""

    async def cancel(self, ticket: str) -> bool:
        is_cancelled = await super().cancel(ticket)
        for each in await self.scheduled(limit=1):
            await super().cancel(each.ticket)
        return is_cancelled


@breaks("Y3")
class SchedulesAnyNumber(PlainTransport):
    """Schedules more than it may."""

    def __init__(self, **options: int) -> None:
        super().__init__(**{**options, "max_scheduled": 1_000})


@breaks("Y3")
class SchedulesOneLess(PlainTransport):
    """Refuses the last one that it might schedule."""

    async def schedule(
        self, ticket: str, record: Record, *, at: float | None = None, delay: float | None = None
    ) -> None:
        if len(await self.scheduled()) == self.max_scheduled - 1:
            raise ScheduleFull(self.address, self.max_scheduled)
        await super().schedule(ticket, record, at=at, delay=delay)


@breaks("Y3")
class DropsWhatItHasNoRoomFor(PlainTransport):
    """Drops what is one too many, and does not tell."""

    async def schedule(
        self, ticket: str, record: Record, *, at: float | None = None, delay: float | None = None
    ) -> None:
        try:
            await super().schedule(ticket, record, at=at, delay=delay)
        except ScheduleFull:
            return


@breaks("Y3")
class RefusesWhatItKnows(PlainTransport):
    """Refuses a call that is repeated, while it can take no more."""

    async def schedule(
        self, ticket: str, record: Record, *, at: float | None = None, delay: float | None = None
    ) -> None:
        log = self.memory._state.logs[int(ticket.split("-")[1])]
        if log.schedule.knows(ticket):
            raise ScheduleFull(self.address, self.max_scheduled)
        await super().schedule(ticket, record, at=at, delay=delay)


@breaks("Y3")
class ListsTheFirstOnes(PlainTransport):
    """Lists the first page of what is scheduled, whatever `after` is."""

    async def scheduled(
        self, *, after: ScheduledRecord | None = None, limit: int = 100
    ) -> Sequence[ScheduledRecord]:
        return await super().scheduled(limit=limit)


@breaks("Y3")
class ListsTheLastFirst(PlainTransport):
    """Lists a page of what is scheduled in the reverse order."""

    async def scheduled(
        self, *, after: ScheduledRecord | None = None, limit: int = 100
    ) -> Sequence[ScheduledRecord]:
        found = await super().scheduled(after=after, limit=limit)
        return [*reversed(found)] if after is None else found


@breaks("Y3")
class ListsOnePartition(PlainTransport):
    """Lists what is scheduled in the first partition alone."""

    async def scheduled(
        self, *, after: ScheduledRecord | None = None, limit: int = 100
    ) -> Sequence[ScheduledRecord]:
        found = await super().scheduled(after=after, limit=limit)
        return [each for each in found if each.partition == 0]


@breaks("Y3")
class ListsNoKeys(PlainTransport):
    """Lists what is scheduled without its keys."""

    async def scheduled(
        self, *, after: ScheduledRecord | None = None, limit: int = 100
    ) -> Sequence[ScheduledRecord]:
        found = await super().scheduled(after=after, limit=limit)
        return [each._replace(record=each.record._replace(key=None)) for each in found]


@breaks("Y3")
class TakesAnyTicket(PlainTransport):
    """Takes tickets of other transports for its own."""

    def own(self, ticket: str) -> str:
        return f"{self.memory._state.name}-{ticket.split('-', 1)[1]}"

    async def schedule(
        self, ticket: str, record: Record, *, at: float | None = None, delay: float | None = None
    ) -> None:
        await super().schedule(self.own(ticket), record, at=at, delay=delay)


@breaks("Y3")
class CancelsAnyTicket(PlainTransport):
    """Knows nothing of tickets of other transports, and says so."""

    async def cancel(self, ticket: str) -> bool:
        if not ticket.startswith(self.memory._state.name):
            return False
        return await super().cancel(ticket)


@breaks("Y3")
class LosesWhatIsDueWhileClosed(PlainTransport):
    """Drops what is due while nobody has opened it."""

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[PlainTransport]:
        for log in self.memory._state.logs:
            log.schedule._used.update(
                (each.ticket, _Used(is_cancelled=False, at=0.0))
                for each in log.schedule.after(None)
            )
            log.schedule._order.clear()
        async with super().connect():
            yield self


@breaks("Y3")
class SpreadsScheduledKeys(PlainTransport):
    """Ignores the key of what is scheduled."""

    def new_ticket(self, key: str | None) -> str:
        return super().new_ticket(None)
