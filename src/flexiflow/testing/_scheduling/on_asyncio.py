"""Run scenarios on asyncio; the only module of the kit that imports it.

AnyIO has no interface to an event loop's scheduler. The private names of `BaseEventLoop` that are
used are `_ready`, `_scheduled` and `_clock_resolution`, of tasks `_must_cancel` and `_fut_waiter`,
the same in every CPython from 3.11 on.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections import deque
from functools import partial
from inspect import CORO_SUSPENDED, getcoroutinestate
from selectors import SelectSelector
from signal import SIGINT, default_int_handler, getsignal, signal
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar, cast, final

import anyio

from flexiflow._cancellation import leaves
from flexiflow.testing._scheduling.failures import ScenarioStuck

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from selectors import SelectorKey
    from types import FrameType

    from flexiflow.testing._scheduling.run import Run

_T = TypeVar("_T")
_KIT: Final = "flexiflow.testing._examiner.kit"
"""The module of what the programs of checkers raise; it is a layer above this one."""


def run(run: Run[_T]) -> _T | None:
    """Run it in an event loop of its own."""
    loop: VirtualLoop

    def make_loop() -> VirtualLoop:
        nonlocal loop
        loop = VirtualLoop(run)
        return loop

    ctrl_c = _CtrlC()

    async def main() -> _T | None:
        ctrl_c.watch()
        try:
            return await run.main(loop)
        finally:
            if ctrl_c.struck:
                raise KeyboardInterrupt

    try:
        return anyio.run(main, backend="asyncio", backend_options={"loop_factory": make_loop})
    finally:
        ctrl_c.restore()


def run_counted(main: Callable[[], Awaitable[object]], turn_over: Callable[[Any], object]) -> None:
    """Run a function in real time, on an ordinary event loop (P7).

    Args:
        main: takes no arguments.
        turn_over: called with the coroutine of a task, each time that the task has given up its
            turn and is to go on later.
    """
    options = {"loop_factory": partial(_CountedLoop, turn_over)}
    anyio.run(main, backend="asyncio", backend_options=options)


@final
class _CtrlC:
    """Notes that Ctrl-C was pressed: asyncio only cancels the main task then, which may go on."""

    def __init__(self) -> None:
        # asyncio handles SIGINT only in the main thread, and only if nothing else does.
        is_main = threading.current_thread() is threading.main_thread()
        self._is_taken_over = is_main and getsignal(SIGINT) is default_int_handler
        self.struck = False

    def watch(self) -> None:
        if self._is_taken_over:
            self._cancel: Any = getsignal(SIGINT)
            signal(SIGINT, self._note)

    def restore(self) -> None:
        if self._is_taken_over:
            signal(SIGINT, default_int_handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.struck = True
        self._cancel(number, frame)


@final
class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, whose tasks take turns as a run decides."""

    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, run: Run[Any]) -> None:
        self._run = run
        self._now = 0.0
        super().__init__(_Selector(self._wait))
        self._ready = _Ready(run)
        self.set_exception_handler(_tell)

    def time(self) -> float:
        """Return the virtual time, in seconds since the run began."""
        return self._now

    now = time

    def close(self) -> None:
        """Close it, and let go of the run: so the loop and its tasks are freed at once."""
        super().close()
        # asyncio looks for a loop's tasks among all that are not freed yet.
        for name in ("_ready", "_run", "_task"):
            vars(self).pop(name, None)

    def begin(self) -> None:
        """Remember the scenario's task."""
        self._task = cast("asyncio.Task[Any]", asyncio.current_task())

    def cancel_natively(self) -> None:
        """Cancel the scenario's task."""
        self._task.cancel()

    def absorb(self) -> bool:
        """Count that cancel as dealt with, and return whether no other is left."""
        return self._task.uncancel() == 0

    def abort(self) -> None:
        """Cancel every task natively, since no AnyIO scope shields from that."""
        for task in asyncio.all_tasks(self):
            # A task of AnyIO's that has not begun would leave a coroutine that was never awaited.
            if getcoroutinestate(cast("Any", task.get_coro())) == CORO_SUSPENDED:
                task.cancel()

    def give_up(self, exception: BaseException) -> NoReturn:
        """Leave the tasks where they are: the exception ends the loop."""
        raise exception

    def scenario_task(self) -> asyncio.Task[Any]:
        """Return the scenario's task."""
        return self._task

    def name_of(self, task: asyncio.Task[Any]) -> str:
        """Return the name of a task."""
        return task.get_name()

    def coroutine_of(self, task: asyncio.Task[Any]) -> object:
        """Return the coroutine that a task runs."""
        return task.get_coro()

    def is_struck(self, task: asyncio.Task[Any]) -> bool:
        """Return whether a task goes on with a cancellation, its own or that of what it awaits."""
        waiter: asyncio.Future[Any] | None = getattr(task, "_fut_waiter", None)
        is_cancelled: bool = getattr(task, "_must_cancel", False)
        return is_cancelled or (waiter is not None and waiter.cancelled())

    def raised_by(self, task: asyncio.Task[Any], _frame: FrameType | None) -> BaseException | None:
        """Return what a task has raised."""
        return asyncio.CancelledError() if task.cancelled() else task.exception()

    def _wait(self) -> None:
        """Jump to the next timer, since nothing is ready."""
        when = self._scheduled[0].when() if self._scheduled else math.inf
        if when < math.inf:
            self._now = max(when, self._now)
            # asyncio runs timers early by the clock's resolution. A smaller resolution would be
            # lost in the rounding of a time as large as this.
            self._clock_resolution = math.ulp(self._now)
        else:
            self._run.idle()


