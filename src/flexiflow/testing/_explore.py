"""Runs a scenario under many schedules, and shrinks the one that fails (P2)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, final

from flexiflow._callables import describe
from flexiflow._cancellation import leaves
from flexiflow.testing._checks import check_backend, check_decisions, check_int, check_scenario
from flexiflow.testing._failures import ScheduleFailure, ending_of
from flexiflow.testing._run import Run, run_scheduled
from flexiflow.testing._schedule import Decisions
from flexiflow.testing._search import Search
from flexiflow.testing._shrink import shrink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

_T = TypeVar("_T")

_SEEDS = 2**32
_MOST_TURNS = 1_000_000
"""After so many turns in all a schedule is shrunk no further."""


@final
@dataclass(frozen=True, slots=True)
class Exploration:
    """What `explore` did, where nothing failed.

    Attributes:
        schedules: how many schedules were run, no two of them the same.
        exhausted: whether there are no others.
        seed: explores the same schedules again.
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
) -> Exploration:
    """Run a scenario under many schedules of its tasks, in virtual time (P2).

    The first schedule is first come first served; no two are the same. It ends early where there
    are no others. Buses that the scenario makes yield at every publish.

    Args:
        scenario: an async function without arguments, which raises where something is wrong, and
            does the same whenever it is run under the same schedule.
        backend: "asyncio" or "trio".
        schedules: how many at most, 1 or more.
        seed: chooses the schedules, 0 or more; the same ones in every process. Without one, it is
            drawn, and told in what is returned or raised.

    Raises:
        ScheduleFailure: the scenario raised under one of them, which was then shrunk.
        TypeError: `scenario` is no async function without arguments.
        ValueError: an unknown backend; `schedules` or `seed` is no int, or too small.
        ImportError: the backend is not installed.
        RuntimeError: called from async code.
    """
    check_scenario(scenario, "explore")
    check_backend(backend)
    check_int("schedules", schedules, least=1)
    if seed is None:
        seed = random.SystemRandom().randrange(_SEEDS)
    check_int("seed", seed, least=0)
    search = Search(random.Random(seed))  # noqa: S311  not secret, but the same again
    for run in range(1, schedules + 1):
        exception = failure_of(Run(scenario, search), backend)
        if exception is not None:
            decisions = tuple(search.decisions)
            _raise_shrunk(scenario, decisions, exception, backend=backend, seed=seed, run=run)
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
) -> _T:
    """Run a scenario under one schedule, as `explore` did; return or raise what it does (P2).

    Args:
        scenario: as for `explore`.
        backend: "asyncio" or "trio".
        decisions: what a `ScheduleFailure` told; `()` is first come first served.
        buses_yield: whether buses that the scenario makes yield at every publish, as they do when
            it is explored, or once in `yield_every`.

    Raises:
        ScenarioStuck: the scenario does not come to its end.
        TasksLeft: it left tasks behind.
        TypeError: `scenario` is no async function without arguments; `decisions` is no sequence.
        ValueError: an unknown backend; a decision is no int of 0 or more.
        ImportError: the backend is not installed.
        RuntimeError: called from async code.
    """
    check_scenario(scenario, "replay")
    check_backend(backend)
    return run_scheduled(
        scenario,
        backend=backend,
        decisions=check_decisions(decisions),
        buses_yield=buses_yield,
    )


def failure_of(run: Run[Any], backend: str) -> BaseException | None:
    """Run it, and return what it raises, unless that is to end the whole program."""
    try:
        run.on(backend)
    except BaseException as exc:  # noqa: BLE001  pytest's failures are no `Exception`
        ending = ending_of(exc)
        if ending is not None:
            # Bare, whatever group it struck in.
            raise ending from None
        return exc
    return None


def _raise_shrunk(
    scenario: Callable[[], Awaitable[object]],
    decisions: tuple[int, ...],
    exception: BaseException,
    *,
    backend: str,
    seed: int,
    run: int,
) -> NoReturn:
    trials = _Trials(scenario, backend, exception)
    replays = trials.fails(decisions)
    if replays:
        decisions = shrink(decisions, trials.fails)
    raise ScheduleFailure(
        scenario=describe(scenario).rpartition(".")[2],
        backend=backend,
        seed=seed,
        run=run,
        decisions=decisions,
        exception=trials.exception,
        replays=replays,
    ) from trials.exception


@final
class _Trials:
    """Runs schedules that may fail as one did."""

    def __init__(
        self, scenario: Callable[[], Awaitable[object]], backend: str, exception: BaseException
    ) -> None:
        self.exception = exception
        self._scenario = scenario
        self._backend = backend
        self._turns = 0

    def fails(self, decisions: tuple[int, ...]) -> bool:
        """Tell whether a schedule fails alike, and keep what it raised."""
        if self._turns > _MOST_TURNS:
            return False
        run = Run(self._scenario, Decisions(decisions))
        exception = failure_of(run, self._backend)
        self._turns += run.line.turns
        if exception is None or _kinds(exception) != _kinds(self.exception):
            return False
        self.exception = exception
        return True


def _kinds(exception: BaseException) -> set[type[BaseException]]:
    return {type(leaf) for leaf in leaves(exception)}
