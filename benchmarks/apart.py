"""The growth of a process's memory, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from benchmarks.measuring import Round
from benchmarks.timing import load

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def growth_in(module: str, *arguments: object) -> list[Round]:
    """Run a module in a new process, since the memory of earlier measures would hide the growth.

    Args:
        module: prints the bytes by which its process has grown (`growth`).
        arguments: its arguments.

    Raises:
        LeftOut: the system can't tell a process's peak.
    """
    load("resource")
    done = subprocess.run(  # noqa: S603  this interpreter, and modules of this package
        [sys.executable, "-m", module, *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
    )
    return [Round(float(done.stdout), 0.0)]


async def growth(act: Callable[[int], Awaitable[object]], first: int, number: int) -> int:
    """Return the bytes by which the peak of this process grows while it acts.

    Args:
        act: does something so many times.
        first: how many times it is done before the growth is measured.
        number: how many times it is done then.
    """
    await act(first)
    before = _peak()
    await act(number)
    return _peak() - before


def _peak() -> int:
    """Return this process's peak memory in bytes, including SQLite's."""
    resource = load("resource")
    peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
