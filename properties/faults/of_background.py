"""Faults of publishing in the background: B15."""

from contextvars import Context, copy_context
from typing import Any

import anyio

from properties.faults._registry import breaks
from properties.reference.background import PlainBackground
from properties.reference.full_bus import Full


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
    async def __aenter__(self) -> Any:
        self.at_entry = copy_context()
        return await super().__aenter__()

    def context(self) -> Context:
        context = self.at_entry.copy()
        context.run(self.bus.step_outside, self)
        return context


@breaks("B15")
class RunsInItsOwnContext(Full):
    """Runs handlers in the context of the block."""

    background_type = _NoContext


class _Inside(PlainBackground):
    def context(self) -> Context:
        context = copy_context()
        context.run(self.bus.within.set, self)
        return context


@breaks("B15")
class StaysInItsTurn(Full):
    """Runs handlers within the turns of the publisher."""

    background_type = _Inside


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
