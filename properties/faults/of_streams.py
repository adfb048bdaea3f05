"""Faults of streams, of waiting, and of topics: S and T."""

from typing import Any

from anyio.lowlevel import checkpoint

from flexiflow import Event
from properties.faults._registry import breaks
from properties.reference.bus import Plain, PlainSubscription
from properties.reference.full_bus import Full
from properties.reference.receivers import PlainExpectation, PlainStream, current_task


@breaks("S1")
class ArmsAtTheFirstRead(Full):
    """Subscribes a stream when it is first read, not when it is entered."""

    class Stream(PlainStream):
        async def __aenter__(self) -> Any:
            await super().__aenter__()
            self.subscription.bus.unsubscribe(self.subscription)
            return self

        async def __anext__(self) -> Event[Any]:
            if not self.is_read:
                self.subscription = self.subscribe(self.receive)
            return await super().__anext__()

    stream_type = Stream


@breaks("S1")
class ForgetsBlockedPublishers(Full):
    """Wakes no blocked publisher when a stream is left."""

    class Stream(PlainStream):
        def end(self) -> None:
            self.subscription.bus.unsubscribe(self.subscription)

    stream_type = Stream


@breaks("S1")
class StaysAfterAnException(Full):
    """Keeps a stream's subscription if its block is left by an exception."""

    class Stream(PlainStream):
        async def __aexit__(self, *leaving: object) -> None:
            if leaving[0] is None:
                self.end()
            else:
                self.is_open = False
                self.size = 9
                self.wake()

    stream_type = Stream


@breaks("S1")
class ExpectsTooEarly(Full):
    """Subscribes an expectation when it is made."""

    class Expectation(PlainExpectation):
        def __post_init__(self) -> None:
            self.early: list[Event[Any]] = []
            self.subscription = self.subscribe(self.early.append)

        async def __aenter__(self) -> Any:
            self.subscription.bus.unsubscribe(self.subscription)
            entered = await super().__aenter__()
            for event in self.early:
                self.notice(event)
            return entered

    expectation_type = Expectation


@breaks("S2")
class DropsTheNewest(Full):
    """Drops the newest event where the policy is to drop the oldest."""

    class Stream(PlainStream):
        async def drop_oldest(self, event: Event[Any]) -> None:
            self.drop()

    stream_type = Stream


@breaks("S2")
class ACancelledReaderLosesOne(Full):
    """Yields between taking an event and giving it to the reader."""

    class Stream(PlainStream):
        async def __anext__(self) -> Event[Any]:
            event = await super().__anext__()
            await checkpoint()
            return event

    stream_type = Stream


@breaks("S2")
class CountsNoDrops(Full):
    """Doesn't count dropped events."""

    class Stream(PlainStream):
        def drop(self) -> None:
            self.received += 1

    stream_type = Stream


@breaks("S2")
class BuffersOneMore(Full):
    """Has a buffer that is larger by one than was asked for."""

    class Stream(PlainStream):
        def __post_init__(self) -> None:
            self.size += 1

    stream_type = Stream


@breaks("S3")
class HangsInItsOwnStream(Full):
    """Lets a consumer wait for itself."""

    class Stream(PlainStream):
        def waits_for_itself(self) -> bool:
            return False

    stream_type = Stream


@breaks("S3")
class SeesNoHandlers(Full):
    """Lets a handler wait for the consumer that waits for it."""

    class Stream(PlainStream):
        def waits_for_itself(self) -> bool:
            return self.consumers == {current_task()}

        async def __aenter__(self) -> Any:
            await super().__aenter__()
            self.subscription.bus.default_delivery = "concurrent"
            return self

    stream_type = Stream


@breaks("S3")
class NobodyElseMayRead(Full):
    """Treats the task that entered the stream as its only reader for ever."""

    class Stream(PlainStream):
        def note_reader(self) -> None:
            pass

    stream_type = Stream


@breaks("S4", "S2")
class TheNewestGoesFirst(Full):
    """Lets a newer event overtake an older one, whose publisher waits."""

    class Stream(PlainStream):
        def take(self) -> Event[Any]:
            self.blocked.reverse()
            event = super().take()
            self.blocked.reverse()
            return event

    stream_type = Stream


@breaks("S4")
class ExpectsTheLast(Full):
    """Returns the last event that comes before the waiter looks."""

    class Expectation(PlainExpectation):
        def settle(self) -> None:
            self.settled.set()

    expectation_type = Expectation


@breaks("S4", "S1")
class WaitersStay(Full):
    """Keeps the subscription of a waiter that has given up."""

    class Expectation(PlainExpectation):
        async def __aexit__(self, *_: object) -> None:
            pass

    expectation_type = Expectation


@breaks("S4")
class AWaitersFilterFailsThePublish(Full):
    """Raises what the filter of a waiter raises at the publisher too."""

    class Expectation(PlainExpectation):
        def notice(self, event: Event[Any]) -> None:
            super().notice(event)
            if self.failure is not None:
                raise self.failure

    expectation_type = Expectation


@breaks("T1")
class WantsAPlainStr(Plain):
    """Refuses a name whose class is not `str` itself."""

    async def publish(self, event: Any, data: Any = None, **options: Any) -> Any:
        if isinstance(event, str) and type(event) is not str:
            raise TypeError("a name must be a str")
        return await super().publish(event, data, **options)


@breaks("T1")
class TopicsHearTopics(Plain):
    """Keeps topics apart from names."""

    def hears(self, subscription: PlainSubscription, event: str) -> bool:
        return type(subscription.event_name) is type(event) and super().hears(subscription, event)
