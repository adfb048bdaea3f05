"""A model of one component whose states last and take time: a simulation, event by event.

Its state "s1" has work of `WORK` seconds, and a timer of `AFTER` seconds. No two things happen at
the same time, so the order is determined. What is stored survives a kill.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final, Literal

WORK: Final = 3.0
AFTER: Final = 5.0
TIMED: Final = "s1"
ROWS: Final[dict[tuple[str, str], str | None]] = {
    ("s0", "go"): "s1",
    ("s1", "go"): "s2",
    ("s2", "go"): "s0",
    ("s1", "again"): "s1",
    ("s1", "late"): "s0",
    ("s1", "done"): None,
    **{(state, "note"): None for state in ("s0", "s1", "s2")},
}
"""The transitions: where a state and a trigger lead; None for an internal one."""

Fate = Literal["passes", "action fails", "save fails before", "save fails after"]


@dataclass(frozen=True)
class Message:
    """A message.

    Attributes:
        trigger: its type.
        takes: how many seconds its action takes.
        fate: whether it fails, and where.
        number: the number of the send; None if the state has sent it.
        stay: the number of the stay that has sent it, or None.
    """

    trigger: str
    takes: float = 0.0
    fate: Fate = "passes"
    number: int | None = None
    stay: int | None = None


@dataclass
class Handling:
    """The message in hand, where it leads, when it ends, and whether it has ended work."""

    message: Message
    target: str | None
    ends: float
    has_ended_work: bool


@dataclass
class Model:
    """The component, its engine, and its store."""

    now: float = 0.0
    state: str = "s0"
    stored: tuple[str, float | None] = ("s0", None)
    line: list[Message] = field(default_factory=list[Message])
    in_hand: Handling | None = None
    stay: int = 0
    due: float | None = None
    is_armed: bool = False
    is_sent: bool = False
    work_ends: float | None = None
    has_worked: bool = False
    is_stale: bool = False
    is_running: bool = True
    trace: list[tuple[float, str, Any]] = field(default_factory=list[tuple[float, str, Any]])

    def note(self, what: str, value: Any = None) -> None:
        self.trace.append((round(self.now, 6), what, value))

    def pass_time(self, until: float) -> None:
        """Let everything happen that happens until then."""
        while (following := self._next())[0] <= until:
            self.now = following[0]
            if following[1] == "hand":
                self._finish()
            elif following[1] == "work":
                self.work_ends = None
                self.note("work ends")
                self.send(Message("done", stay=self.stay))
            else:
                self.is_sent = True
                self.send(Message("late", stay=self.stay))
        self.now = until

    def _next(self) -> tuple[float, str]:
        hand = math.inf if self.in_hand is None else self.in_hand.ends
        work = math.inf if self.work_ends is None else self.work_ends
        timer = math.inf
        if self.is_armed and not self.is_sent and self.due is not None:
            timer = max(self.now, self.due)
        return min((hand, "hand"), (work, "work"), (timer, "timer"))

    def send(self, message: Message) -> None:
        self.line.append(message)
        self._go_on()

    def kill(self) -> None:
        """Lose all but what is stored, and begin again with that."""
        lost = [*self.line] if self.in_hand is None else [self.in_hand.message, *self.line]
        for message in lost:
            if message.number is not None:
                self.note("outcome", (message.number, "cancelled"))
        self.in_hand, self.is_stale, self.is_running = None, False, True
        self.line.clear()
        self._end_work()
        self._adopt()
        self._begin()

    def halt(self) -> None:
        """Leave `running()`: work ends, and what the state has sent is lost, or sent again."""
        self.is_running = self.is_armed = self.is_sent = self.has_worked = False
        self._end_work()
        self.line = [each for each in self.line if each.number is not None]

    def resume(self) -> None:
        """Enter `running()` again."""
        self.is_running = True
        self._go_on()

    def _go_on(self) -> None:
        while self.in_hand is None and self.line:
            self._start(self.line.pop(0))
        if self.in_hand is None:
            if self.is_stale and self.is_running:
                self._reload()
            self._begin()

    def _start(self, message: Message) -> None:
        if self.is_stale:
            self._reload()
        if message.stay not in (None, self.stay):
            return
        if message.trigger == "late":
            self.due = math.inf
        if (self.state, message.trigger) not in ROWS:
            self._outcome(message, "IGNORED")
            return
        target, has_ended_work = ROWS[self.state, message.trigger], False
        if target == TIMED and not self.is_running:
            self._outcome(message, "EngineNotRunning")
            return
        if target is not None:
            has_ended_work = self._end_work()
        self.in_hand = Handling(message, target, self.now + message.takes, has_ended_work)
        if not message.takes:
            self._finish()

    def _finish(self) -> None:
        assert self.in_hand is not None
        handling, self.in_hand = self.in_hand, None
        message, target = handling.message, handling.target
        if message.fate == "passes":
            self._save(target)
            self._commit(target)
            self._outcome(message, "TRANSITIONED")
        else:
            if message.fate == "save fails after":
                self._save(target)
            self.is_stale = message.fate != "action fails"
            self.has_worked = self.has_worked and not handling.has_ended_work
            self._outcome(message, "failed")
        if not self.is_stale:
            self._begin()
        self._go_on()

    def _save(self, target: str | None) -> None:
        due = self.due
        if target is not None:
            due = self.now + AFTER if target == TIMED else None
        self.stored = (target or self.state, due)
        self.has_saved = True

    has_saved: bool = False

    def _commit(self, target: str | None) -> None:
        self.has_saved = False
        if target is not None:
            self.note("changed", (self.state, target))
            self._adopt()

    def _adopt(self) -> None:
        """Begin a new stay in the stored state."""
        self.state, self.due = self.stored
        self.stay += 1
        self.is_armed = self.is_sent = self.has_worked = self.has_saved = False

    def _reload(self) -> None:
        self.is_stale = False
        if self.has_saved:
            self._end_work()
            self._adopt()

    def _end_work(self) -> bool:
        was_working, self.work_ends = self.work_ends is not None, None
        if was_working:
            self.note("work is cancelled")
        return was_working

    def _begin(self) -> None:
        if self.state == TIMED and self.is_running and not self.is_stale:
            self.is_armed = self.is_armed or self.due != math.inf
            if self.work_ends is None and not self.has_worked:
                self.has_worked = True
                self.note("work begins")
                self.work_ends = self.now + WORK

    def _outcome(self, message: Message, outcome: str) -> None:
        if message.number is not None:
            self.note("outcome", (message.number, outcome))
