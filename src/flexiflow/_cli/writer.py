"""Writing events to standard output, many at a time, in a way that Ctrl-C can interrupt (L3)."""

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
"""How many seconds an event may be held back (L3)."""

# POSIX guarantees that a pipe that is ready takes this many bytes without waiting.
_PIPE_TAKES: int = getattr(select, "PIPE_BUF", 512)


@final
class Writer:
    """Collects lines for a moment, and writes them to a descriptor together.

    Args:
        fd: the descriptor.
        before_writing: called before anything is written.
        on_failure: called when writing has failed; from then on all lines are dropped.

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
        """Return a handler that adds a line for each payload of an event.

        When it is time to write, the handler returns an awaitable that writes. The time alone
        bounds how much is held: in 0.1 s not much can be encoded.
        """
        start = f'{{"event": {encode(event)}, "data": '
        add = self._lines.append

        def show(payload: Any) -> Awaitable[None] | None:
            add(f"{start}{encode(payload)}}}\n")
            return self.drain() if monotonic() >= self._due else None

        return show

    def add(self, lines: str) -> None:
        """Add one or several lines, line ends included; anything else unprintable is escaped (L3).

        A caller that adds many lines must also call `pause`, and await its result.
        """
        self._lines.append(as_ascii(lines))

    def pause(self, _payload: object) -> Awaitable[None] | None:
        """Return an awaitable that writes if it is time to, else None; a handler for any event."""
        return self.drain() if monotonic() >= self._due else None

    async def drain(self) -> None:
        """Write what is held; if this is cancelled, the rest is left for the next call."""
        async with self._lock:
            while self._fetch():
                await self._write_some()
            self._due = monotonic() + MOST_SECONDS

    def _fetch(self) -> bool:
        """Prepare the next bytes to write; return whether there are any."""
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
