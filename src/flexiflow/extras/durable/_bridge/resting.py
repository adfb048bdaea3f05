"""Events that a worker can't read, which it keeps until any worker may be given them (Y1)."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, final

import anyio

from flexiflow.extras.durable._bridge.link import Signal
from flexiflow.extras.durable._outcomes import Returned

if TYPE_CHECKING:
    from collections.abc import Callable


@final
class Resting:
    """The events that rest with a lease, without their payloads.

    A worker that postpones an event is given it again, as long as it lives. So an event that others
    may be able to read rests with the worker instead, and is then returned, for any worker.

    Args:
        give: called with the outcome of an event that has rested long enough.
    """

    def __init__(self, give: Callable[[Returned], None]) -> None:
        self._give = give
        self._events: dict[str, tuple[float, Returned]] = {}
        # A heap of the times, each with the position; an event that was dropped stays in it.
        self._dues: list[tuple[float, str]] = []
        self._added = Signal()

    def __len__(self) -> int:
        """Return how many events rest."""
        return len(self._events)

    def add(self, position: str, attempts: int, seconds: float) -> None:
        """Let an event rest for some seconds.

        Args:
            position: the event's position.
            attempts: how many attempts to handle it have failed.
            seconds: for how long.
        """
        due = anyio.current_time() + seconds
        # With no attempt under way: the worker is no reason why it could not be read.
        self._events[position] = due, Returned(position, attempts, 0)
        heappush(self._dues, (due, position))
        self._added.set()

    def drop(self, position: str) -> None:
        """Forget an event, if it rests here."""
        self._events.pop(position, None)

    def take_all(self) -> list[Returned]:
        """Return the outcomes of all events that rest, and forget the events."""
        outcomes = [outcome for _, outcome in self._events.values()]
        self._events.clear()
        self._dues.clear()
        return outcomes

    async def run(self) -> None:
        """Return each event when its time has come, until cancelled."""
        while True:
            wait = self._dues[0][0] - anyio.current_time() if self._dues else None
            with anyio.move_on_after(wait):
                await self._added.wait()
            self._give_due(anyio.current_time())

    def _give_due(self, now: float) -> None:
        while self._dues and self._dues[0][0] <= now:
            due, position = heappop(self._dues)
            found = self._events.get(position)
            if found is not None and found[0] == due:
                del self._events[position]
                self._give(found[1])
