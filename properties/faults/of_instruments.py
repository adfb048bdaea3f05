"""Faults of instruments: I1 to I3."""

from collections.abc import Iterable
from contextvars import copy_context
from typing import Any

from flexiflow import Event, PublishRefused
from properties.faults._registry import breaks
from properties.reference.bus import PlainSubscription, Publishing, logger
from properties.reference.full_bus import Entered, Full


@breaks("I1")
class WatchesFromNowOn(Full):
    """Makes an instrument watch the rest of a publish that has begun."""

    def enter(
        self, method: str, instruments: Iterable[Any], event: Event[Any], *subscription: Any
    ) -> Entered:
        return super().enter(method, [*self.instruments], event, *subscription)


@breaks("I1")
class RemovesNothing(Full):
    """Returns True as if it had removed an instrument, and has not."""

    def remove_instrument(self, instrument: Any) -> bool:
        return instrument in self.instruments


@breaks("I1")
class RemovesTwice(Full):
    """Returns True each time that an instrument is removed."""

    def remove_instrument(self, instrument: Any) -> bool:
        super().remove_instrument(instrument)
        return True


@breaks("I2")
class TheLastIsOutermost(Full):
    """Adds each instrument as the outermost."""

    def add_instrument(self, instrument: Any) -> None:
        self.instruments.insert(0, instrument)


@breaks("I2")
class ExitsInOrder(Full):
    """Exits the context managers in the order in which they were entered."""

    def leave(self, entered: Entered, exc: BaseException | None) -> None:
        super().leave(entered[::-1], exc)


@breaks("I2")
class LosesTheContext(Full):
    """Enters an instrument's context managers in a context of their own."""

    def enter(
        self, method: str, instruments: Iterable[Any], event: Event[Any], *subscription: Any
    ) -> Entered:
        return copy_context().run(super().enter, method, instruments, event, *subscription)


@breaks("I2")
class ShowsWhatItCaught(Full):
    """Shows an instrument the exception that left the handler, unclassified."""

    def classified(self, exc: BaseException) -> BaseException | None:
        return exc


@breaks("I2")
class LetsAnInstrumentSwallow(Full):
    """Drops a failure if an instrument's context manager returns True."""

    async def start(self, subscription: PlainSubscription, publishing: Publishing) -> None:
        self.swallowed = False
        try:
            await super().start(subscription, publishing)
        except Exception:
            if not self.swallowed:
                raise

    def answered(self, answer: object) -> None:
        self.swallowed = answer is True


@breaks("I3")
class LogsItEachTime(Full):
    """Keeps an instrument that has failed."""

    def take_out(self, instrument: Any, failure: BaseException) -> None:
        logger.error("an instrument failed", exc_info=failure)


@breaks("I3")
class AFailingInstrumentEndsThePublish(Full):
    """Raises an instrument's exception out of `publish`."""

    def take_out(self, instrument: Any, failure: BaseException) -> None:
        super().take_out(instrument, failure)
        raise failure


@breaks("I3")
class LeavesTheOthersEntered(Full):
    """Exits no other context manager once one has failed."""

    def leave(self, entered: Entered, exc: BaseException | None) -> None:
        for each, manager in reversed(entered):
            count = len(self.instruments)
            super().leave([(each, manager)], exc)
            if len(self.instruments) < count:
                return


@breaks("I3")
class RefusesTooLate(Full):
    """Calls the handlers of a publish that an instrument refuses."""

    async def publish(self, event: Any, data: Any = None, **options: Any) -> Any:
        try:
            return await super().publish(event, data, **options)
        except PublishRefused:
            await self.publish_watched([], event, data, **options)
            raise


@breaks("I3")
class ARefusalIsAFailure(Full):
    """Takes out an instrument that refuses a publish."""

    def enter(
        self, method: str, instruments: Iterable[Any], event: Event[Any], *subscription: Any
    ) -> Entered:
        try:
            return super().enter(method, instruments, event, *subscription)
        except PublishRefused as refusal:
            for each in instruments:
                self.take_out(each, refusal)
            return []


@breaks("I3")
class MayRefuseFailures(Full):
    """Publishes no failure if an instrument refuses that."""

    async def announce(self, failed: Any) -> None:
        try:
            for each in self.instruments:
                each.publishing(Event("event.handler.failed", None))
        except PublishRefused:
            return
        await super().announce(failed)
