"""Many timers, and one task that waits for the earliest (M2)."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Final, final

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable

_FEW: Final = 64


@final
class Timer:
    """A call at a later time.

    Args:
        call: what is called; None once the timer was cancelled, or has called it.
        arguments: its arguments.
    """

    # There may be 100,000: a partial of a method would take as much memory as all the rest.
    __slots__ = ("arguments", "call")

    def __init__(self, call: Callable[..., object] | None, *arguments: object) -> None:
        self.call = call
        self.arguments = arguments


@final
class Timers:
    """Timers by the event loop's clock, which `run` waits for."""

    __slots__ = ("_changed", "_dead", "_heap", "_numbers")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        # How many of them were cancelled; a timer can't be taken out of the middle of a heap.
        self._dead = 0
        # Timers of the same time are called in the order in which they were set.
        self._numbers = count()
        self._changed: anyio.Event | None = None

    def __len__(self) -> int:
        """Return how many timers are set."""
        return len(self._heap) - self._dead

    def set(self, delay: float, call: Callable[..., object], *arguments: object) -> Timer:
        """Set a timer.

        Args:
            delay: in how many seconds to call.
            call: a function, called by `run`; it raises nothing.
            arguments: its arguments.
        """
        timer = Timer(call, *arguments)
        entry = anyio.current_time() + delay, next(self._numbers), timer
        heappush(self._heap, entry)
        if self._changed is not None and self._heap[0] is entry:
            self._changed.set()
        return timer

    def cancel(self, timer: Timer) -> None:
        """Cancel a timer; nothing happens if it has called already."""
        if timer.call is not None:
            timer.call, timer.arguments = None, ()
            self._dead += 1
            if self._dead > _FEW and self._dead > len(self._heap) // 2:
                self._heap = [entry for entry in self._heap if entry[2].call is not None]
                heapify(self._heap)
                self._dead = 0

    async def run(self) -> None:
        """Call what the timers call, each at its time, until this is cancelled."""
        while True:
            self._call_due()
            self._changed = anyio.Event()
            deadline = self._heap[0][0] if self._heap else float("inf")
            with anyio.CancelScope(deadline=deadline):
                await self._changed.wait()

    def _call_due(self) -> None:
        now = anyio.current_time()
        while self._heap and self._heap[0][0] <= now:
            timer = heappop(self._heap)[2]
            call, arguments = timer.call, timer.arguments
            timer.call, timer.arguments = None, ()
            if call is None:
                self._dead -= 1
            else:
                call(*arguments)
