"""The counts of a run, and its summary (L4)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from time import perf_counter
from typing import final

from flexiflow import Outcome

# Once, since looking up a member of an enum for each message takes noticeable time.
_TRANSITIONED, _IGNORED = Outcome.TRANSITIONED, Outcome.IGNORED

# How many logged failures are remembered until they are published, which is right afterwards.
_REMEMBERED = 1_000


@final
@dataclass(slots=True, eq=False)
class Tally:
    """The counts of one run.

    Attributes:
        transitions: messages that led to a transition.
        ignored: messages that no transition matched.
        deferred: messages that were deferred.
        failed: messages whose guard, action or factory failed.
        events: lines that published an event.
        rejected: lines that could not be used.
        failures: all failures, those of handlers included.
    """

    transitions: int = 0
    ignored: int = 0
    deferred: int = 0
    failed: int = 0
    events: int = 0
    rejected: int = 0
    failures: int = 0
    _started: float = field(default_factory=perf_counter)
    _logged: deque[BaseException] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    @property
    def messages(self) -> int:
        """How many lines sent a message that a component accepted, whether it failed or not."""
        return self.transitions + self.ignored + self.deferred + self.failed

    def start(self) -> None:
        """Start the clock."""
        self._started = perf_counter()

    def add(self, outcome: Outcome) -> None:
        """Count a message that was handled or deferred."""
        if outcome is _TRANSITIONED:
            self.transitions += 1
        elif outcome is _IGNORED:
            self.ignored += 1
        else:
            self.deferred += 1

    def failure_logged(self, exception: BaseException) -> None:
        """Count a failure that was logged."""
        self.failures += 1
        self._logged.append(exception)

    def failure_published(self, exception: BaseException) -> None:
        """Count a failure that was published, unless its log record has been counted.

        Both are needed, since neither shows all failures: a target may silence the log, and a
        failure within the report of another, or on another bus than the engine's, is not published
        on the engine's bus.
        """
        for position, logged in enumerate(self._logged):
            if logged is exception:
                del self._logged[position]
                return
        self.failures += 1

    def progress(self) -> str:
        """Return the count and the rate of lines, as text."""
        count = self.messages + self.events + self.rejected
        return f"lines: {count}, lines per second: {count / self._seconds():.0f}"

    def counts(self) -> dict[str, str]:
        """Return all counts as texts, by their names."""
        seconds = self._seconds()
        return {
            "messages": str(self.messages),
            "events": str(self.events),
            "transitions": str(self.transitions),
            "ignored": str(self.ignored),
            "failures": str(self.failures),
            "rejected lines": str(self.rejected),
            "seconds": f"{seconds:.2f}",
            "messages per second": f"{self.messages / seconds:.0f}",
        }

    def _seconds(self) -> float:
        # Not 0: two readings of a clock may be equal.
        return max(perf_counter() - self._started, 1e-9)
