"""Run scenarios on trio; the only module of the kit that imports it.

trio's clock is part of its interface; its scheduler is not. The private names that are used are the
runner's run queue and tasks, and what makes a task go on; the tests would notice a change of them.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import ctypes
import math
from inspect import CORO_SUSPENDED, getcoroutinestate
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar, cast, final

import anyio
import trio
from outcome import Error, Value, capture
from trio._core._run import GLOBAL_RUN_CONTEXT

from flexiflow.testing._scheduling.failures import ScenarioStuck

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from types import FrameType

    from trio.lowlevel import Task

    from flexiflow.testing._scheduling.run import Run

_T = TypeVar("_T")

_KEPT: Final[list[object]] = []
"""The coroutines of tasks that could not be ended."""


def run(run: Run[_T]) -> _T | None:
    """Run it in an event loop of its own."""
    host = Host(run)

    async def main() -> _T | None:
        try:
            return await run.main(host)
        except BaseException:
            if host.is_given_up:
                # It is being closed, long after the run; nobody is there to be told.
                return None
            raise
        finally:
            host.end()

    return anyio.run(main, backend="trio", backend_options={"clock": host, "instruments": [host]})


def run_counted(main: Callable[[], Awaitable[object]], turn_over: Callable[[Any], object]) -> None:
    """Run a function in real time (P7).

    Args:
        main: takes no arguments.
        turn_over: called with the coroutine of a task, each time that the task has given up its
            turn and is to go on later.
    """
    counter = _Counter(turn_over)

    async def counted() -> None:
        counter.begin()
        await main()

    anyio.run(counted, backend="trio", backend_options={"instruments": [counter]})


@final
class _Counter(trio.abc.Instrument):
    """Reports the turns of tasks, except trio's own."""

    def __init__(self, turn_over: Callable[[Any], object]) -> None:
        self._turn_over = turn_over
        self._main: Task | None = None
        self._system: set[Task | None] = set()
        self._exited: Task | None = None

    def begin(self) -> None:
        """Report turns from now on; called in the main task."""
        self._main = trio.lowlevel.current_task()
        root = trio.lowlevel.current_root_task()
        nurseries = [] if root is None else root.child_nurseries
        self._system = {root, *(task for each in nurseries for task in each.child_tasks)}
        self._system.discard(self._main)

    def task_exited(self, task: Task) -> None:
        """Note that a task has ended, whose turn is reported next."""
        self._exited = task

    def after_task_step(self, task: Task) -> None:
        """Report that a turn is over."""
        if self._main is not None and task is not self._exited and task not in self._system:
            self._turn_over(task.coro)


