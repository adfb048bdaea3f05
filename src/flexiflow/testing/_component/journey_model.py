"""A model of a component whose states last: what has to happen on a journey, and when (M1 to M3).

A journey is a list of stops: messages, pauses, and so on. It is simulated event by event. Its times
are such that no two things happen at the same time, except by one another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

AFTER: Final = {"s0": 5.0, "s1": 3.0, "s2": 8.0}
"""The seconds after which a state's timer sends "late", if it has one."""
WORK: Final = {"s0": 4.0, "s1": 6.0, "s2": 2.0}
"""The seconds that a state's work takes, if it has some; then "done" is sent."""
ROWS: Final[dict[tuple[str, str], str | None]] = {
    ("s0", "go"): "s1",
    ("s1", "go"): "s2",
    ("s2", "go"): "s0",
    ("s1", "back"): "s0",
    ("s2", "back"): "s1",
    **{(state, "again"): state for state in AFTER},
    **{(state, "note"): None for state in AFTER},
    ("s0", "late"): "s1",
    ("s1", "late"): None,
    ("s2", "late"): "s0",
    ("s0", "done"): "s2",
    ("s1", "done"): None,
    ("s2", "done"): "s1",
}
"""The transitions: where a state and a trigger lead; None for an internal one."""
REST: Final = 30.000005
"""The seconds that a journey is watched after its last stop."""


class Stop(NamedTuple):
    """A step of a journey.

    Attributes:
        what: the trigger of a message that is sent; or "halt": `running()` is left meanwhile;
            "leave": the component is unregistered meanwhile; or "kill": another engine goes on
            with what is stored.
        pause: the seconds until the next step.
        takes: the seconds that the message's action takes; or those for which nothing is done after
            the component is back.
        fails: the part of the transition that fails, or ""; "refuse" if its guard refuses it;
            "before" or "after" if its save fails, before or after it has stored anything.
        defers: the trigger of a message that the action sends to its own component, or "".
        cancelled: after how many seconds the send is cancelled, or None.
    """

    what: str
    pause: float = 1.0
    takes: float = 0.0
    fails: str = ""
    defers: str = ""
    cancelled: float | None = None


@dataclass(frozen=True)
class Message:
    """A message on its way.

    Attributes:
        stop: its trigger, and what its action does.
        number: which stop has sent it; None if the state has, or it was deferred.
        stay: the number of the stay that has sent it, or None.
    """

    stop: Stop
    number: int | None = None
    stay: int | None = None


