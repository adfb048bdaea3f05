"""Waiting for a file descriptor, where the system lets one wait for it."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from stat import S_ISREG
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator


@contextmanager
def set_apart(fd: int, other: int) -> Generator[int]:
    """Give a descriptor of one's own for what `fd` leads to; the others' writing goes to `other`.

    So what a target, or a process that it starts, writes to standard output goes elsewhere (L3).
    """
    try:
        own = os.dup(fd)
    except OSError:  # it is closed, as whoever writes to it will be told
        yield fd
        return
    with suppress(OSError):  # the other is closed
        os.dup2(other, fd)
    try:
        yield own
    finally:
        os.dup2(own, fd)
        os.close(own)


@final
class Readiness:
    """Waits until a pipe, a terminal or a socket is ready; for other descriptors not at all.

    Args:
        fd: the descriptor.
        wait: waits for it, and raises `OSError` where it can't be waited for.
    """

    def __init__(self, fd: int, wait: Callable[[int], Awaitable[None]]) -> None:
        self._fd = fd
        self._wait = wait
        self.pollable = not _is_file(fd)

    async def wait(self) -> None:
        """Return when the descriptor is ready."""
        if self.pollable:
            try:
                await self._wait(self._fd)
            except OSError:  # a device like /dev/null
                self.pollable = False


def _is_file(fd: int) -> bool:
    try:
        return S_ISREG(os.fstat(fd).st_mode)
    except OSError:  # no descriptor at all, as whoever reads or writes it will be told
        return True