@final
class Host(trio.abc.Clock, trio.abc.Instrument):
    """A clock that jumps ahead when nothing is ready; it also replaces trio's run queue."""

    def __init__(self, run: Run[Any]) -> None:
        self._run = run
        self._now = 0.0
        self._is_over = False
        self._is_aborted = False
        self._system: set[Task] = set()
        self._abandoned: set[Task] = set()

    def start_clock(self) -> None:
        """Find the runner, which exists only from here on."""
        self._runner = GLOBAL_RUN_CONTEXT.runner

    def current_time(self) -> float:
        """Return the virtual time, in seconds since the run began."""
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Jump to the next deadline; trio asks for it when nothing is ready."""
        if self._runner.waiting_for_idle:
            # A task in `wait_all_tasks_blocked` goes on first; the clock does not jump before that.
            return math.inf
        if deadline < math.inf:
            self._now = max(deadline, self._now)
        elif self._is_over or (self._is_aborted and any(map(_refuses, self._tasks()))):
            return math.inf
        else:
            self._run.idle()
        return 0

    def after_task_step(self, task: Task) -> None:
        """Report that a turn is over."""
        self._run.turn_over(waits=task in self._runner.tasks and task not in self._system)

    def begin(self) -> None:
        """Take over the run queue."""
        self._task = trio.lowlevel.current_task()
        self._system.update(self._runner.tasks - {self._task})
        # trio's own queue is empty: only this task is in the first batch.
        self._runner.runq = cast("Any", _Ready(self._run, self._abandoned))

    def end(self) -> None:
        """End virtual waiting: without a deadline, trio now really waits for its own tasks."""
        self._is_over = True

    def cancel_natively(self) -> None:
        """Do nothing: trio has no native cancel, and `cancel_everywhere` refuses that style."""

    def absorb(self) -> bool:
        """Return True: nothing is cancelled natively."""
        return True

    def abort(self) -> None:
        """Make the scenario's tasks fail where they wait, even in a shield."""
        self._is_aborted = True
        for task in self._tasks():
            if task._abort_func is not None:
                task._attempt_abort(_abort)
            elif getcoroutinestate(task.coro) == CORO_SUSPENDED:
                task._next_send = capture(_abort)

    def give_up(self, exception: BaseException) -> None:
        """Let trio take for ended the tasks that wait for no other ones; if called again, all.

        A task that is given up never runs again, not even to be closed: it swallows all it is sent.
        """
        tasks = self._tasks()
        chosen = tasks if self._abandoned else [task for task in tasks if not _has_children(task)]
        self._abandoned.update(chosen)
        self._is_over |= self.is_given_up
        for task in reversed(chosen):
            _KEPT.append(task.coro)
            # As Python ends, the list is freed: closed then, a coroutine might go on for ever.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(task.coro))
            # trio would complain of a nursery that was not left.
            task._child_nurseries.clear()
            outcome = Error(exception) if task is self._task else Value(None)
            self._runner.task_exited(task, outcome)

    @property
    def is_given_up(self) -> bool:
        """Whether the scenario's task is given up."""
        return self._task in self._abandoned

    def now(self) -> float:
        """Return the virtual time."""
        return self._now

    def scenario_task(self) -> Task:
        """Return the scenario's task."""
        return self._task

    def name_of(self, task: Task) -> str | None:
        """Return the name of a task, or None if it is one of trio's own."""
        return None if task in self._system else task.name

    def coroutine_of(self, task: Task) -> object:
        """Return the coroutine that a task runs."""
        return task.coro

    def is_struck(self, task: Task) -> bool:
        """Return whether a task goes on with a cancellation, other than one that ends a sleep."""
        is_cancelled = isinstance(getattr(task._next_send, "error", None), trio.Cancelled)
        return is_cancelled and not any(
            frame.f_code is trio.sleep_until.__code__ and frame.f_locals["deadline"] <= self._now
            for frame, _ in task.iter_await_frames()
        )

    def raised_by(self, task: Task, frame: FrameType | None) -> BaseException | None:
        """Return what a task has raised, which only its nursery keeps."""
        pending: list[BaseException] = getattr(task.parent_nursery, "_pending_excs", [])
        for exception in pending:
            trace = exception.__traceback__
            if trace is not None and trace.tb_frame is frame:
                return exception
        return None

    def _tasks(self) -> list[Task]:
        """Return the scenario's tasks, each before those below it."""
        tasks = [task for task in self._runner.tasks - self._system if self._is_root(task)]
        tasks.sort(key=lambda task: task._counter)
        for task in tasks:
            tasks += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        return tasks

    def _is_root(self, task: Task) -> bool:
        nursery = task.parent_nursery
        return nursery is not None and nursery.parent_task in self._system


def _refuses(task: Task) -> bool:
    """Return whether a waiting task can't be aborted, as when it waits for a thread."""
    return task._abort_func is None and not _has_children(task)


def _has_children(task: Task) -> bool:
    return any(nursery.child_tasks for nursery in task.child_nurseries)


def _abort() -> NoReturn:
    """Raise in a task that is aborted."""
    raise ScenarioStuck("it does not end when it is cancelled")


@final
class _Ready:
    """Stands in for the runner's queue: each batch is one task, which the run chooses."""

    def __init__(self, run: Run[Any], abandoned: set[Task]) -> None:
        self._line = run.line
        self._abandoned = abandoned

    def __len__(self) -> int:
        return len(self._line)

    def __iter__(self) -> Iterator[Task]:
        if self._line and (task := self._line.leave()) not in self._abandoned:
            yield task

    def append(self, task: Task) -> None:
        self._line.join(task, task)

    def clear(self) -> None:
        """Do nothing: iteration took the batch out already."""
