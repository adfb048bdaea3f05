"""Run a scenario under many schedules of its tasks, and shrink the first that fails (P2).

`explore` goes through these steps until a run fails, `schedules` runs are done, or there is no
other schedule:

1. A `Run` starts the scenario in a new event loop. The backend's queue of ready tasks is replaced
   by a `Line`, and its clock by a virtual one (`on_asyncio`, `on_trio`).
2. Whenever more than one task is ready, the line asks the `Search` which one runs next. The
   answers, in order, are the run's schedule.
3. When no task is ready, time jumps to the next timer. Without a timer, or after `MOST_TURNS`
   turns, the scenario is stuck, which is a failure.
4. After the scenario's end, tasks that it left behind are a failure too.
5. `Search.next` remembers the schedule and draws how the next one is to be chosen.

A schedule that failed is run again. If it fails alike, that is with exceptions of the same types,
`shrink` tries smaller schedules and keeps each that still fails alike; if not, the scenario depends
on more than its schedule. Then a `RecordedRun` of the smallest schedule notes each turn, for the
story (P8). Either way `ScheduleFailure` reports it. `replay` runs a scenario under one given
schedule, and notes its turns: the same steps 1 to 4, without a search.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast, final

from flexiflow._callables import describe
from flexiflow._cancellation import leaves
from flexiflow.testing._scheduling.backends import run_on
from flexiflow.testing._scheduling.checks import (
    check_backend,
    check_decisions,
    check_int,
    check_scenario,
    check_trace,
)
from flexiflow.testing._scheduling.drawing import draw_for
from flexiflow.testing._scheduling.failures import ScheduleFailure, ending_of, note_story, tell
from flexiflow.testing._scheduling.recording import RecordedRun
from flexiflow.testing._scheduling.run import Run
from flexiflow.testing._scheduling.schedule import Decisions
from flexiflow.testing._scheduling.search import Search, shrink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from flexiflow.testing._scheduling.story import Story

_T = TypeVar("_T")

_SEEDS = 2**32
_MOST_TURNS = 1_000_000
"""Shrinking stops once its runs have taken more turns than this in all."""


@final
@dataclass(frozen=True, slots=True)
class Exploration:
    """What `explore` did, when no schedule failed.

    Attributes:
        schedules: how many schedules were run, no two of them the same.
        exhausted: whether there are no other schedules.
        seed: the seed that explores the same schedules again.

    Example:
        >>> import anyio
        >>> from flexiflow.testing import explore
        >>> async def scenario():
        ...     await anyio.sleep(1)
        >>> exploration = explore(scenario, backend="asyncio", seed=1)
        >>> print(exploration.schedules, exploration.exhausted)
        1 True
    """

    schedules: int
    exhausted: bool
    seed: int


def explore(
    scenario: Callable[[], Awaitable[object]],
    *,
    backend: str,
    schedules: int = 1000,
    seed: int | None = None,
    trace: str | Path | None = None,
) -> Exploration:
    """Run a scenario under many schedules of its tasks, in virtual time (P2).

    The first schedule is first come first served; no two are the same. Exploring ends early when
    there are no other schedules. Buses that the scenario makes yield at every publish.

    Args:
        scenario: an async function without arguments, which raises if something is wrong, and does
            the same whenever it is run under the same schedule.
        backend: "asyncio" or "trio".
        schedules: the most schedules to run, 1 or more.
        seed: chooses the schedules, 0 or more; the same ones in every process. Without one, a seed
            is drawn; it is part of what is returned or raised.
        trace: where to draw the story of the schedule that fails, as an HTML file; one that is
            there is replaced. Nothing is written if none fails (P8).

    Raises:
        ScheduleFailure: the scenario raised under a schedule, which was then shrunk.
        TypeError: `scenario` is no async function without arguments; `trace` is no path.
        ValueError: an unknown backend; `schedules` or `seed` is no int, or too small; `trace` is a
            folder, or in none that exists.
        ImportError: the backend is not installed.
        RuntimeError: called from async code.

    Example:
        >>> import anyio
        >>> from flexiflow.testing import explore
        >>> async def scenario():
        ...     async with anyio.create_task_group() as tasks:
        ...         for seconds in (1, 2):
        ...             tasks.start_soon(anyio.sleep, seconds)
        >>> exploration = explore(scenario, backend="asyncio", schedules=100, seed=1)
        >>> print(exploration.exhausted)
        True
    """
    check_scenario(scenario, "explore")
    check_backend(backend)
    check_int("schedules", schedules, least=1)
    if seed is None:
        seed = random.SystemRandom().randrange(_SEEDS)
    check_int("seed", seed, least=0)
    drawing = check_trace(trace)
    search = Search(random.Random(seed))  # noqa: S311  not secret, but the same again
    for run in range(1, schedules + 1):
        exception = failure_of(Run(scenario, search), backend)
        if exception is not None:
            decisions = tuple(search.decisions)
            failure = _shrunk(scenario, decisions, exception, backend=backend, seed=seed, run=run)
            if failure.story is not None:
                draw_for(failure, failure.story, drawing, failure.summary)
            raise failure from failure.exception
        search.next()
        if search.is_exhausted:
            return Exploration(run, exhausted=True, seed=seed)
    return Exploration(schedules, exhausted=False, seed=seed)


def replay(
    scenario: Callable[[], Awaitable[_T]],
    *,
    backend: str,
    decisions: Iterable[int],
    buses_yield: bool = True,
    trace: str | Path | None = None,
) -> _T:
    """Run a scenario under one schedule, as `explore` does; return or raise what it does (P2).

    An exception has the story of the run as a note, which is shown below its traceback (P8).

    Args:
        scenario: as for `explore`.
        backend: "asyncio" or "trio".
        decisions: the schedule, as a `ScheduleFailure` shows it; `()` is first come first served.
        buses_yield: whether buses that the scenario makes yield at every publish, as they do under
            `explore`, or once in `yield_every`.
        trace: as for `explore`.

    Raises:
        ScenarioStuck: the scenario does not come to its end.
        TasksLeft: it left tasks behind.
        TypeError: `scenario` is no async function without arguments; `decisions` is no sequence;
            `trace` is no path.
        ValueError: an unknown backend; a decision is no int of 0 or more; `trace` is a folder, or
            in none that exists.
        ImportError: the backend is not installed.
        RuntimeError: called from async code.

    Example:
        >>> import anyio
        >>> from flexiflow.testing import replay
        >>> async def scenario():
        ...     await anyio.sleep(3600)
        ...     return "an hour later"
        >>> print(replay(scenario, backend="asyncio", decisions=()))
        an hour later
    """
    check_scenario(scenario, "replay")
    check_backend(backend)
    schedule = check_decisions(decisions)
    drawing = check_trace(trace)
    run = RecordedRun(scenario, Decisions(schedule), buses_yield=buses_yield)
    try:
        # Nothing cancels this run, so it has a result.
        return cast("_T", run_on(run, backend))
    except BaseException as exc:
        if ending_of(exc) is None:
            story = run.story()
            note_story(exc, story)
            name, failed = _name_of(scenario), tell(exc)
            text = f"{name} fails on {backend}: {failed}\n  decisions: {schedule}"
            draw_for(exc, story, drawing, text)
        raise


def failure_of(run: Run[Any], backend: str) -> BaseException | None:
    """Return what a run raises, or None; an exception that ends the whole program is raised."""
    try:
        run_on(run, backend)
    except BaseException as exc:  # noqa: BLE001  pytest's failures are no `Exception`
        ending = ending_of(exc)
        if ending is not None:
            # Bare, even if it was raised within an exception group.
            raise ending from None
        return exc
    return None


def _shrunk(
    scenario: Callable[[], Awaitable[object]],
    decisions: tuple[int, ...],
    exception: BaseException,
    *,
    backend: str,
    seed: int,
    run: int,
) -> ScheduleFailure:
    trials = _Trials(scenario, backend, exception)
    story: Story | None = None
    if trials.fails(decisions):
        decisions = shrink(decisions, trials.fails)
        story = trials.story(decisions)
    return ScheduleFailure(
        scenario=_name_of(scenario),
        backend=backend,
        seed=seed,
        run=run,
        decisions=decisions,
        exception=trials.exception,
        replays=story is not None,
        story=story,
    )


def _name_of(scenario: object) -> str:
    return describe(scenario).rpartition(".")[2]


@final
class _Trials:
    """Runs schedules to see whether they fail as the first one did."""

    def __init__(
        self, scenario: Callable[[], Awaitable[object]], backend: str, exception: BaseException
    ) -> None:
        self.exception = exception
        self._scenario = scenario
        self._backend = backend
        self._turns = 0

    def fails(self, decisions: tuple[int, ...]) -> bool:
        """Return whether a schedule fails alike, and keep the exception if so."""
        if self._turns > _MOST_TURNS:
            return False
        return self._fails_alike(Run(self._scenario, Decisions(decisions)))

    def story(self, decisions: tuple[int, ...]) -> Story | None:
        """Run a schedule once more, and return its story, or None if it does not fail alike."""
        run = RecordedRun(self._scenario, Decisions(decisions))
        return run.story() if self._fails_alike(run) else None

    def _fails_alike(self, run: Run[object]) -> bool:
        exception = failure_of(run, self._backend)
        self._turns += run.line.turns
        if exception is None or _kinds(exception) != _kinds(self.exception):
            return False
        self.exception = exception
        return True


def _kinds(exception: BaseException) -> set[type[BaseException]]:
    return {type(leaf) for leaf in leaves(exception)}
