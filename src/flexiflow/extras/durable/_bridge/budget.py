"""The bytes of events that a worker may hold, shared by all its leases (X14)."""

from __future__ import annotations

from typing import final

import anyio


@final
class Budget:
    """A number of bytes, reserved by tasks that receive events at the same time.

    Args:
        size: how many bytes there are.
        least: how many bytes the largest event may have; at most `size`.

    Attributes:
        free: how many bytes are neither held nor reserved.
    """

    __slots__ = ("_changed", "_least", "free")

    def __init__(self, size: int, least: int) -> None:
        self.free = size
        self._least = least
        self._changed: anyio.Event | None = None

    async def reserve(self) -> int:
        """Wait until the largest event would fit, and reserve half of the free bytes, or `least`.

        Returns:
            How many bytes were reserved; those that are not used must be put back.
        """
        while self.free < self._least:
            if self._changed is None:
                self._changed = anyio.Event()
            await self._changed.wait()
        size = max(self.free // 2, self._least)
        self.free -= size
        return size

    def put_back(self, size: int) -> None:
        """Free bytes that were reserved or held."""
        self.free += size
        if self._changed is not None:
            self._changed.set()
            self._changed = None