@dataclass
class Model:
    """The component and its engine.

    Attributes:
        parts: what each state has, of "entry", "exit", "after", "during", "breaking".
        is_stored: whether the engine has a store; then states have no "after" or "during" here.
        now: the time.
        state: the component's state.
        notes: what has happened, and when.
    """

    parts: dict[str, tuple[str, ...]]
    is_stored: bool = False
    now: float = 0.0
    state: str = "s0"
    notes: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    _line: list[Message] = field(default_factory=list[Message])
    _deferred: list[str] = field(default_factory=list[str])
    _in_hand: Message | None = None
    _ends: float = math.inf
    _cancels: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    _stay: int = 0
    _due: float = math.inf
    _is_sent: bool = False
    _work_ends: float = math.inf
    _has_worked: bool = False
    _has_ended_work: bool = False
    _is_running: bool = True
    _stored: str | None = None
    _is_stale: bool = False

    def __post_init__(self) -> None:
        self._enter_stay()
        self._begin()

    def go(self, number: int, stop: Stop) -> bool:
        """Make one stop; return False, and do nothing, if it can't be made here."""
        if stop.what in ("leave", "kill") and (self._is_busy or self._has("after")):
            return False
        if stop.what == "halt" and any(time > self.now for time, _ in self._cancels):
            # What a cancelled send has deferred may then be handled with the next block.
            return False
        if stop.what == "halt":
            self._halt()
            self.wait(stop.pause)
            self._is_running = True
            if self._in_hand is None:
                self._begin()
            self.wait(stop.takes)
        elif stop.what in ("leave", "kill"):
            self._end_work()
            self.state = self._stored or ("s0" if stop.what == "kill" else self.state)
            self._is_stale = False
            self._stay += 1
            self._has_worked = False
            self.now += stop.pause
            self._begin()
            self.wait(stop.takes)
        else:
            if stop.cancelled is not None:
                self._cancels.append((self.now + stop.cancelled, number))
            self._send(Message(stop, number))
            self.wait(stop.pause)
        return True

    def wait(self, seconds: float) -> None:
        """Let everything happen that happens within some seconds."""
        until = self.now + seconds
        while (following := self._following())[0] <= until:
            time, happens = following
            self.now = max(self.now, time)
            happens()
        self.now = until

    def _following(self) -> tuple[float, Callable[[], None]]:
        is_timed = self._is_running and not self._is_sent
        times = (
            (self._ends, self._finish),
            (self._work_ends, self._finish_work),
            (self._due if is_timed else math.inf, self._send_late),
            (min(self._cancels, default=(math.inf, 0))[0], self._cancel),
        )
        return min(times, key=itemgetter(0))

    def _note(self, what: str) -> None:
        self.notes.append((round(self.now, 5), what))

    def _has(self, *parts: str) -> bool:
        return not {*parts}.isdisjoint(self.parts.get(self.state, ()))

    @property
    def _is_busy(self) -> bool:
        return self._in_hand is not None or bool(self._line or self._deferred)

    # The line.

    def _send(self, message: Message) -> None:
        self._line.append(message)
        self._go_on()

    def _go_on(self) -> None:
        while self._in_hand is None and self._line:
            self._start(self._line.pop(0))

    def _start(self, message: Message) -> None:
        self._in_hand = message
        self._handle_deferred()
        if message.stay not in (None, self._stay):
            self._in_hand = None
            return
        if message.stop.what == "late" and message.stay is not None:
            self._due = math.inf
        result = self._begin_transition(message.stop)
        if result is None and message.stop.takes:
            self._ends = self.now + message.stop.takes
        else:
            self._end(message, result or self._end_transition(message.stop))

    def _finish(self) -> None:
        message: Any = self._in_hand
        self._end(message, self._end_transition(message.stop))

    def _end(self, message: Message, result: str) -> None:
        self._ends = math.inf
        self._settle()
        if result != "cancelled":
            self._handle_deferred()
        if message.number is not None:
            self._note(f"{message.number} {result}")
        self._in_hand = None
        self._go_on()

    def _handle_deferred(self) -> None:
        while self._deferred:
            stop = Stop(self._deferred.pop(0))
            result = self._begin_transition(stop) or self._end_transition(stop)
            self._settle()
            if result not in ("TRANSITIONED", "IGNORED"):
                self._note(f"reported {result}")

    def _cancel(self) -> None:
        _, number = cancel = min(self._cancels)
        self._cancels.remove(cancel)
        if self._in_hand is not None and self._in_hand.number == number:
            self._end(self._in_hand, "cancelled")
        for each in [*self._line]:
            if each.number == number:
                self._line.remove(each)
                self._note(f"{number} cancelled")

    # One transition.

    def _begin_transition(self, stop: Stop) -> str | None:
        """Do what comes before the end of the action; return what the message came to, if it did.

        Otherwise its action goes on, and takes its time.
        """
        self._has_ended_work = False
        if self._is_stale:
            self._is_stale = False
            self.state = self._stored or self.state
        target = ROWS.get((self.state, stop.what), "")
        if target == "" or stop.fails == "refuse":
            return "IGNORED"
        if stop.fails == "guard":
            return "Boom"
        result = None if target is None else self._leave(target, stop)
        if result is not None:
            return result
        self._note(f"{stop.what} in {self.state}")
        if stop.defers:
            self._deferred.append(stop.defers)
        return None

    def _leave(self, target: str, stop: Stop) -> str | None:
        takes_time = not {"after", "during", "breaking"}.isdisjoint(self.parts[target])
        if takes_time and not self._is_running:
            return "EngineNotRunning"
        self._has_ended_work = self._end_work()
        if self._has("exit"):
            self._note(f"exit in {self.state}")
            return "Boom" if stop.fails == "exit" else None
        return None

    def _end_transition(self, stop: Stop) -> str:
        """Do what comes after the action; return what the message came to."""
        if stop.fails == "action":
            return "Boom"
        target = ROWS[self.state, stop.what]
        if target is not None and "entry" in self.parts[target]:
            self._note(f"entry of {target} in {self.state}")
            if stop.fails == "entry":
                return "Boom"
        if not self._save(target or self.state, stop.fails):
            return "Boom"
        if target is not None:
            self._note(f"from {self.state} to {target}")
            self.state = target
            self._enter_stay()
        return "TRANSITIONED"

    def _save(self, state: str, fails: str) -> bool:
        """Save a state, if there is a store; return whether that succeeds."""
        if self.is_stored:
            self._is_stale = fails in ("before", "after")
            self._stored = self._stored if fails == "before" else state
        return not self._is_stale

    def _settle(self) -> None:
        self._has_worked = self._has_worked and not self._has_ended_work
        self._begin()

    # A stay in a state.

    def _enter_stay(self) -> None:
        self._stay += 1
        self._has_worked = self._has_ended_work = self._is_sent = False
        self._due = self.now + AFTER[self.state] if self._has("after") else math.inf

    def _begin(self) -> None:
        is_free = math.isinf(self._work_ends) and not self._has_worked
        if self._is_running and is_free and self._has("during", "breaking"):
            self._has_worked = True
            self._work_ends = self.now + WORK[self.state]
            self._note(f"{self.state}'s work begins")

    def _end_work(self) -> bool:
        was_working = not math.isinf(self._work_ends)
        if was_working:
            self._note(f"{self.state}'s work is cancelled")
        self._work_ends = math.inf
        return was_working

    def _finish_work(self) -> None:
        self._work_ends = math.inf
        self._note(f"{self.state}'s work ends")
        if self._has("breaking"):
            self._note("reported Boom")
        else:
            self._send(Message(Stop("done"), stay=self._stay))

    def _send_late(self) -> None:
        self._is_sent = True
        self._send(Message(Stop("late"), stay=self._stay))

    def _halt(self) -> None:
        self._is_running = self._is_sent = self._has_worked = False
        self._end_work()
        self._line = [each for each in self._line if each.stay is None]


def shown(notes: Iterable[tuple[float, str]]) -> list[tuple[float, str]]:
    """Return notes without work that was cancelled in the step in which it was to begin."""
    rest: list[tuple[float, str]] = []
    for time, what in notes:
        begun = (time, what.replace("is cancelled", "begins"))
        if what.endswith("is cancelled") and begun in rest:
            rest.remove(begun)
        else:
            rest.append((time, what))
    return rest


def planned(
    parts: dict[str, tuple[str, ...]], stops: Iterable[Stop], *, is_stored: bool = False
) -> tuple[tuple[Stop, ...], list[tuple[float, str]]]:
    """Return the stops of a journey that can be made, and what has to happen on it.

    Their times become such that no two things happen at the same time.
    """
    model, made = Model(parts, is_stored), list[Stop]()
    for number, stop in enumerate(stops):
        apart = [1e-5 * 2 ** (number + each) for each in (0, 6, 12)]
        own = stop._replace(
            pause=stop.pause + apart[0],
            takes=stop.takes and stop.takes + apart[1],
            cancelled=None if stop.cancelled is None else stop.cancelled + apart[2],
        )
        if model.go(len(made), own):
            made.append(own)
    model.wait(REST)
    return tuple(made), shown(model.notes)
