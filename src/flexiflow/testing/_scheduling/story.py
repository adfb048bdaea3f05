"""The story of a run: whose turn each one was, what it did, and where it stopped (P8).

Plain data and its text; `recording` makes it, `drawing` draws it.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TextIO, final

from flexiflow._text import counted
from flexiflow.testing._scheduling.checks import check_int

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST_STEPS: Final = 40
"""A text tells so many steps, and so many tasks that wait; the others are left out."""

CANCELLED: Final = "ends cancelled"

_MOST_NAMES: Final = 3
_WIDEST: Final = 30
"""Longer names of tasks are not waited for by the columns beside them."""

_BOLD, _DIM, _FAILED, _RESET = "\x1b[0;1m", "\x1b[0;2m", "\x1b[0;1;31m", "\x1b[0m"
_LANES: Final = tuple(f"\x1b[0;{color}m" for color in (36, 33, 35, 32, 34, 96, 93, 95, 92, 94))


@final
@dataclass(frozen=True, slots=True)
class Place:
    """A line of source code (P8).

    Attributes:
        file: the path of the file; relative if it lies below the working directory, or belongs to
            AnyIO, to FlexiFlow or to Python.
        line: the number of the line, counted from 1.
        function: the qualified name of the function.
        code: the line itself, or "" if it can't be read.

    Example:
        >>> from flexiflow.testing import ScheduleFailure, explore
        >>> async def scenario():
        ...     raise LookupError("no such order")
        >>> try:
        ...     explore(scenario, backend="asyncio", seed=1)
        ... except ScheduleFailure as failure:
        ...     place = failure.story.turns[-1].place
        ...     print(place.function)
        scenario
    """

    file: str
    line: int
    function: str
    code: str

    def __str__(self) -> str:
        """Return the file and the line, as editors and terminals understand it."""
        return f"{self.file}:{self.line}"


@final
@dataclass(frozen=True, slots=True)
class Turn:
    """A turn of a task, or several turns of one task in a row (P8).

    Attributes:
        number: the number of the turn, counted from 1.
        last: the number of its last turn, if these are several.
        task: the name of the task.
        at: the virtual time, in seconds since the run began.
        begins: whether it is the task's first turn.
        cancelled: whether a cancellation strikes the task in this turn.
        ahead_of: the tasks that had been ready before it, and were passed over.
        acts: what it did to other tasks: "starts", "wakes" or "cancels", and the task's name.
        end: how the task ended, as "returns" or "raises LookupError"; "" if it goes on later.
        place: where it stopped: where it waits, where it raised, or the function that returned.

    Example:
        >>> from flexiflow.testing import ScheduleFailure, explore
        >>> async def scenario():
        ...     raise LookupError("no such order")
        >>> try:
        ...     explore(scenario, backend="asyncio", seed=1)
        ... except ScheduleFailure as failure:
        ...     [turn] = failure.story.turns
        ...     print(turn.number, turn.task, turn.end)
        1 scenario raises LookupError: no such order
    """

    number: int
    last: int
    task: str
    at: float
    begins: bool
    cancelled: bool
    ahead_of: tuple[str, ...]
    acts: tuple[tuple[str, str], ...]
    end: str
    place: Place | None

    @property
    def numbers(self) -> str:
        """The number of the turn, or the first and the last number."""
        return str(self.number) if self.number == self.last else f"{self.number}-{self.last}"

    @property
    def did(self) -> str:
        """What the task did, in words."""
        return ", ".join(self.words())

    def words(self) -> Iterator[str]:
        """Yield what the task did, one thing after another."""
        is_cancelled = self.cancelled and self.end != CANCELLED
        goes = " and ".join(["begins"] * self.begins + ["is cancelled"] * is_cancelled)
        if self.ahead_of:
            yield f"{goes or 'goes on'} ahead of {listed(self.ahead_of)}"
        elif goes or not (self.acts or self.end):
            yield goes or "goes on"
        for verb in dict.fromkeys(verb for verb, _ in self.acts):
            names = dict.fromkeys(name for each, name in self.acts if each == verb)
            yield f"{verb} {listed(tuple(names))}"
        if self.end:
            yield self.end


@final
@dataclass(frozen=True, slots=True)
class Story:
    """What happened in a run that failed, turn by turn (P8).

    Attributes:
        turns: the turns, from the scenario's first to its last one.
        waiting: the tasks that had not ended then, and where each of them waited; None if it had
            not begun.

    Example:
        >>> from flexiflow.testing import ScheduleFailure, explore
        >>> async def scenario():
        ...     raise LookupError("no such order")
        >>> try:
        ...     explore(scenario, backend="asyncio", seed=1)
        ... except ScheduleFailure as failure:
        ...     for turn in failure.story.turns:
        ...         print(turn.number, turn.end)
        1 raises LookupError: no such order
    """

    turns: tuple[Turn, ...]
    waiting: tuple[tuple[str, Place | None], ...]

    def __str__(self) -> str:
        """Return the story as a failure tells it."""
        return self.render()

    def render(self, *, color: bool = False, limit: int | None = MOST_STEPS) -> str:
        """Return the story as text: two lines for each step, which is a task's turns in a row.

        Args:
            color: whether to color it, for terminals.
            limit: the most steps to tell, 1 or more; of a longer story the middle is left out. Of
                the tasks that wait then, as many are told. None: all.

        Raises:
            ValueError: `limit` is no int, or too small.
        """
        if limit is not None:
            check_int("limit", limit, least=1)
        lines = _Lines(self, color=color)
        return "\n".join(lines.all(limit))

    def show(self, file: TextIO | None = None) -> None:
        """Write the whole story: in color on a terminal, unless `NO_COLOR` is set or it is dumb.

        Args:
            file: where to; standard output by default.
        """
        stream: TextIO | None = sys.stdout if file is None else file
        if stream is not None:
            is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
            color = stream.isatty() and not is_plain
            stream.write(f"{self.render(color=color, limit=None)}\n")

    def tasks(self) -> tuple[str, ...]:
        """Return the names of the tasks, in the order in which they appear."""
        names = [turn.task for turn in self.turns] + [name for name, _ in self.waiting]
        return tuple(dict.fromkeys(names))

    def steps(self) -> list[Turn]:
        """Return the turns, with those that one task takes in a row as one step.

        A turn ahead of others, and one after time has passed, begins a step of its own.
        """
        steps: list[Turn] = []
        for turn in self.turns:
            if steps and _continues(steps[-1], turn):
                steps[-1] = _joined(steps[-1], turn)
            else:
                steps.append(turn)
        return steps


def _continues(step: Turn, turn: Turn) -> bool:
    return turn.task == step.task and not turn.ahead_of and turn.at == step.at


def _joined(step: Turn, turn: Turn) -> Turn:
    return replace(
        step,
        last=turn.last,
        cancelled=step.cancelled or turn.cancelled,
        acts=step.acts + turn.acts,
        end=turn.end,
        place=turn.place,
    )


def abridged(
    steps: Sequence[Turn], limit: int | None
) -> tuple[Sequence[Turn], int, Sequence[Turn]]:
    """Return the first steps, how many turns are left out after them, and the last steps."""
    if limit is None or len(steps) <= limit:
        return steps, 0, ()
    head = limit // 2
    tail = len(steps) - (limit - head)
    return steps[:head], steps[tail].number - steps[head].number, steps[tail:]


def left_out(turns: int) -> str:
    """Return the sentence that says so, and where they are shown."""
    return f"{counted(turns, 'turn')} left out here; `story.render(limit=None)` tells all"


def untold(waiting: int) -> str:
    """Return the sentence that says that more tasks wait, and where they are shown."""
    return f"{counted(waiting, 'more task')} had not ended; `story.render(limit=None)` tells all"


def listed(names: Sequence[str]) -> str:
    """Return some names as in a sentence; of many names only the first."""
    shown = list(names[:_MOST_NAMES])
    if len(names) > _MOST_NAMES:
        shown[-1:] = [f"{len(names) - _MOST_NAMES + 1} more"]
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


@final
class _Lines:
    """Lays out a story in columns."""

    def __init__(self, story: Story, *, color: bool) -> None:
        self._story = story
        self._color = color
        names = story.tasks()
        self._lanes = {name: _LANES[lane % len(_LANES)] for lane, name in enumerate(names)}
        self._wide = max((len(name) for name in names if len(name) <= _WIDEST), default=0)
        self._digits = 0

    def all(self, limit: int | None) -> Iterator[str]:
        steps = self._story.steps()
        head, gap, tail = abridged(steps, limit)
        self._digits = max((len(step.numbers) for step in (*head, *tail)), default=0)
        at = 0.0
        for step in head:
            yield from self._step(step, at)
            at = step.at
        if gap:
            yield self._aside(f"({left_out(gap)})")
        for step in tail:
            yield from self._step(step, at)
            at = step.at
        waiting = self._story.waiting
        for name, place in waiting[:limit]:
            yield self._row("", name, "has not begun" if place is None else "still waits here", "")
            yield from self._where(place)
        if more := len(waiting) - len(waiting[:limit]):
            yield self._aside(f"({untold(more)})")

    def _step(self, step: Turn, at: float) -> Iterator[str]:
        if step.at != at:
            yield self._aside(f"(the time jumps to {step.at:g} s)")
        paint = _FAILED if step.end.startswith("raises") else _BOLD if step.ahead_of else ""
        yield self._row(step.numbers, step.task, step.did, paint)
        yield from self._where(step.place)

    def _where(self, place: Place | None) -> Iterator[str]:
        if place is not None:
            yield self._aside(f"{place}  {place.code}".rstrip())

    def _row(self, numbers: str, task: str, did: str, paint: str) -> str:
        numbers = self._painted(numbers.rjust(self._digits), _DIM)
        name = self._painted(task.ljust(self._wide), self._lanes[task])
        return f"  {numbers}  {name}  {self._painted(did, paint or _RESET)}"

    def _aside(self, text: str) -> str:
        return f"{' ' * (self._digits + self._wide + 6)}{self._painted(text, _DIM)}"

    def _painted(self, text: str, paint: str) -> str:
        return f"{paint}{text}{_RESET}" if self._color else text
