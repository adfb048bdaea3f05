"""Run scenarios on the backend that is asked for; each is imported when it is first needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from flexiflow.testing._scheduling.run import Run
from flexiflow.testing._scheduling.schedule import Decisions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

_T = TypeVar("_T")


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
    # Nothing cancels this run, so it has a result.
    return cast("_T", run_on(run, backend))


def run_on(run: Run[_T], backend: str) -> _T | None:
    """Start a run on a backend; return the scenario's result, or None if it was cancelled."""
    # Each of these imports its backend, so only the one that is needed is imported.
    if backend == "asyncio":
        from flexiflow.testing._scheduling import on_asyncio  # noqa: PLC0415

        return on_asyncio.run(run)
    from flexiflow.testing._scheduling import on_trio  # noqa: PLC0415

    return on_trio.run(run)


def run_counted(
    main: Callable[[], Awaitable[object]], turn_over: Callable[[Any], object], backend: str
) -> None:
    """Run `await main()` to its end in real time, and report the turns of its tasks (P7).

    Args:
        main: takes no arguments.
        turn_over: called with the coroutine of a task, each time that the task has given up its
            turn and is to go on later.
        backend: "asyncio" or "trio".
    """
    if backend == "asyncio":
        from flexiflow.testing._scheduling import on_asyncio  # noqa: PLC0415  as above

        on_asyncio.run_counted(main, turn_over)
    else:
        from flexiflow.testing._scheduling import on_trio  # noqa: PLC0415  as above

        on_trio.run_counted(main, turn_over)
