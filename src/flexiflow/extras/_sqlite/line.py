"""The tasks of one event loop that wait for their jobs; one of them leads the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final
from weakref import WeakKeyDictionary, ref

import anyio
from anyio import to_thread
from anyio.lowlevel import current_token

if TYPE_CHECKING:
    from collections.abc import Callable


@final
class Line:
    """The tasks of one event loop that wait.

    Attributes:
        is_led: whether a task leads: it runs the thread, which does the jobs of all.
        ended: set when the task that leads stops; a new event each time. Then each task looks
            whether its job is done, and the first one whose job is not done leads.
    """

    __slots__ = ("_threads", "ended", "is_led")

    def __init__(self) -> None:
        self.is_led = False
        self.ended = anyio.Event()
        # So it does not matter how many threads others use; and closing waits for its turn.
        self._threads: Final = anyio.CapacityLimiter(1)

    async def lead(self, work: Callable[[], object]) -> None:
        """Run a function in a thread, and then wake all who wait."""
        self.is_led = True
        try:
            await self.run(work)
        finally:
            self.is_led = False
            # The new event knows nothing of the event loop, which can be freed with its line.
            ended, self.ended = self.ended, anyio.Event()
            ended.set()

    async def run(self, work: Callable[..., object], *arguments: object) -> None:
        """Run a function in a thread, after those that run already."""
        await to_thread.run_sync(work, *arguments, limiter=self._threads)


@final
class Lines:
    """The lines of all event loops that use a runner, one after another or at the same time."""

    __slots__ = ("_all", "_last", "_loop")

    def __init__(self) -> None:
        self._all = WeakKeyDictionary[Any, Line]()
        self._last: Line | None = None
        self._loop: Callable[[], object] = object

    def here(self) -> Line:
        """Return the line of the event loop that runs."""
        loop: Any = current_token().native_token
        # Called for each job, nearly always in the same loop as before.
        if self._last is not None and self._loop() is loop:
            return self._last
        self._last = self._all.setdefault(loop, Line())
        self._loop = ref(loop)
        return self._last
