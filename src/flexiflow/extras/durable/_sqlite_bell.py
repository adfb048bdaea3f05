"""Wakes the tasks of one event loop that wait for the same file."""

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
    """Rung when something was stored; other loops and processes don't hear it.

    Attributes:
        rung: set when it is rung the next time; a new one each time.
    """

    __slots__ = ("__weakref__", "rung")

    def __init__(self) -> None:
        self.rung = anyio.Event()

    def ring(self) -> None:
        """Wake all that wait."""
        self.rung.set()
        self.rung = anyio.Event()

    async def wait_for(
        self, look: Callable[[], Awaitable[Sequence[T]]], seconds: float, interval: float
    ) -> Sequence[T]:
        """Look until something is found, or the time is over.

        Args:
            look: looks; at least once.
            seconds: for how long.
            interval: how often to look if nobody rings, in seconds.
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
    """Give the bell of a file in the event loop that runs."""
    bells = _BELLS.get(WeakValueDictionary[str, Bell]())
    _BELLS.set(bells)
    return bells.setdefault(path, Bell())