def _tell(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report an exception, unless it only ended a run that was stuck, or was raised on purpose."""
    exception = context.get("exception")
    found = () if exception is None else leaves(exception)
    if not any(isinstance(leaf, ScenarioStuck) or type(leaf).__module__ == _KIT for leaf in found):
        loop.default_exception_handler(context)


@final
class _Selector(SelectSelector):
    """A selector without files: asked to wait, it makes its loop jump ahead in time."""

    def __init__(self, wait: Callable[[], None]) -> None:
        super().__init__()
        self._wait = wait

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        if timeout is None or timeout > 0:
            self._wait()
        return []


@final
class _Ready:
    """Stands in for the loop's queue: hands out one handle a turn, for the task that goes next.

    Only the steps of tasks change places among themselves; every other callback keeps its own.
    """

    def __init__(self, run: Run[Any]) -> None:
        self._run = run
        self._line = run.line
        # None marks the place of a task's step.
        self._places: deque[asyncio.Handle | None] = deque()
        self._going: asyncio.Task[Any] | None = None

    def __bool__(self) -> bool:
        # The loop asks this at the beginning of each turn, so the one before is over.
        going, self._going = self._going, None
        self._run.turn_over(waits=going is not None and not going.done())
        return bool(self._places)

    def __len__(self) -> int:
        return 1 if self._places else 0

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


@final
class _CountedLoop(asyncio.SelectorEventLoop):
    """An ordinary event loop that reports the turns of its tasks."""

    def __init__(self, turn_over: Callable[[Any], object]) -> None:
        super().__init__()
        self._ready = _Counted(turn_over)


@final
class _Counted(deque[asyncio.Handle]):
    """Stands in for the loop's queue, and reports each turn once it is over."""

    def __init__(self, turn_over: Callable[[Any], object]) -> None:
        super().__init__()
        self._turn_over = turn_over
        self._going: asyncio.Task[Any] | None = None

    def __bool__(self) -> bool:
        # The loop asks this before it waits, and takes the next handle before it goes on.
        self._report()
        return len(self) > 0

    def popleft(self) -> asyncio.Handle:
        self._report()
        handle = super().popleft()
        self._going = _task_of(handle)
        return handle

    def _report(self) -> None:
        going, self._going = self._going, None
        if going is not None and not going.done():
            self._turn_over(going.get_coro())


def _task_of(handle: asyncio.Handle) -> asyncio.Task[Any] | None:
    """Return the task of which this handle is a step, or None."""
    callback: Any = getattr(handle, "_callback", None)
    # Other methods of a task may be callbacks too. A step of the C implementation has no name.
    is_step = isinstance(getattr(callback, "__self__", None), asyncio.Task) and getattr(
        callback, "__name__", "step"
    ).endswith(("step", "wakeup"))
    return callback.__self__ if is_step else None
