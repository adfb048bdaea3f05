"""One run of a scenario: in a loop of its own, in virtual time, under a schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeAlias, TypeVar, cast, final

import anyio
from anyio import CancelScope
from anyio.lowlevel import checkpoint

from flexiflow._bus import yields_always
from flexiflow.testing._failures import ScenarioStuck, ending_of
from flexiflow.testing._schedule import Decisions, Line, first_come
from flexiflow.testing._tasks import check_left, running_tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from flexiflow.testing._schedule import Decide

Style: TypeAlias = Literal["scope", "native"]

MOST_TURNS = 100_000
"""After so many turns of its tasks a scenario is taken to be without end."""

_T = TypeVar("_T")


class Host(Protocol):
    """What a run needs of the backend that it runs on."""

    def begin(self) -> None:
        """Take over from the backend's own scheduler; called in the scenario's task."""

    def cancel_natively(self) -> None:
        """Cancel the scenario's task as the backend itself does."""

    def absorb(self) -> bool:
        """Count one native cancel as dealt with, and tell whether no other is left."""
        ...

    def abort(self) -> None:
        """Make every task go on that waits, whatever shields it."""


def run_scheduled(
    scenario: Callable[[], Awaitable[_T]],
    *,
    backend: str,
    decisions: Iterable[int] = (),
    buses_yield: bool = True,
) -> _T:
    """Run `await scenario()` to its end under a schedule, and return or raise what it does.

    Args:
        scenario: takes no arguments.
        backend: "asyncio" or "trio".
        decisions: the schedule; without one, first come first served.
        buses_yield: whether buses made by the scenario yield at every publish.

    Raises:
        ScenarioStuck: nothing is ready and no timer is set, or there is no end.
        TasksLeft: the scenario left tasks behind.
    """
    run = Run(scenario, Decisions(decisions), buses_yield=buses_yield)
    # Nothing cancels it, so that it has a result.
    return cast("_T", run.on(backend))


@final
class Run(Generic[_T]):
    """One run of a scenario.

    Args:
        scenario: takes no arguments.
        decide: says which task goes next, from the scenario's first turn to its last.
        buses_yield: whether buses made by the scenario yield at every publish.
        cancel_at: at which checkpoint to cancel it; 0 is before its beginning.
        style: how to cancel it.
        afterwards: awaited when the scenario has ended, however it did.

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
        self._is_cancelled_natively = False
        self._is_aborted = False
        self._patience = MOST_TURNS

    def on(self, backend: str) -> _T | None:
        """Run it; None where it was cancelled."""
        # Each knows one backend, which is not imported before it is asked for.
        if backend == "asyncio":
            from flexiflow.testing import _on_asyncio  # noqa: PLC0415

            return _on_asyncio.run(self)
        from flexiflow.testing import _on_trio  # noqa: PLC0415

        return _on_trio.run(self)

    async def main(self, host: Host) -> _T | None:
        """Run the scenario; what a backend calls in its loop."""
        self._host = host
        self._scope = CancelScope()
        host.begin()
        yields_always.set(self._buses_yield)
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
        self._is_on = True
        self.line.decide = self._decide
        try:
            with self._scope:
                if self._cancel_at == 0:
                    self._cancel()
                result = await self._scenario()
                if self._is_cancelled_natively:
                    # It is still to come where the scenario did not wait any more.
                    await checkpoint()
                    self._host.absorb()
                return result
        except anyio.get_cancelled_exc_class():
            # What is cancelled by somebody else too is so by Ctrl-C.
            if not (self._is_cancelled_natively and self._host.absorb()):
                raise
        finally:
            self._is_on = False
            self.line.decide = first_come
        return None

    def turn_over(self, *, waits: bool) -> None:
        """Note that a task's turn is over; what a backend calls after each.

        Args:
            waits: whether the task goes on later.
        """
        if self._is_on and waits:
            self.checkpoints += 1
            if self.checkpoints == self._cancel_at:
                self._cancel()
        if self.line.turns > self._patience:
            self._patience += MOST_TURNS
            self.stuck(f"it goes on after {MOST_TURNS:,} turns")

    def idle(self) -> None:
        """Note that nothing is ready and no timer is set; what a backend then calls."""
        self.stuck(
            "every task waits and no timer is set, which is a deadlock, unless one waits for a "
            "thread, a socket or a file; those don't exist in virtual time"
        )

    def stuck(self, reason: str) -> None:
        """End a run that does not end, with more effort each time, since tasks may be shielded."""
        if self._stuck is None:
            self._stuck = ScenarioStuck(reason)
            self._scope.cancel()
        elif not self._is_aborted:
            self._is_aborted = True
            self._host.abort()
        else:
            raise self._stuck

    def _cancel(self) -> None:
        if self._style == "scope":
            self._scope.cancel()
        else:
            self._is_cancelled_natively = True
            self._host.cancel_natively()
