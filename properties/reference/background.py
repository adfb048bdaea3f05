"""Publishing in the background, plainly."""

from collections import Counter
from contextvars import Context, copy_context
from types import SimpleNamespace
from typing import Any, Self

import anyio

from flexiflow import BufferFull, EventBus, PublishRefused, ReceiverClosed, StreamDeadlock
from properties.reference.bus import is_cancelled, logger
from properties.reference.receivers import current_task


class PlainBackground:
    """Publishes while its publishers go on."""

    def __init__(
        self, bus: Any, *, limit: int = 10, buffer: int = 1000, overflow: str = "block"
    ) -> None:
        options: Any = {"limit": limit, "buffer": buffer, "overflow": overflow}
        EventBus().background(**options)
        self.bus = bus
        self.limit, self.buffer, self.overflow = limit, buffer, overflow
        self.waiting: list[tuple[Context, str, Any]] = []
        self.running = 0
        self.counts: Counter[str] = Counter()
        self.is_open = self.is_entered = False
        # The task that waits for all to end, at the end of the block.
        self.waits: object = None
        self.is_starting = False
        # Set, and replaced, when something has ended.
        self.freed = anyio.Event()
        self.contexts: list[Context] = []
        self.exits: list[BaseException] = []
        # Those that wait for room, in order.
        self.line: list[object] = []

    async def __aenter__(self) -> Self:
        if self.is_entered:
            raise ReceiverClosed("the background", "was entered before")
        self.is_entered = True
        self.opened_in = copy_context()
        self.group = anyio.create_task_group()
        await self.group.__aenter__()
        self.is_open = True
        return self

    async def __aexit__(self, kind: object, exception: object, traceback: object) -> bool:
        passing, self.waits = None, current_task()
        self.bus.wake_streams()
        try:
            await self.finish(exception)
        except BaseException as exc:
            self.give_up()
            passing = exc
        self.is_open = False
        await self.group.__aexit__(None, None, None)
        if self.exits:
            raise self.exits[0]
        if passing is not None:
            raise passing
        return False

    async def finish(self, exception: object) -> None:
        """Wait until all has ended; after an exception, give up."""
        if exception is not None:
            self.give_up()
            return
        while self.waiting or self.running or self.line:
            await self.freed.wait()

    def give_up(self) -> None:
        """Begin nothing more, and cancel what runs."""
        self.counts["abandoned"] += len(self.waiting)
        self.waiting.clear()
        self.is_open = False
        self.tell()
        self.group.cancel_scope.cancel()

    async def publish(self, event: Any, data: Any = None) -> None:
        if not self.is_open:
            raise ReceiverClosed("the background", "is closed")
        await EventBus().publish(event)
        item, place = (self.context(), event, data), object()
        while not self.has_room(place):
            if self.overflow == "block":
                await self.wait_for_room(place)
                break
            if self.overflow == "drop_oldest":
                self.waiting.pop(0)
            else:
                if self.overflow == "error":
                    raise BufferFull(None, self.buffer)
                return
        self.waiting.append(item)
        self.start()

    def has_room(self, place: object) -> bool:
        is_first = not self.line or self.line[0] is place
        return is_first and len(self.waiting) + self.running < self.buffer + self.limit

    async def wait_for_room(self, place: object) -> None:
        if self.is_within():
            raise StreamDeadlock(None, self.buffer)
        self.line.append(place)
        try:
            while self.is_open and not self.has_room(place):
                await self.freed.wait()
        finally:
            self.line.remove(place)
            self.tell()
        if not self.is_open:
            raise ReceiverClosed("the background", "is closed")

    def is_within(self) -> bool:
        """Return whether the caller runs in one of the handlers that this calls."""
        return self in self.bus.within.get()

    def context(self) -> Context:
        """Return the context in which handlers run."""
        context = copy_context()
        context.run(self.bus.step_into, self)
        return context

    def start(self) -> None:
        """Start the next one, in order: each starts the one after it."""
        if self.waiting and self.running < self.limit and not self.is_starting:
            self.is_starting = True
            context, event, data = self.waiting.pop(0)
            self.running += 1
            start: Any = self.group.start_soon
            context.run(start, self.run, event, data)
            self.tell()

    async def run(self, event: str, data: Any) -> None:
        self.is_starting = False
        self.start()
        try:
            await self.bus.publish(event, data, on_error="continue")
        except PublishRefused as refusal:
            self.log(refusal)
        except BaseException as exc:
            if isinstance(exc, (Exception, anyio.get_cancelled_exc_class())):
                raise
            self.exits.append(exc)
            self.give_up()
        finally:
            self.running -= 1
            if not is_cancelled():
                self.start()
            self.tell()

    def log(self, refusal: PublishRefused) -> None:
        logger.warning("a publish was refused: %s", refusal)

    def tell(self) -> None:
        self.freed.set()
        self.freed = anyio.Event()

    def statistics(self) -> SimpleNamespace:
        return SimpleNamespace(abandoned=self.counts["abandoned"])
