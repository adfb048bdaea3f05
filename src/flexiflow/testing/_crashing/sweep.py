"""The rounds that `crash_everywhere` runs: one without a crash, and one for each point (P7)."""

from __future__ import annotations

import shutil
from collections import deque
from inspect import isawaitable
from itertools import chain, count, groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Final, final

import anyio

from flexiflow._callables import describe
from flexiflow.testing._crashing.failures import Crashes, CrashFailure
from flexiflow.testing._crashing.rounds import Round
from flexiflow.testing._scheduling.failures import ending_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from pathlib import Path

    from flexiflow.testing._crashing.hatchery import Hatchery
    from flexiflow.testing._crashing.points import Plan, Point

_LONGEST_WAIT: Final = 0.5
"""For how many seconds to wait for an end before the time is looked at."""


@final
class Sweep:
    """Runs the rounds, several at a time, and judges each that is over.

    Args:
        plan: what all rounds have in common.
        hatchery: starts processes.
        folder: where the rounds have their folders.
        check: the user's check.
        at_once: how many rounds go on at the same time.
    """

    def __init__(
        self,
        plan: Plan,
        hatchery: Hatchery,
        folder: Path,
        check: Callable[[Path], object],
        at_once: int,
    ) -> None:
        self._plan = plan
        self._hatchery = hatchery
        self._folder = folder
        self._check = check
        self._at_once = at_once
        self._numbers = count(1)
        self._running: list[Round] = []

    def run(self, points: Sequence[Point] | None, most: int | None) -> Crashes:
        """Run a round for each point.

        Args:
            points: the points; None to find them by a round without a crash.
            most: of the points that were found, how many to try at most.
        """
        checkpoints: dict[str, int] = {}
        if points is None:
            (plain,) = self._run_all([None])
            passed = plain.passed()
            checkpoints = dict(zip(self._plan.names, map(len, passed), strict=True))
            points = spread([*chain.from_iterable(passed)], most)
        rounds = zip(points, self._run_all(points), strict=True)
        missed = {self._shown(point): point.place for point, each in rounds if each.place is None}
        return Crashes(checkpoints, len(points), missed)

    def _run_all(self, points: Iterable[Point | None]) -> list[Round]:
        """Run a round for each point, and return them in the order of the points."""
        waiting = deque(points)
        begun: list[Round] = []
        while waiting or self._running:
            while waiting and len(self._running) < self._at_once:
                begun.append(self._begin(waiting.popleft()))
            self._wait()
            for each in [each for each in self._running if not each.processes]:
                self._running.remove(each)
                self._judge(each)
        return begun

    def _begin(self, point: Point | None) -> Round:
        # The name of the folder above makes it unique in all, as for keys of a server.
        folder = self._folder / f"{self._folder.name}-{next(self._numbers)}"
        begun = Round(self._plan, self._hatchery, folder, point)
        self._running.append(begun)
        return begun

    def _wait(self) -> None:
        """Wait for processes to end, or for the time to be over."""
        ended = self._hatchery.wait(_LONGEST_WAIT)
        while ended is not None:
            number, status = ended
            for each in self._running:
                if number in each.processes:
                    each.note_end(number, status)
            ended = self._hatchery.wait(0)
        for each in self._running:
            each.note_time()

    def _judge(self, over: Round) -> None:
        if over.is_in_memory:
            raise ValueError(
                "a worker opened a bridge over a MemoryTransport, which is lost with its process: "
                "open a SqliteTransport in the folder of the run"
            )
        problem = over.problem() or self._checked(over)
        if problem is not None:
            raise CrashFailure(
                backend=self._plan.backend,
                at=None if over.point is None else self._shown(over.point),
                place=over.place,
                exception=problem,
                history=over.history(),
                output=over.output(),
            ) from problem
        over.clear()
        # The user may have removed it.
        shutil.rmtree(over.folder, ignore_errors=True)

    def _checked(self, over: Round) -> BaseException | None:
        """Call the user's check, and return what it raises."""
        try:
            verdict = self._check(over.folder)
            if isawaitable(verdict):
                verdict = anyio.run(_finish, verdict, backend=self._plan.backend)
            if verdict is False:
                raise AssertionError(f"{describe(self._check)} returned False")  # noqa: TRY301
        except BaseException as problem:
            # Pytest's failures are no `Exception`.
            if ending_of(problem) is not None:
                raise
            return problem
        return None

    def _shown(self, point: Point) -> str:
        return f"{self._plan.names[point.worker]}:{point.way}:{point.time}"


async def _finish(verdict: Awaitable[object]) -> object:
    return await verdict


def spread(points: Sequence[Point], most: int | None) -> Sequence[Point]:
    """Return all points, or as many as are wanted: those of the first ranks.

    Where not all of a rank can be taken, they are spread evenly.
    """
    if most is None or most >= len(points):
        return points
    chosen: list[Point] = []
    for _, group in groupby(sorted(points, key=attrgetter("rank")), attrgetter("rank")):
        equal = [*group]
        room = min(most - len(chosen), len(equal))
        chosen += [equal[number * len(equal) // room] for number in range(room)]
    return chosen
