"""What `crash_everywhere` returns and raises."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from textwrap import indent
from typing import TYPE_CHECKING, final

from flexiflow._errors import FlexiFlowError
from flexiflow._text import counted, show
from flexiflow.testing._scheduling.failures import Finding, tell

if TYPE_CHECKING:
    from collections.abc import Mapping


@final
@dataclass(frozen=True, slots=True)
class Crashes:
    """What `crash_everywhere` has tried (P7).

    Attributes:
        checkpoints: how many checkpoints each worker passed in the run without a crash; empty if
            there was none, since `at` was given.
        tried: how many runs there were in which a worker was to be killed.
        missed: the points that were not reached, since the worker did not come there again before
            it ended; as `at` takes them, each with its line in the code, or "" if it was given as
            `at`.

    Example:
        >>> from flexiflow.testing import Crashes
        >>> print(Crashes(checkpoints={"shop": 40}, tried=40, missed={}))
        killed at 40 of 40 points
    """

    checkpoints: Mapping[str, int]
    tried: int
    missed: Mapping[str, str]

    def __str__(self) -> str:
        """Return how many points were tried, and where those are that were not reached."""
        lines = [f"killed at {self.tried - len(self.missed)} of {self.tried} points"]
        places = Counter(place or repr(at) for at, place in self.missed.items())
        for place, times in places.items():
            lines.append(f"  not reached: {counted(times, 'point')} at {place}")
        return "\n".join(lines)


@final
class CrashFailure(Finding):
    """A scenario failed, after one of its workers was killed or without that (P7).

    `__cause__` is `exception`.

    Args:
        backend: the backend on which it ran.
        at: the point at which a worker was to be killed, as `crash_everywhere` takes it; None in
            the run without a crash.
        place: the line in the code at which it was killed; None if it was not.
        exception: what `check` raised, or what is wrong.
        history: what happened at last, a line each: which stored events the workers began to
            handle, which were settled, and which worker was killed.
        output: the last lines that the workers wrote.
    """

    def __init__(
        self,
        *,
        backend: str,
        at: str | None,
        place: str | None,
        exception: BaseException,
        history: str,
        output: str,
    ) -> None:
        super().__init__(backend, at, place, exception, history, output)
        self.backend = backend
        self.at = at
        self.place = place
        self.exception = exception
        self.history = history
        self.output = output

    def __str__(self) -> str:
        """Return what is wrong, where the worker was killed, and how to run that again."""
        lines = [f"the scenario fails on {self.backend}, {self._when}: {tell(self.exception)}"]
        if self.place is not None:
            lines.append(f"  killed at {self.place}")
        if self.at is not None:
            lines.append(f"  to run only this: crash_everywhere(..., at={self.at!r})")
        for title, told in (("what happened", self.history), ("what they wrote", self.output)):
            if told:
                lines += [f"  {title}:", indent(told, "    ")]
        return "\n".join(lines)

    @property
    def _when(self) -> str:
        if self.at is None:
            return "without any crash"
        worker = self.at.rsplit(":", 2)[0]
        if self.place is None:
            return f"without any crash, since {worker!r} did not come to {self.at!r}"
        return f"after {worker!r} was killed"


@final
class HandledAgain(FlexiFlowError, AssertionError):
    """A stored event was handled more often than is promised (P7).

    Args:
        name: the event's name.
        event: where it is stored: the transport, group, partition and position.
        times: how often its handling began, not counting attempts that were let go, as those that
            have failed; 0 if it was acknowledged before, or was a dead letter.
        crashes: how many crashes there were.

    Example:
        >>> from flexiflow.testing import HandledAgain
        >>> again = HandledAgain("order.placed", "events.db group billing", times=3, crashes=1)
        >>> print(again.times)
        3
    """

    def __init__(self, name: str, event: str, times: int, crashes: int) -> None:
        super().__init__(name, event, times, crashes)
        self.name = name
        self.event = event
        self.times = times
        self.crashes = crashes

    def __str__(self) -> str:
        """Return which event it was, and what was wrong."""
        which = f"the stored event {show(self.name)} ({self.event})"
        if not self.times:
            return f"{which} was settled, and handled again after that"
        crashes = "1 crash" if self.crashes == 1 else f"{self.crashes} crashes"
        return f"the handling of {which} began {self.times} times, with {crashes}"


@final
class WorkerFailed(FlexiFlowError):
    """A worker of a scenario raised, or its process ended by itself (P7).

    Args:
        worker: its name.
        reason: the traceback of what it raised, or how its process ended.

    Example:
        >>> from flexiflow.testing import WorkerFailed
        >>> print(WorkerFailed("shop", "its process ended with 1"))
        the worker 'shop' failed: its process ended with 1
    """

    def __init__(self, worker: str, reason: str) -> None:
        super().__init__(worker, reason)
        self.worker = worker
        self.reason = reason

    def __str__(self) -> str:
        """Return the worker's name, and the reason."""
        return f"the worker {self.worker!r} failed: {self.reason}"
