"""One run of all workers, of which at most one is killed and started again (P7)."""

from __future__ import annotations

import os
import re
from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol, final

from flexiflow.testing._crashing.failures import WorkerFailed
from flexiflow.testing._crashing.journal import (
    ENDED,
    FAILED,
    IN_MEMORY,
    KILLED,
    Fact,
    describe_fact,
    read_journal,
)
from flexiflow.testing._crashing.judging import judge
from flexiflow.testing._crashing.life import Life
from flexiflow.testing._crashing.points import Point
from flexiflow.testing._scheduling.failures import ScenarioStuck

if TYPE_CHECKING:
    from pathlib import Path

    from flexiflow.testing._crashing.points import Plan

_LINES: Final = 20
"""How many lines of what the workers told, and of what they wrote, are shown."""

_REPLAY: Final = re.compile(r" replay \d+")
"""The number of a replay, which is for comparing."""

_FATES: Final = (ENDED, FAILED, KILLED)


class Starts(Protocol):
    """What a round needs of the hatchery."""

    def start(self, life: Life) -> int:
        """Start a process, and return its number."""
        ...

    def kill(self, number: int) -> None:
        """Kill a process."""


@final
class Round:
    """One run of all workers.

    Args:
        plan: what all rounds have in common.
        hatchery: starts processes.
        folder: a folder for the workers' files, which is made here.
        point: where a worker is killed; None if none is.

    Attributes:
        folder: as given.
        point: as given.
        facts: what the workers have told; complete once no process is left.
        processes: the workers whose processes run, by the numbers of the processes.
    """

    def __init__(self, plan: Plan, hatchery: Starts, folder: Path, point: Point | None) -> None:
        self.folder = folder
        self.point = point
        self.facts: list[Fact] = []
        self.processes: dict[int, int] = {}
        self._plan = plan
        self._hatchery = hatchery
        self._journal = folder.with_suffix(".journal")
        self._output = folder.with_suffix(".output")
        self._problem: Exception | None = None
        self._is_killed = False
        folder.mkdir()
        for worker in range(len(plan.names)):
            is_victim = point is not None and point.worker == worker
            self._start(worker, point if is_victim else None)

    def _start(self, worker: int, point: Point | None) -> None:
        plan, journal, output = self._plan, str(self._journal), str(self._output)
        kill_at = None if point is None else (point.way, point.time)
        life = Life(worker, plan.backend, str(self.folder), journal, output, kill_at)
        self.processes[self._hatchery.start(life)] = worker
        self._until = monotonic() + plan.time_limit

    def note_end(self, number: int, status: int | None) -> None:
        """Note that a process has ended; start a worker again if it was killed at the point."""
        worker = self.processes.pop(number)
        self.facts = read_journal(self._journal)
        fates = [each for each in self.facts if each.worker == worker and each.what in _FATES]
        fate = fates[-1] if fates else Fact(worker, "", None)
        if fate.what == KILLED and not self._is_killed and self._problem is None:
            self._is_killed = True
            self._start(worker, None)
        elif fate.what != ENDED:
            reason = fate.about if fate.what == FAILED else f"its process ended, with {status}"
            self._give_up(WorkerFailed(self._plan.names[worker], reason))

    def note_time(self) -> None:
        """Give up if the time is over and a process is left."""
        if self.processes and monotonic() >= self._until:
            names = ", ".join(repr(self._plan.names[each]) for each in self.processes.values())
            seconds = self._plan.time_limit
            self._give_up(ScenarioStuck(f"after {seconds} seconds, {names} had not ended"))

    def _give_up(self, problem: Exception) -> None:
        if self._problem is None:
            self._problem = problem
            for number in self.processes:
                self._hatchery.kill(number)

    @property
    def place(self) -> str | None:
        """Where the worker was when it was killed; None if it was not."""
        return next((fact.about for fact in self.facts if fact.what == KILLED), None)

    def passed(self) -> list[list[Point]]:
        """Return the checkpoints that each worker has passed, in order."""
        passed: list[list[Point]] = [[] for _ in self._plan.names]
        for fact in self.facts:
            if fact.what == ENDED:
                times = Counter[str]()
                for way, *rest in fact.about:
                    times[way] += 1
                    passed[fact.worker].append(Point(fact.worker, way, times[way], *rest))
        return passed

    @property
    def is_in_memory(self) -> bool:
        """Whether a bridge was opened over a transport that keeps nothing."""
        return any(fact.what == IN_MEMORY for fact in self.facts)

    def problem(self) -> Exception | None:
        """Return what is wrong, apart from what the user checks."""
        return judge(self.facts) or self._problem

    def history(self) -> str:
        """Return the last facts that the workers told, a line for each."""
        lines = [
            f"{self._plan.names[fact.worker]}: {describe_fact(fact)}"
            for fact in self.facts
            if fact.what != FAILED
        ]
        text = "\n".join(lines[-_LINES:])
        return _REPLAY.sub("", text.replace(f"{self.folder}{os.sep}", ""))

    def output(self) -> str:
        """Return the last lines that the workers wrote."""
        if not self._output.exists():
            return ""
        lines = self._output.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_LINES:])

    def clear(self) -> None:
        """Remove the files beside the folder."""
        self._journal.unlink(missing_ok=True)
        self._output.unlink(missing_ok=True)
