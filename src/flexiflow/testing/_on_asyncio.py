"""Runs on asyncio: the only module that knows it.

AnyIO has no interface for an event loop's scheduler. The private names of `BaseEventLoop` are
`_ready`, `_scheduled` and `_clock_resolution`, the same in every CPython from 3.11 on.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from inspect import CORO_SUSPENDED, getcoroutinestate
from selectors import SelectSelector
from typing import TYPE_CHECKING, Any, TypeVar, cast, final

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable
    from selectors import SelectorKey

    from flexiflow.testing._run import Run

_T = TypeVar("_T")


def run(run: Run[_T]) -> _T | None:
    """Run it in an event loop of its own."""
    loop: VirtualLoop

    def make_loop() -> VirtualLoop:
        nonlocal loop
        loop = VirtualLoop(run)
        return loop

    async def main() -> _T | None:
        return await run.main(loop)

    return anyio.run(main, backend="asyncio", backend_options={"loop_factory": make_loop})


@final
class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, whose ready tasks go as a run decides."""

    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, run: Run[Any]) -> None:
        self._run = run
        self._now = 0.0
        super().__init__(_Selector(self._wait))
        self._ready = _Ready(run)

    def time(self) -> float:
        """Return the virtual time, in seconds since the run began."""
        return self._now

    def begin(self) -> None:
        """Know the scenario's task."""
        self._task = cast("asyncio.Task[Any]", asyncio.current_task())

    def cancel_natively(self) -> None:
        """Cancel the scenario's task."""
        self._task.cancel()

    def absorb(self) -> bool:
        """Count that cancel as dealt with, and tell whether no other is left."""
        return self._task.uncancel() == 0

    def abort(self) -> None:
        """Cancel every task, since no scope of AnyIO's shields from that."""
        for task in asyncio.all_tasks(self):
            # One of AnyIO's that has not begun would leave a coroutine that was never awaited.
            if getcoroutinestate(cast("Any", task.get_coro())) == CORO_SUSPENDED:
                task.cancel()

    def _wait(self) -> None:
        """Jump to the next timer, since nothing is ready."""
        when = self._scheduled[0].when() if self._scheduled else math.inf
        if when < math.inf:
            self._now = max(when, self._now)
            # A timer is due that much early; a smaller number is lost in one as large as the time.
            self._clock_resolution = math.ulp(self._now)
        else:
            self._run.idle()


@final
class _Selector(SelectSelector):
    """Watches nothing: asked to wait, it lets its loop jump ahead."""

    def __init__(self, wait: Callable[[], None]) -> None:
        super().__init__()
        self._wait = wait

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        if timeout is None or timeout > 0:
            self._wait()
        return []


@final
class _Ready:
    """Stands in for the loop's queue: gives one handle a turn, tasks' steps as the run decides.

    The steps change places among themselves only; every other callback keeps its own.
    """

    def __init__(self, run: Run[Any]) -> None:
        self._run = run
        self._line = run.line
        # None is the place of a step.
        self._places: deque[asyncio.Handle | None] = deque()
        self._going: asyncio.Task[Any] | None = None

    def __bool__(self) -> bool:
        # Asked as each turn begins: the one before is over.
        going, self._going = self._going, None
        self._run.turn_over(waits=going is not None and not going.done())
        return bool(self._places)

    def __len__(self) -> int:
        return min(1, len(self._places))

    def append(self, handle: asyncio.Handle) -> None:
        task = _task_of(handle)
        if task is None:
            self._places.append(handle)
        else:
            self._places.append(None)
            self._line.join(task, (task, handle))

    def popleft(self) -> asyncio.Handle:
        callback = self._places.popleft()
        if callback is not None:
            self._line.turns += 1
            return callback
        handle: asyncio.Handle
        self._going, handle = self._line.leave()
        return handle

    def clear(self) -> None:
        self._places.clear()
        self._line.clear()


def _task_of(handle: asyncio.Handle) -> asyncio.Task[Any] | None:
    """Find the task of which this is a step."""
    callback: Any = getattr(handle, "_callback", None)
    if not _is_step(callback):
        return None
    task: asyncio.Task[Any] = callback.__self__
    return task


def _is_step(callback: Any) -> bool:
    # Other methods of a task may be callbacks too. A step of the C implementation has no name.
    return isinstance(getattr(callback, "__self__", None), asyncio.Task) and getattr(
        callback, "__name__", "step"
    ).endswith(("step", "wakeup"))
