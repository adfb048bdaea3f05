"""Faults in one step of many: who waits for a stream, or for room (S1 to S3, B15)."""

from typing import Any

import anyio

from flexiflow import StreamDeadlock
from properties.faults._registry import breaks
from properties.reference.background import PlainBackground
from properties.reference.full_bus import Full
from properties.reference.receivers import Place, PlainStream, current_task


@breaks("S1")
class LeavesItsReadersWaiting(Full):
    """Lets a reader wait for ever when the stream is left."""

    class Stream(PlainStream):
        def check_open(self) -> None: ...

        async def __anext__(self) -> Any:
            if not self.is_open:
                await anyio.sleep_forever()
            return await super().__anext__()

        def end(self) -> None:
            self.subscription.bus.unsubscribe(self.subscription)
            self.is_open, left = False, self.change
            self.change = anyio.Event()
            if self.blocked:
                left.set()

    stream_type = Stream


@breaks("S1")
class ReadsWithoutAPause(Full):
    """Lets nobody else run while a reader finds events."""

    class Stream(PlainStream):
        async def __anext__(self) -> Any:
            if not (self.buffered or self.blocked):
                return await super().__anext__()
            self.note_reader()
            return self.take()

    stream_type = Stream


@breaks("S2")
class WakesWhoIsCancelled(Full):
    """Wakes the first reader alone, also if it is cancelled in that step."""

    class Stream(PlainStream):
        def __post_init__(self) -> None:
            self.sleeping: list[anyio.Event] = []

        async def __anext__(self) -> Any:
            self.note_reader()
            while not (self.buffered or self.blocked):
                woken = anyio.Event()
                self.sleeping.append(woken)
                await woken.wait()
            return self.take()

        def wake(self) -> None:
            super().wake()
            if self.sleeping:
                self.sleeping.pop(0).set()

    stream_type = Stream


@breaks("S3")
class KnowsNoReader(Full):
    """Takes nobody for the only consumer if who entered the stream does not read."""

    class Stream(PlainStream):
        def note_reader(self) -> None:
            self.is_read = True
            self.consumers.add(current_task())

    stream_type = Stream


@breaks("S3")
class GivesNobodyItsTurn(Full):
    """Refuses a publisher beside a reader that was just started."""

    class Stream(PlainStream):
        async def wait_for_room(self, place: Place) -> None:
            if self.waits_for_itself():
                self.drop()
                raise StreamDeadlock("a", self.size)
            await super().wait_for_room(place)

    stream_type = Stream


@breaks("S3")
class LooksForItselfOnce(Full):
    """Lets a publisher wait on for a reader that has begun to wait for it."""

    def wake_streams(self) -> None: ...


@breaks("S3")
class RefusesOneOfSeveral(Full):
    """Lets several handlers of its only reader wait for it."""

    class Stream(PlainStream):
        def waits_for_itself(self) -> bool:
            return len(self.blocked) < 2 and super().waits_for_itself()

    stream_type = Stream


class _Late(PlainBackground):
    async def publish(self, event: Any, data: Any = None) -> None:
        must_wait = not self.has_room(None)
        await super().publish(event, data)
        if must_wait:
            await anyio.sleep(0.5)


@breaks("B15")
class KeepsItsPublishersWaiting(Full):
    """Lets those that have waited for room wait on when their events have it."""

    background_type = _Late


class _Leaves(PlainBackground):
    async def finish(self, exception: object) -> None:
        self.tell()
        while exception is None and (self.waiting or self.running):
            await self.freed.wait()
        if exception is not None or self.line:
            self.give_up()


@breaks("B15")
class RefusesWhoWaitsForRoom(Full):
    """Refuses those that wait for room as soon as nothing else is left to do."""

    background_type = _Leaves


class _Grouped(PlainBackground):
    async def __aexit__(self, *leaving: object) -> bool:
        try:
            return await super().__aexit__(*leaving)
        except BaseException as exc:
            if self.exits:
                raise BaseExceptionGroup("exits", self.exits) from exc
            raise


@breaks("B15")
class GroupsItsExits(Full):
    """Raises an exit in a group."""

    background_type = _Grouped
