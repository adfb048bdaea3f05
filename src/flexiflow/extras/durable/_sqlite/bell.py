"""A bell for each file and event loop, which wakes the tasks that wait for records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar, final
from weakref import WeakValueDictionary

import anyio
from anyio.lowlevel import RunVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

T = TypeVar("T")


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

    async def wait_for(
        self, look: Callable[[], Awaitable[Sequence[T]]], seconds: float, interval: float
    ) -> Sequence[T]:
        """Look until something is found or the time is over, and return what was found.

        Args:
            look: returns what it finds; called at least once.
            seconds: for how many seconds to go on.
            interval: the seconds between looks if nobody rings.
        """
        until = anyio.current_time() + seconds
        while True:
            rung = self.rung
            found = await look()
            left = until - anyio.current_time()
            if found or left <= 0:
                return found
            with anyio.move_on_after(min(left, interval)):
                await rung.wait()


_BELLS: Final[RunVar[WeakValueDictionary[str, Bell]]] = RunVar("flexiflow.durable.bells")


def bell_of(path: str) -> Bell:
    """Return the bell of a file in the running event loop."""
    bells = _BELLS.get(WeakValueDictionary[str, Bell]())
    _BELLS.set(bells)
    return bells.setdefault(path, Bell())
