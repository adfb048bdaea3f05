"""Collects what is published on a bus (P4)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast, final

from flexiflow.events import HANDLER_FAILED

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from flexiflow._bus import EventBus
    from flexiflow.events import HandlerFailed


class RecordedEvent(NamedTuple):
    """An event that was published.

    Attributes:
        name: its name.
        data: its payload, the object itself.
    """

    name: str
    data: Any


@final
class Recorded:
    """What `record` has collected so far.

    Attributes:
        events: each event that was published, in the order in which the recorder saw them; the
            built-in ones, but for `event.handler.failed`.
        failures: the payload of each `event.handler.failed`.
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
        bus: an `EventBus`, or what has its `subscribe`.
    """
    recorded = Recorded()

    def note(name: str, data: Any) -> bool:
        if name == HANDLER_FAILED:
            recorded.failures.append(cast("HandlerFailed", data))
        else:
            recorded.events.append(RecordedEvent(name, data))
        return False

    # A filter is told the event's name, a handler is not.
    with await bus.subscribe("**", "recorder", _never_called, priority=1, filter=note):
        yield recorded


def _never_called(data: Any) -> None: ...
