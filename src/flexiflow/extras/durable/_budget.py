"""How many bytes of events a worker holds (X14): shared by all that it reads."""

from __future__ import annotations

from typing import final

import anyio


@final
class Budget:
    """Bytes that are free, for those that receive events at the same time.

    Args:
        size: how many there are.
        least: how many bytes the largest event may have; as many as `size` at most.

    Attributes:
        free: how many are neither held nor reserved.
    """

    __slots__ = ("_changed", "_least", "free")

    def __init__(self, size: int, least: int) -> None:
        self.free = size
        self._least = least
        self._changed: anyio.Event | None = None

    async def reserve(self) -> int:
        """Wait until there is room for any event, and take half of what is free, or all it needs.

        Returns:
            How many bytes were reserved: what is not used of them has to be put back.
        """
        while self.free < self._least:
            if self._changed is None:
                self._changed = anyio.Event()
            await self._changed.wait()
        size = max(self.free // 2, self._least)
        self.free -= size
        return size

    def put_back(self, size: int) -> None:
        """Make bytes free."""
        self.free += size
        if self._changed is not None:
            self._changed.set()
            self._changed = None
