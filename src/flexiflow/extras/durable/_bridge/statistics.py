"""The numbers that a bridge counts, and how it shows them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final, final

from flexiflow.extras.durable._surveys import Standing

_UNKNOWN: Final = Standing(0, 0, 0, 0)


@final
@dataclass(frozen=True, slots=True)
class BridgeStatistics:
    """What a bridge has done so far, and how far its group is.

    The numbers up to `relayed` count what this bridge has done. Those from `pending` to `waiting`
    are of the whole group; the worker asks for them three times a lease.

    Attributes:
        stored: events that it stored, not counting scheduled ones. Two bridges count the same ones
            if one of them took over a batch of an outbox that the other had stored.
        delivered: attempts to handle an event that have begun.
        acknowledged: events that were handled, and acknowledged at the transport.
        redelivered: attempts that were not the first of their event.
        failed: attempts that failed.
        dead: events that it moved to the dead letters.
        ignored: events that it was given and that its group does not take.
        held: events that it holds now.
        reconnects: how often the transport was unavailable, and calls were repeated (X6).
        relayed: how many of the stored events came from its outbox (Y4).
        pending: events that were given to workers of the group and are not settled.
        lag: events that were not yet given to any worker of the group.
        missed: events that were lost, or deleted before the group had settled them (X6, X13).
        waiting: events that wait for their next attempt, or for others of their key (X12).
        outbox_trouble: why the outbox can't hand on events at the moment: a fault of the file, or a
            transport that takes no more; None if all is well, or there is no outbox.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.extras.durable import MemoryTransport, open_bridge
        >>> async def main():
        ...     bus = EventBus()
        ...     async with open_bridge(bus, MemoryTransport(), outgoing=["order.*"]) as bridge:
        ...         await bus.publish("order.placed", "A7")
        ...         await bus.publish("mail.sent", "A7")
        ...         print(bridge.statistics().stored)
        >>> anyio.run(main)
        1
    """

    stored: int
    delivered: int
    acknowledged: int
    redelivered: int
    failed: int
    dead: int
    ignored: int
    held: int
    reconnects: int
    relayed: int
    pending: int
    lag: int
    missed: int
    waiting: int
    outbox_trouble: str | None


@final
@dataclass(slots=True)
class Counters:
    """The growing numbers of one bridge; for the attributes see `BridgeStatistics`."""

    stored: int = 0
    delivered: int = 0
    acknowledged: int = 0
    redelivered: int = 0
    failed: int = 0
    dead: int = 0
    ignored: int = 0
    reconnects: int = 0
    relayed: int = 0
    outbox_trouble: str | None = None
    standing: Standing = _UNKNOWN

    def statistics(self, held: int) -> BridgeStatistics:
        """Return the numbers as they are now."""
        own, of_group = asdict(self), self.standing._asdict()
        # The bridge counts the dead letters that are its own.
        del own["standing"], of_group["dead"]
        return BridgeStatistics(**own, held=held, **of_group)
