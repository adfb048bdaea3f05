"""File descriptors: waiting until one is ready, and keeping standard output for the events."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, redirect_stdout, suppress
from stat import S_ISREG
from typing import TYPE_CHECKING, final

from flexiflow._cli.display import open_display

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from flexiflow._cli.display import Display


@contextmanager
def _set_apart(fd: int, other: int) -> Generator[int]:
    """Yield a new descriptor for the file of `fd`, and redirect `fd` to the file of `other`.

    What a target, or a process that it starts, then writes to standard output goes elsewhere (L3).
    On exit `fd` leads to its own file again.
    """
    try:
        own = os.dup(fd)
    except OSError:  # it is closed; writing to it will raise this again
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
    """Waits until a pipe, a terminal or a socket is ready; other descriptors are ready at once.

    Args:
        fd: the descriptor.
        wait: waits for it, and raises `OSError` if the system can't wait for it.

    Attributes:
        pollable: whether the descriptor can be waited for, as far as is known.
    """

    def __init__(self, fd: int, wait: Callable[[int], Awaitable[None]]) -> None:
        self._fd = fd
        self._wait = wait
        self.pollable = not _is_file(fd)

    async def wait(self) -> None:
        """Wait until the descriptor is ready."""
        if self.pollable:
            try:
                await self._wait(self._fd)
            except OSError:  # a device like /dev/null
                self.pollable = False


def _is_file(fd: int) -> bool:
    try:
        return S_ISREG(os.fstat(fd).st_mode)
    except OSError:  # not a descriptor; reading or writing it will raise this again
        return True


@contextmanager
def open_streams() -> Generator[tuple[Display, int]]:
    """Yield a display, and a descriptor of the real standard output.

    Meanwhile what the target prints goes to standard error: standard output is for events alone.
    """
    output = -1 if sys.stdout is None else sys.stdout.fileno()
    told = -1 if sys.stderr is None else sys.stderr.fileno()
    with (
        open_display() as display,
        redirect_stdout(sys.stderr),
        _set_apart(output, told) as own,
    ):
        yield display, own
