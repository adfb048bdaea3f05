"""Run a scenario and note each turn, to tell the story of a schedule that failed (P8).

Noting takes time, so `explore` does it only once, for the schedule that it reports.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, final
from weakref import ref

import anyio

from flexiflow._text import printable, shorten
from flexiflow.testing._scheduling.failures import tell
from flexiflow.testing._scheduling.places import (
    begins_at,
    inner,
    place_of,
    qualname_of,
    raised_at,
    waits_at,
)
from flexiflow.testing._scheduling.run import Run
from flexiflow.testing._scheduling.schedule import Line
from flexiflow.testing._scheduling.story import CANCELLED, Story, Turn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
    from types import FrameType

    from flexiflow.testing._scheduling.places import Spot
    from flexiflow.testing._scheduling.run import Host
    from flexiflow.testing._scheduling.schedule import Decide

_T = TypeVar("_T")

_UNNAMED = re.compile(r"Task-\d+|None")


@final
class RecordedRun(Run[_T]):
    """A run that can tell its story.

    Args:
        scenario: as for `Run`.
        decide: as for `Run`.
        buses_yield: as for `Run`.
    """

    def __init__(
        self,
        scenario: Callable[[], Awaitable[_T]],
        decide: Decide,
        *,
        buses_yield: bool = True,
    ) -> None:
        super().__init__(scenario, decide, buses_yield=buses_yield)
        self._witness = _Witness()
        self.line = _WatchedLine(self._witness)

    async def _play(self) -> _T | None:
        self._witness.begin(self._host)
        try:
            result = await super()._play()
        except BaseException as exc:
            self._witness.end(exc)
            raise
        self._witness.end(None)
        return result

    def turn_over(self, *, waits: bool) -> None:
        """Note where the task stopped, and go on as any run."""
        self._witness.over(waits=waits)
        super().turn_over(waits=waits)

    def stuck(self, reason: str) -> None:
        """Note no more, since what follows only ends the run."""
        self._witness.stop()
        super().stuck(reason)

    def story(self) -> Story:
        """Return what happened."""
        return self._witness.story()


@final
@dataclass(eq=False, slots=True)
class _Task:
    """A task that was seen.

    Attributes:
        handle: a reference to the backend's own task, whose life is not to be prolonged.
        function: the name of its function.
        code: where its function begins.
        is_own: whether it is one of the scenario's tasks, and not one of the backend's.
        name: its name, as soon as it is known for good.
        has_begun: whether it has had a turn.
        has_ended: whether it had its last turn.
        spot: where it stopped last.
    """

    handle: ref[Any]
    function: str
    code: Spot | None
    is_own: bool
    name: str = ""
    has_begun: bool = False
    has_ended: bool = False
    spot: Spot | None = None


@final
@dataclass(eq=False, slots=True)
class _Turn:
    """A turn that was seen: as `Turn`, without names and places."""

    task: _Task
    at: float
    begins: bool
    cancelled: bool
    ahead_of: tuple[_Task, ...] = ()
    acts: list[tuple[str, _Task]] = field(default_factory=list["tuple[str, _Task]"])
    end: str = ""
    spot: Spot | None = None


@final
class _WatchedLine(Line[Any]):
    """A line that tells a witness who joins it and who leaves it."""

    __slots__ = ("_owners", "_witness")

    def __init__(self, witness: _Witness) -> None:
        super().__init__()
        self._witness = witness
        # Only those who are in line: nobody is to live longer for being watched.
        self._owners: dict[int, object] = {}

    def join(self, task: object, item: Any) -> None:
        super().join(task, item)
        self._owners[self._numbers[ref(task)]] = task
        self._witness.joins(task)

    def leave(self) -> Any:
        ready = [entry[2] for entry in self._waiting]
        item = super().leave()
        _, number = self._last
        passed = [self._owners[each] for each in ready[: ready.index(number)]]
        self._witness.goes(self._owners.pop(number), passed)
        return item


@final
class _Witness:
    """Notes what happens, from the scenario's first turn to its last.

    It keeps no task, no frame and no exception: the run is to be like any other.
    """

    def __init__(self) -> None:
        self._is_on = False
        self._tasks: dict[ref[Any], _Task] = {}
        self._turns: list[_Turn] = []
        self._turn: _Turn | None = None
        self._frame: FrameType | None = None

    def begin(self, host: Host) -> None:
        """Begin with the scenario's task; called in its turn."""
        self._is_on = True
        self._host = host
        self._cancellation = anyio.get_cancelled_exc_class()
        task = host.scenario_task()
        self._known(task).name = "scenario"
        self.goes(task, ())

    def joins(self, handle: object) -> None:
        """Note that a task is ready, and whose doing that is."""
        if not self._is_on:
            return
        is_known = ref(handle) in self._tasks
        task, turn = self._known(handle), self._turn
        if turn is None or turn.task is task or not task.is_own:
            return
        verb = "cancels" if self._host.is_struck(handle) else "wakes" if is_known else "starts"
        turn.acts.append((verb, task))

    def goes(self, handle: object, passed: Sequence[object]) -> None:
        """Note whose turn it is, and who was ready before."""
        if self._is_on and (task := self._known(handle)).is_own:
            ahead_of = tuple(each for each in map(self._known, passed) if each.is_own)
            struck = self._host.is_struck(handle)
            self._turn = _Turn(task, self._host.now(), not task.has_begun, struck, ahead_of)
            self._frame = getattr(self._host.coroutine_of(handle), "cr_frame", None)
            task.has_begun = True

    def over(self, *, waits: bool) -> None:
        """Note where the turn's task stopped."""
        if (turn := self._turn) is None:
            return
        handle = turn.task.handle()
        if waits:
            turn.spot = waits_at(inner(self._host.coroutine_of(handle)))
            self._close(turn)
        else:
            self._end(turn, self._host.raised_by(handle, self._frame))

    def end(self, exception: BaseException | None) -> None:
        """Note that the scenario has ended, and how."""
        if (turn := self._turn) is not None:
            self._end(turn, exception)
        self.stop()

    def stop(self) -> None:
        """Note nothing any more."""
        if self._is_on:
            self._is_on = False
            self._turn = self._frame = None
            for task in self._tasks.values():
                self._name(task)

    def story(self) -> Story:
        """Return what was noted."""
        tasks = [task for task in self._tasks.values() if task.is_own]
        names = dict(zip(tasks, _told_apart(task.name for task in tasks), strict=True))
        turns = tuple(
            Turn(
                number=number,
                last=number,
                task=names[turn.task],
                at=turn.at,
                begins=turn.begins,
                cancelled=turn.cancelled,
                ahead_of=tuple(names[each] for each in turn.ahead_of),
                acts=tuple((verb, names[each]) for verb, each in turn.acts),
                end=turn.end,
                place=place_of(turn.spot),
            )
            for number, turn in enumerate(self._turns, 1)
        )
        left = [task for task in tasks if not task.has_ended]
        return Story(turns, tuple((names[task], place_of(task.spot)) for task in left))

    def _known(self, handle: object) -> _Task:
        key = ref(handle)
        task = self._tasks.get(key)
        if task is None:
            coroutine = inner(self._host.coroutine_of(handle))
            is_own = self._host.name_of(handle) is not None
            task = _Task(key, qualname_of(coroutine), begins_at(coroutine), is_own)
            self._tasks[key] = task
        return task

    def _name(self, task: _Task) -> None:
        # Not earlier: asyncio names a task after it has put it in line.
        if not task.name:
            handle = task.handle()
            given = None if handle is None else self._host.name_of(handle)
            task.name = _readable(given or "", task.function)

    def _end(self, turn: _Turn, exception: BaseException | None) -> None:
        task = turn.task
        task.has_ended = True
        self._name(task)
        if exception is None:
            turn.end, turn.spot = "returns", task.code
        else:
            is_cancelled = isinstance(exception, self._cancellation)
            turn.end = CANCELLED if is_cancelled else f"raises {_in_a_line(exception)}"
            turn.spot = raised_at(exception) or task.spot or task.code
        self._close(turn)

    def _close(self, turn: _Turn) -> None:
        turn.task.spot = turn.spot
        self._turns.append(turn)
        self._turn = self._frame = None


def _in_a_line(exception: BaseException) -> str:
    return printable(shorten(tell(exception).partition("\n")[0]))


def _readable(name: str, function: str) -> str:
    """Return the name that a task was given, or that of its function, without modules."""
    if _UNNAMED.fullmatch(name) or name in sys.modules or not name:
        # asyncio counts its tasks, or names each one "None" if it has a task factory. AnyIO names a
        # partial after the module of `partial`.
        name = function
    parts = name.split(".")
    for place in range(len(parts) - 1, 0, -1):
        module = sys.modules.get(".".join(parts[:place]))
        if hasattr(module, parts[place]):
            name = ".".join(parts[place:])
            break
    return printable(shorten(name.rpartition("<locals>.")[2])) or "task"


def _told_apart(names: Iterable[str]) -> Iterator[str]:
    """Yield names; those that occur several times with a number."""
    names = tuple(names)
    counts, numbers = Counter(names), Counter[str]()
    for name in names:
        shown = name
        while counts[name] > 1 and shown in counts:
            numbers[name] += 1
            shown = f"{name} {numbers[name]}"
        yield shown
