"""What wakes the tasks of one event loop that wait for records."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, final

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from flexiflow.extras.durable._records import Stored


@final
class Bell:
    """Rung when something was stored; tasks of other loops and processes don't hear it.

    Attributes:
        rung: set when the bell is rung the next time; a new event each time.
    """

    __slots__ = ("__weakref__", "rung")

    def __init__(self) -> None:
        self.rung = anyio.Event()

    def ring(self) -> None:
        """Wake all tasks that wait."""
        self.rung.set()
        self.rung = anyio.Event()

    async def tail(
        self,
        look: Callable[[], Awaitable[Sequence[Stored]]],
        positions: list[int],
        seconds: float,
        interval: float = inf,
        due_in: Callable[[], float] = lambda: inf,
    ) -> tuple[Sequence[Stored], Sequence[str]]:
        """Look until records are found or the time is over; see `Connection.tail`.

        Args:
            look: returns the records after `positions`; called at least once.
            positions: for each partition the position after which to begin; moved on.
            seconds: for how many seconds to go on.
            interval: the seconds between looks if nobody rings.
            due_in: returns in how many seconds there will be something to find if nobody rings.

        Returns:
            The records, and the positions to go on from.
        """
        until = anyio.current_time() + seconds
        while True:
            rung = self.rung
            found = await look()
            left = until - anyio.current_time()
            if found or left <= 0:
                break
            with anyio.move_on_after(min(left, interval, due_in())):
                await rung.wait()
        for partition, position, *_ in found:
            positions[partition] = int(position)
        return found, [str(each) for each in positions]
