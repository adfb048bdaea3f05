"""Collect what is published on a bus (P4)."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast, final

from flexiflow._bus import dispatcher_of
from flexiflow.events import HANDLER_FAILED

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from flexiflow._bus import EventBus
    from flexiflow.events import HandlerFailed


class RecordedEvent(NamedTuple):
    """An event that was published.

    Attributes:
        name: its name.
        data: its payload, the object itself.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.testing import record
        >>> async def main():
        ...     bus = EventBus()
        ...     async with record(bus) as recorded:
        ...         await bus.publish("order.placed", "A7")
        ...     for name, data in recorded.events:
        ...         print(name, data)
        >>> anyio.run(main)
        order.placed A7
    """

    name: str
    data: Any


@final
class Recorded:
    """What `record` has collected so far.

    Attributes:
        events: each published event, in the order in which the recorder saw them; built-in events
            too, except for `event.handler.failed`.
        failures: the payload of each `event.handler.failed`.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.testing import record
        >>> async def main():
        ...     bus = EventBus()
        ...     await bus.subscribe("order.placed", "billing", lambda order: 1 / 0)
        ...     async with record(bus) as recorded:
        ...         await bus.publish("order.placed", "A7")
        ...     print(len(recorded.events), recorded.failures[0]["exception"])
        >>> anyio.run(main)
        1 division by zero
    """

    __slots__ = ("events", "failures")

    def __init__(self) -> None:
        self.events: list[RecordedEvent] = []
        self.failures: list[HandlerFailed] = []

    def __repr__(self) -> str:
        """Show both lists."""
        return f"Recorded(events={self.events}, failures={self.failures})"


@asynccontextmanager
async def record(bus: EventBus) -> AsyncGenerator[Recorded]:
    """Collect the events and the failures of a bus; an async context manager (P4).

    It subscribes to everything with priority 1, and unsubscribes on exit. A failure that is raised
    to the publisher is not published as `event.handler.failed`, and so not collected.

    Args:
        bus: an `EventBus`, or any object with its `subscribe`.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.testing import record
        >>> async def main():
        ...     bus = EventBus()
        ...     async with record(bus) as recorded:
        ...         await bus.publish("order.placed", "A7")
        ...     print(recorded.events)
        >>> anyio.run(main)
        [RecordedEvent(name='order.placed', data='A7')]
    """
    recorded = Recorded()
    subscribing = bus.subscribe("**", "recorder", _never_called, priority=1, filter=_note(recorded))
    with await subscribing:
        yield recorded


@contextmanager
def record_at_once(bus: EventBus) -> Generator[Recorded]:
    """Collect as `record` does, without waiting: so a sync fixture works with any event loop."""
    recorded = Recorded()
    subscription = dispatcher_of(bus).registry.create(
        "**",
        "recorder",
        _never_called,
        priority=1,
        filter=_note(recorded),
        once=False,
        terms=None,
    )
    with subscription:
        yield recorded


def _note(recorded: Recorded) -> Callable[[str, Any], bool]:
    # A filter, since a handler does not get the event's name.
    def note(name: str, data: Any) -> bool:
        if name == HANDLER_FAILED:
            recorded.failures.append(cast("HandlerFailed", data))
        else:
            recorded.events.append(RecordedEvent(name, data))
        return False

    return note


def _never_called(data: Any) -> None: ...
