"""Opening a bridge between a bus and a transport, and how an event passes (X1 to X8, X10).

Out: of all handlers of an outgoing event, the bridge's own is called first (`Place`). It writes
the event down as a CloudEvent (`Encoder`) and puts it into the `Batcher`, where the publish waits
until the transport has stored the batch that the event is in. Storing a batch may be repeated: its
number tells the transport that it has the batch already (X2).

In: a `Worker` joins the group and leases partitions. For each lease an `Intake` receives events and
holds them. `Lanes` let one event of a key through at a time, a `Queue` decides which one is next,
and the tasks of a `Crew` publish it on the bus. When its handlers have ended, the worker decides
the outcome, and the intake writes it to the transport. After a crash before that the event is
handled again: at least once, not exactly once (X1).

Opening: first the connection, then the batcher's task, then the relay of a user's outbox
(`relaying`), then the worker joins, and only then does the bridge take its place on the bus.
Leaving is the reverse: the worker receives no more, handlers have `grace` seconds to end, what is
left is given back; the relay hands on what was committed; then the place stops storing, the batcher
stores what it still has, and the connection is closed. After an exception or a cancellation nothing
is waited for but giving back and storing, for at most `block.PATIENCE` seconds each. `Lifetime`
keeps what ended the bridge; a bridge that failed leaves its place on the bus, where each publish
fails (X10).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flexiflow.extras.durable._bridge.arguments import (
    Settings,
    check_ends,
    check_settings,
    check_start,
    patterns_of,
)
from flexiflow.extras.durable._bridge.block import Block
from flexiflow.extras.durable._bridge.cloudevents import JSON
from flexiflow.extras.durable._bridge.link import Link
from flexiflow.extras.durable._bridge.relaying import check_outbox
from flexiflow.extras.durable._bridge.schemas import check_schemas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from flexiflow._bus import EventBus
    from flexiflow.extras.durable._bridge.bridge import Bridge
    from flexiflow.extras.durable._bridge.cloudevents import Codec
    from flexiflow.extras.durable._bridge.relaying import OutboxFile
    from flexiflow.extras.durable._bridge.schemas import Schema
    from flexiflow.extras.durable._transport import Transport


def open_bridge(  # noqa: PLR0913  most are numbers, each with a value that suits most
    bus: EventBus,
    transport: Transport,
    *,
    outgoing: Iterable[str] = (),
    incoming: Iterable[str] = (),
    group: str | None = None,
    consumer: str | None = None,
    source: str | None = None,
    key: Callable[[Any], str | None] | None = None,
    limit: int = 10,
    prefetch: int = 100,
    prefetch_bytes: int = 16 * 1024 * 1024,
    max_waiting: int = 100_000,
    max_attempts: int = 30,
    max_deliveries: int = 5,
    retry_delay: float = 0.1,
    lease: float = 10.0,
    grace: float = 10.0,
    store_timeout: float = 10.0,
    codec: Codec = JSON,
    schemas: Iterable[Schema[Any]] = (),
    max_depth: int = 100,
    start: datetime | str | Sequence[str] = "oldest",
    outbox: OutboxFile | None = None,
) -> AbstractAsyncContextManager[Bridge]:
    """Store the events that a bus publishes, and publish on it the events that others have stored.

    Returns an async context manager; the bridge is open as long as its block lasts. When the block
    ends, handlers that are running have `grace` seconds, and all other events are given back. If an
    exception or a cancellation ends the block, all events are given back at once (X5). A problem of
    the bridge itself that would not get better, such as `TransportUnusable` or `ConsumerInUse`,
    cancels the block and is raised from it.

    After such an end no outgoing event is lost silently: publishing one fails with `BridgeClosed`
    until a bridge of the same bus, transport and `outgoing` is opened, or `Bridge.forget` is
    called (X10).

    A bridge without patterns stores nothing that is published, and takes nothing: it is for
    `Bridge.schedule`, `cancel` and `replay`, and for an outbox.

    Args:
        bus: the bus.
        transport: where events outlive the process.
        outgoing: patterns of the events that are stored before their handlers run (X1). An event
            that can't be stored is a failure of its publish.
        incoming: patterns of the events that the group takes. Each event is published on the bus,
            and acknowledged when all its handlers have succeeded.
        group: the group whose workers share the incoming events; a name of letters, digits, ".",
            "_" and "-".
        consumer: the worker's name, of the same characters; no other worker of the group may have
            it. None for a random name.
        source: the publisher's name, which CloudEvents requires; None for the group's name, or
            "flexiflow" without a group.
        key: returns the key of an outgoing event, given its payload; not asked for other events,
            such as scheduled ones that are not outgoing. Events of one key are handled one at a
            time, in order (X4). Without a function, or where it returns None, the order is open.
        limit: how many incoming events are handled at once, 1 or more.
        prefetch: how many events are held at most, for each partition that this worker reads; 1 or
            more.
        prefetch_bytes: how many bytes of stored events are held at most, of all partitions
            together; at least the transport's `max_event_bytes` (X14).
        max_waiting: while this many events of the group wait for their next attempt, or for others
            of their key, no new ones are received; 1 or more. Several partitions share the number
            equally (X12).
        max_attempts: after this many failed attempts an event becomes a dead letter (X3); 1 or
            more.
        max_deliveries: after this many attempts that never ended, too, an event becomes a dead
            letter; 1 or more.
        retry_delay: seconds before the second attempt, 0 or more; doubled before each further one,
            up to 30, or up to `retry_delay` where that is more. Meanwhile the event waits at the
            transport, also over restarts, and does not count as held (X12).
        lease: seconds of silence after which a worker counts as dead, more than 0; the events it
            held are given to other workers, if there are any (X11).
        grace: seconds that handlers have to end when the block does, 0 or more.
        store_timeout: for how many seconds to try to store an event, more than 0; when the block
            ends, all events that are not yet stored have as many together.
        codec: encodes and decodes payloads (X7).
        schemas: how the payloads of some events are written and read, one for each of them; those
            of all others are what the codec takes (Y1).
        max_depth: an event that comes in is a dead letter at once if it is deeper than this in a
            chain of stored events, each published while the one before was handled; 1 or more (Y2).
        start: where the group begins if this bridge is its first: with the "oldest" event that is
            kept; with the next "new" one; with the first that was stored at a time, given with its
            time zone; or behind the position of an event, for several partitions a position in each
            of them. It is ignored where there is a group (Y5).
        outbox: an outbox in a file, as `Outbox.at` returns it; the events that are committed there
            are stored in the transport, once each, whether they are outgoing or not (Y4). This bus
            does not see them on the way. If several bridges have the same outbox, also in other
            processes, one of them does this work. While the file can't be used, the bridge tries
            again, and everything else goes on.

    Every count is an int of at most 10**12.

    Raises:
        ValueError: a number out of its range; a malformed pattern or name; outgoing and incoming
            patterns that overlap (X8); incoming ones without a group; a key without outgoing ones;
            two schemas of one event; a `start` without a time zone, or that is no position; on
            entering the block, `prefetch_bytes` below the transport's `max_event_bytes`, an outbox
            that takes larger events than the transport, or a `start` that is no position of the
            transport.
        StartTrimmed: on entering the block: events behind the position `start` were deleted.
        TypeError: an argument of the wrong type.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.extras.durable import MemoryTransport, open_bridge
        >>> async def main():
        ...     transport, shop, billing = MemoryTransport(), EventBus(), EventBus()
        ...     async with (
        ...         open_bridge(shop, transport, outgoing=["order.*"]),
        ...         open_bridge(billing, transport, incoming=["order.*"], group="billing"),
        ...         billing.expect("order.placed") as placed,
        ...     ):
        ...         await shop.publish("order.placed", "A7")
        ...         print((await placed).data)
        >>> anyio.run(main)
        A7
    """
    check_ends(bus, transport)
    settings = Settings(
        outgoing=patterns_of("outgoing", outgoing),
        incoming=patterns_of("incoming", incoming),
        group=group,
        consumer=consumer,
        source=source,
        key=key,
        limit=limit,
        prefetch=prefetch,
        prefetch_bytes=prefetch_bytes,
        max_waiting=max_waiting,
        max_attempts=max_attempts,
        max_deliveries=max_deliveries,
        retry_delay=retry_delay,
        lease=lease,
        grace=grace,
        store_timeout=store_timeout,
        codec=codec,
        schemas=check_schemas(schemas),
        max_depth=max_depth,
        start=check_start("start", start),
    )
    check_settings(settings)
    check_outbox(outbox)
    return Block(Link(bus, transport, settings), outbox)
