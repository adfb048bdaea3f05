"""Writing events as they happen, many in one go, and waiting only where Ctrl-C gets through."""

from __future__ import annotations

import os
import select
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, final

from anyio import Lock, wait_writable

from flexiflow._cli.descriptors import Readiness
from flexiflow._cli.encoding import encode
from flexiflow._cli.output import as_ascii

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MOST_SECONDS: Final = 0.1
"""How long an event may be held back (L3)."""

# So much a pipe that is ready takes without waiting, as POSIX has it.
_PIPE_TAKES: int = getattr(select, "PIPE_BUF", 512)


@final
class Writer:
    """Holds events back for a moment, and writes them to a descriptor together, one a line.

    Args:
        fd: the descriptor.
        before_writing: called before anything is written.
        on_failure: called when writing has failed; from then on all is dropped.

    Attributes:
        failure: why writing failed, or None.
    """

    __slots__ = (
        "_before_writing",
        "_due",
        "_fd",
        "_lines",
        "_lock",
        "_on_failure",
        "_rest",
        "_until_ready",
        "failure",
    )

    def __init__(
        self, fd: int, *, before_writing: Callable[[], object], on_failure: Callable[[], object]
    ) -> None:
        self._fd = fd
        self._before_writing = before_writing
        self._on_failure = on_failure
        self._until_ready = Readiness(fd, wait_writable)
        self._lock = Lock(fast_acquire=True)
        self._lines: list[str] = []
        self._rest = memoryview(b"")
        self._due = 0.0
        self.failure: OSError | None = None

    def show(self, event: str) -> Callable[[Any], Awaitable[None] | None]:
        """Return what takes a payload of that event, and where it is time to write says so.

        What it returns then is to be awaited. The time alone bounds how much is held, since not
        much is encoded in so little of it.
        """
        start = f'{{"event": {encode(event)}, "data": '
        add = self._lines.append

        def show(payload: Any) -> Awaitable[None] | None:
            add(f"{start}{encode(payload)}}}\n")
            return self.drain() if monotonic() >= self._due else None

        return show

    def add(self, lines: str) -> None:
        """Take a line or several, their ends included; all but those is escaped (L3).

        Whoever adds many sees to it that `pause` is awaited.
        """
        self._lines.append(as_ascii(lines))

    def pause(self, _payload: object) -> Awaitable[None] | None:
        """Return what is to be awaited, where it is time to write; a handler of any event."""
        return self.drain() if monotonic() >= self._due else None

    async def drain(self) -> None:
        """Write what is held; cancelled, it leaves the rest for the next call."""
        async with self._lock:
            while self._fetch():
                await self._write_some()
            self._due = monotonic() + MOST_SECONDS

    def _fetch(self) -> bool:
        """Make sure of something to write; False if there is nothing."""
        if self._lines and not self._rest:
            self._rest = memoryview("".join(self._lines).encode("ascii"))
            self._lines.clear()
            self._before_writing()
        if self.failure is not None:
            self._rest = memoryview(b"")
        return bool(self._rest)

    async def _write_some(self) -> None:
        try:
            await self._until_ready.wait()
            most = _PIPE_TAKES if self._until_ready.pollable else len(self._rest)
            written = os.write(self._fd, self._rest[:most])
        except OSError as exc:
            self.failure = exc
            self._on_failure()
        else:
            self._rest = self._rest[written:]
