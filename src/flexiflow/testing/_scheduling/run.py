"""One run of a scenario: in an event loop of its own, in virtual time, under a schedule.

`run_on`, in `backends`, starts the backend's loop, which calls `Run.main`. That takes over the
scheduler, plays the scenario, and checks that no task is left. Meanwhile the backend reports the
end of each turn (`turn_over`), and that nothing is ready and no timer set (`idle`). A scenario can
wait for the latter itself (`wait_until`); otherwise it is stuck then.
"""

from __future__ import annotations

from collections import Counter
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeAlias, TypeVar

import anyio
from anyio import CancelScope
from anyio.lowlevel import checkpoint

from flexiflow._clock import is_virtual
from flexiflow._dispatcher import yields_always
from flexiflow.testing._scheduling.failures import ScenarioStuck, TasksLeft, ending_of
from flexiflow.testing._scheduling.schedule import Line, first_come

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import FrameType

    from flexiflow.testing._scheduling.schedule import Decide

Style: TypeAlias = Literal["scope", "native"]

MOST_TURNS = 100_000
"""A scenario that takes more turns than this is taken to be endless."""

LAST_TURNS = 1_000
"""So many turns the tasks have that a failed run leaves behind, and that are cancelled."""

_T = TypeVar("_T")

current_run: ContextVar[Run[Any]] = ContextVar("current_run")
"""The run of the scenario that asks."""


class Host(Protocol):
    """What a run needs of the backend."""

    def begin(self) -> None:
        """Take over the backend's scheduler; called in the scenario's task."""

    def cancel_natively(self) -> None:
        """Cancel the scenario's task with the backend's own means."""

    def absorb(self) -> bool:
        """Count one native cancel as dealt with, and return whether no other is left."""
        ...

    def abort(self) -> None:
        """Make every waiting task go on, even in a shield."""

    def give_up(self, exception: BaseException) -> None:
        """End the run with this exception; the tasks that are left never go on."""

    def now(self) -> float:
        """Return the virtual time, in seconds since the run began."""
        ...

    def scenario_task(self) -> object:
        """Return the scenario's task."""

    def name_of(self, task: Any) -> str | None:
        """Return the name of a task, or None if it is one of the backend's own."""

    def coroutine_of(self, task: Any) -> object:
        """Return the coroutine that a task runs."""

    def is_struck(self, task: Any) -> bool:
        """Return whether a task that is ready goes on with a cancellation."""
        ...

    def raised_by(self, task: Any, frame: FrameType | None, /) -> BaseException | None:
        """Return what a task has raised that has just ended.

        Args:
            task: that task.
            frame: the frame that its coroutine had.
        """


