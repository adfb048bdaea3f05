"""Faults of publishing in the background: B15."""

import contextlib
from contextlib import suppress
from contextvars import Context, ContextVar
from typing import Any

import anyio

from flexiflow import BufferFull
from properties.faults._registry import breaks
from properties.reference.background import PlainBackground
from properties.reference.bus import PlainSubscription
from properties.reference.full_bus import Full, turns


class _Waits(PlainBackground):
    async def publish(self, event: Any, data: Any = None) -> None:
        await super().publish(event, data)
        while self.running:
            await self.freed.wait()


@breaks("B15")
class WaitsForTheHandlers(Full):
    """Lets publishers wait."""

    background_type = _Waits


class _Unlimited(PlainBackground):
    def __init__(self, bus: Any, **options: Any) -> None:
        super().__init__(bus, **options)
        self.limit += 1


@breaks("B15")
class RunsOneMore(Full):
    """Runs one more than the limit."""

    background_type = _Unlimited


class _Youngest(PlainBackground):
    def start(self) -> None:
        self.waiting.reverse()
        super().start()
        self.waiting.reverse()


@breaks("B15")
class BeginsWithTheYoungest(Full):
    """Begins with the event that was published last."""

    background_type = _Youngest


class _Leaves(PlainBackground):
    async def finish(self, exception: object) -> None:
        self.give_up()


@breaks("B15")
class CancelsAtItsEnd(Full):
    """Cancels what runs when the block ends in peace."""

    background_type = _Leaves


class _Finishes(PlainBackground):
    async def finish(self, exception: object) -> None:
        with anyio.CancelScope(shield=True):
            await super().finish(None)


@breaks("B15")
class FinishesFirst(Full):
    """Goes on to the end when the block is left by an exception."""

    background_type = _Finishes


class _Forgets(PlainBackground):
    def give_up(self) -> None:
        super().give_up()
        self.counts.clear()


@breaks("B15")
class ForgetsWhatItDrops(Full):
    """Counts nothing that was not begun."""

    background_type = _Forgets


class _NoContext(PlainBackground):
    def context(self) -> Context:
        context = self.opened_in.copy()
        context.run(self.bus.step_into, self)
        return context


@breaks("B15")
class RunsInItsOwnContext(Full):
    """Runs handlers in the context of the block."""

    background_type = _NoContext


class _Inside(PlainBackground):
    def context(self) -> Context:
        context = super().context()
        context.run(turns.set, turns.get())
        return context


@breaks("B15")
class StaysInItsTurn(Full):
    """Runs handlers within the turns of the publisher."""

    background_type = _Inside


class _Announcing(PlainBackground):
    def context(self) -> Context:
        context = super().context()
        context.run(self.bus.announcing.set, self.bus.announcing.get())
        return context


@breaks("B15")
class StaysInItsAnnouncement(Full):
    """Takes failures in the background of a failure's handler for failures of that handler."""

    background_type = _Announcing


@breaks("B15", "E7")
class StaysInItsAnnouncementForEver(StaysInItsAnnouncement):
    """Does that even when the announcement is over."""

    @contextlib.contextmanager
    def announcement(self) -> Any:
        token = self.announcing.set(True)
        try:
            yield
        finally:
            self.announcing.reset(token)


class _Nowhere(PlainBackground):
    def context(self) -> Context:
        context = super().context()
        context.run(turns.set, ())
        return context


@breaks("B15")
class ForgetsWhoWaits(Full):
    """Runs handlers outside of the turns of the task that waits for them."""

    background_type = _Nowhere


class _Waiting(PlainBackground):
    def is_within(self) -> bool:
        return False


@breaks("B15")
class WaitsForItself(Full):
    """Lets a handler wait for room that only its own end can make."""

    background_type = _Waiting


class _Open(PlainBackground):
    async def publish(self, event: Any, data: Any = None) -> None:
        if self.is_open:
            await super().publish(event, data)


@breaks("B15")
class DropsOutsideItsBlock(Full):
    """Drops in silence what is published outside of the block."""

    background_type = _Open


class _Drops(PlainBackground):
    def __init__(self, bus: Any, **options: Any) -> None:
        super().__init__(bus, **options)
        if self.overflow == "block":
            self.overflow = "drop_newest"


@breaks("B15")
class DropsWhereItShouldBlock(Full):
    """Drops events where publishers should wait."""

    background_type = _Drops


class _Silent(PlainBackground):
    async def publish(self, event: Any, data: Any = None) -> None:
        with suppress(BufferFull):
            await super().publish(event, data)


@breaks("B15")
class DropsWhereItShouldRefuse(Full):
    """Drops silently what it should refuse."""

    background_type = _Silent


class _Narrow(PlainBackground):
    def has_room(self, place: object) -> bool:
        return len(self.waiting) < self.buffer or (self.running < self.limit and not self.waiting)


@breaks("B15")
class CountsWhatBeginsAtOnce(Full):
    """Has no room for a burst that fills its slots and its buffer."""

    background_type = _Narrow


class _Early(PlainBackground):
    async def publish(self, event: Any, data: Any = None) -> None:
        token = self.bus.taken.set(tuple(self.bus.audience(event)))
        try:
            await super().publish(event, data)
        finally:
            self.bus.taken.reset(token)


@breaks("B15")
class TakesItsSnapshotEarly(Full):
    """Calls the handlers that were subscribed at the call."""

    background_type = _Early

    def __init__(self) -> None:
        super().__init__()
        self.taken: ContextVar[tuple[PlainSubscription, ...]] = ContextVar("taken", default=())

    def audience(self, event: str) -> list[PlainSubscription]:
        taken = self.taken.get()
        # For this publish alone, and none that its handlers make.
        self.taken.set(())
        return [*taken] or super().audience(event)


class _Unlogged(PlainBackground):
    def log(self, refusal: object) -> None:
        """Do nothing."""


@breaks("B15")
class IsRefusedSilently(Full):
    """Does not log that an instrument refused a publish."""

    background_type = _Unlogged


class _Raising(PlainBackground):
    def log(self, refusal: Exception) -> None:
        raise refusal


@breaks("B15")
class IsEndedByARefusal(Full):
    """Ends its block when an instrument refuses a publish."""

    background_type = _Raising
