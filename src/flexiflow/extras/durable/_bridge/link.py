"""What the parts of a bridge share: its two ends, and calls that outlast an outage (X6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar, final

import anyio

from flexiflow._reporting import logger
from flexiflow.extras.durable._bridge.statistics import Counters
from flexiflow.extras.durable._errors import (
    LogFull,
    NotReplicated,
    ScheduleFull,
    TransportUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flexiflow._bus import EventBus
    from flexiflow.extras.durable._bridge.arguments import Settings
    from flexiflow.extras.durable._transport import Transport

T = TypeVar("T")

_FIRST_DELAY: Final = 0.05
_LONGEST_DELAY: Final = 1.0


@final
class Link:
    """What the parts of a bridge share; repeats calls while the transport is unavailable.

    Each outage is logged and counted once. A handler may keep an event, and thereby this: so it
    does not refer to the open connection.

    Args:
        bus: the bus.
        transport: the transport.
        settings: the arguments of `open_bridge`.

    Attributes:
        counters: the statistics.
    """

    def __init__(self, bus: EventBus, transport: Transport, settings: Settings) -> None:
        self.bus = bus
        self.transport = transport
        self.settings = settings
        self.counters: Counters = Counters()
        self._failing = 0

    async def outlast(self, call: Callable[[], Awaitable[T]], *, until: float | None = None) -> T:
        """Call a transport until it is available, and return the result.

        Args:
            call: the call; it must be one that may be repeated after a failure.
            until: the time after which it is not repeated; None to repeat it for ever.

        Raises:
            TransportUnavailable: the transport did not become available in time.
            ScheduleFull: at once.
            TransportError: any other one is raised at once.
        """
        outage: TransportUnavailable | None = None
        delay = _FIRST_DELAY
        try:
            while True:
                try:
                    result = await call()
                except TransportUnavailable as exc:
                    outage = self._seen(exc, outage)
                    is_late = until is not None and anyio.current_time() + delay > until
                    if is_late or isinstance(exc, ScheduleFull):
                        # A full schedule has room when something is due, maybe only tomorrow.
                        raise
                else:
                    outage = self._over(outage)
                    return result
                await anyio.sleep(delay)
                delay = min(2 * delay, _LONGEST_DELAY)
        finally:
            self._failing -= outage is not None

    def _seen(
        self, problem: TransportUnavailable, outage: TransportUnavailable | None
    ) -> TransportUnavailable | None:
        """Log and count an outage when a call first sees it, and return it; None if it is none."""
        if isinstance(problem, LogFull | NotReplicated | ScheduleFull):
            # The transport answers, and merely can't take one more event now.
            return self._over(outage)
        if outage is None:
            if not self._failing:
                self.counters.reconnects += 1
                logger.warning("%s; trying until it is", problem)
            self._failing += 1
        return problem

    def _over(self, outage: TransportUnavailable | None) -> TransportUnavailable | None:
        """Log the end of an outage, if there was one, and return None."""
        if outage is not None:
            self._failing -= 1
            if not self._failing:
                logger.info("%s is available again", outage.address)
        return None


@final
class Signal:
    """An event that can be waited for again and again, by one task."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        """Wake the task that waits, or end its next wait at once."""
        self._event.set()

    async def wait(self) -> None:
        """Wait until it is set, and unset it; always a checkpoint."""
        await self._event.wait()
        self._event = anyio.Event()