class Run(Generic[_T]):
    """One run of a scenario; `RecordedRun` also notes what happens.

    Args:
        scenario: takes no arguments.
        decide: chooses the task that runs next, from the scenario's first turn to its last.
        buses_yield: whether buses made by the scenario yield at every publish.
        cancel_at: the checkpoint at which the scenario is cancelled; 0 is before its beginning.
        style: how it is cancelled.
        afterwards: awaited when the scenario has ended, also by the cancellation.

    Attributes:
        line: the tasks that are ready.
        checkpoints: how often a task of the scenario has given up its turn.
    """

    def __init__(
        self,
        scenario: Callable[[], Awaitable[_T]],
        decide: Decide,
        *,
        buses_yield: bool = True,
        cancel_at: int | None = None,
        style: Style = "scope",
        afterwards: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.line: Line[Any] = Line()
        self.checkpoints = 0
        self._scenario = scenario
        self._decide = decide
        self._buses_yield = buses_yield
        self._cancel_at = cancel_at
        self._style: Style = style
        self._afterwards = afterwards
        self._is_on = False
        self._stuck: ScenarioStuck | None = None
        self._failure: BaseException | None = None
        self._is_cancelled_natively = False
        self._is_aborted = False
        self._patience = MOST_TURNS
        # Set when the scenario has waited long enough, and the turn after which it has in any case.
        self._awaited: anyio.Event | None = None
        self._last_turn = 0

    async def main(self, host: Host) -> _T | None:
        """Run the scenario; called by the backend, in its loop."""
        try:
            return await self._main(host)
        except BaseException as exc:
            self._failure = exc
            self._patience = self.line.turns + LAST_TURNS
            raise

    async def _main(self, host: Host) -> _T | None:
        self._host = host
        self._scope = CancelScope()
        host.begin()
        yields_always.set(self._buses_yield)
        is_virtual.set(True)
        current_run.set(self)
        before = running_tasks()
        try:
            result = await self._play()
            if self._stuck is None:
                check_left(before)
                if self._afterwards is not None:
                    await self._afterwards()
        except BaseException as exc:
            if self._stuck is None or ending_of(exc) is not None:
                raise
            raise self._stuck from exc
        if self._stuck is not None:
            raise self._stuck
        return result

    async def _play(self) -> _T | None:
        """Run the scenario itself, under its schedule, and cancel it if that is asked for."""
        self._is_on = True
        self.line.decide = self._decide
        try:
            with self._scope:
                if self._cancel_at == 0:
                    self._cancel()
                result = await self._scenario()
                if self._is_cancelled_natively:
                    # The scenario did not wait again: the native cancel is still to come, and is
                    # taken here.
                    await checkpoint()
                    self._host.absorb()
                return result
        except anyio.get_cancelled_exc_class():
            # If a cancel is left over, it came from Ctrl-C.
            if not (self._is_cancelled_natively and self._host.absorb()):
                raise
        finally:
            self._is_on = False
            self.line.decide = first_come
        return None

    def turn_over(self, *, waits: bool) -> None:
        """Note that a task's turn is over; called by the backend after each turn.

        Args:
            waits: whether the task goes on later.
        """
        if self._is_on and waits:
            self.checkpoints += 1
            if self.checkpoints == self._cancel_at:
                self._cancel()
        if self._awaited is not None and self.line.turns >= self._last_turn:
            self._awaited.set()
        if self.line.turns > self._patience:
            if self._failure is None:
                self._patience += MOST_TURNS
                self.stuck(f"it goes on after {MOST_TURNS:,} turns")
            else:
                # A backend waits for tasks that it has cancelled, and one goes on all the same.
                self._host.give_up(self._failure)

    def idle(self) -> None:
        """Note that nothing is ready and no timer is set; called by the backend."""
        if self._awaited is not None:
            self._awaited.set()
            self._awaited = None
            return
        self.stuck(
            "every task waits and no timer is set, which is a deadlock, unless one waits for a "
            "thread, a socket or a file; those don't exist in virtual time"
        )

    async def wait_until(self, event: anyio.Event, last_turn: int) -> bool:
        """Wait until an event is set, until nothing can happen any more, or until a turn.

        Nothing can happen if no task is ready and no timer is set. Only one task may wait so.

        Args:
            event: what is waited for; it is set in any case.
            last_turn: the number of the turn after which there is no more waiting.

        Returns:
            Whether that turn has not come yet.
        """
        self._awaited, self._last_turn = event, last_turn
        try:
            await event.wait()
        finally:
            self._awaited = None
        return self.line.turns < last_turn

    def stuck(self, reason: str) -> None:
        """End a run that does not end by itself.

        Tasks may be shielded, so each call does more: it cancels the scope, then aborts all tasks,
        then gives up.
        """
        if self._stuck is None:
            self._stuck = ScenarioStuck(reason)
            self._scope.cancel()
        elif not self._is_aborted:
            self._is_aborted = True
            self._host.abort()
        else:
            self._host.give_up(self._stuck)

    def _cancel(self) -> None:
        if self._style == "scope":
            self._scope.cancel()
        else:
            self._is_cancelled_natively = True
            self._host.cancel_natively()


def running_tasks() -> Counter[str]:
    """Count the tasks of this event loop by the names of what they run.

    By names, not by tasks: AnyIO's test runner makes a new task for each of its calls.
    """
    return Counter(
        getattr(task.coro, "__qualname__", None) or str(task) for task in anyio.get_running_tasks()
    )


def check_left(before: Counter[str]) -> None:
    """Compare the running tasks with those that ran before.

    Raises:
        TasksLeft: there are new ones.
    """
    left = running_tasks() - before
    if left:
        raise TasksLeft(tuple(sorted(left.elements())))
