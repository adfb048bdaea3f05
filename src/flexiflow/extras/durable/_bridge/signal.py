"""A way to wake one task whenever there is something to do."""

from __future__ import annotations

from typing import final

import anyio


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
