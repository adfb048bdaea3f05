"""What a bus does, as a reader of the contract would write it down: plain data, without a loop.

Whatever waits is a generator, which is sent the number of each gate that is opened, until it is its
own. A handler either waits for nothing, or waits at its gate before it does anything. So one goes
on at a time, and what happens then is determined, even where publishes overlap: only those who are
cancelled at the same time clean up in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from inspect import GEN_SUSPENDED, getgeneratorstate
from itertools import groupby
from typing import Any, Literal, TypeAlias

from flexiflow._bus import DeliveryMode, ErrorPolicy
from flexiflow.events import HANDLER_FAILED
from flexiflow.testing._trace import matches

DEEPEST = 3
"""How many publishes may be inside each other."""


class Boom(Exception):
    """The failure of a handler or a filter."""


IN_CLEANUP = ("in cleanup",)
"""What all failures in cleanups are called, since they come in any order."""


class Cancelled(BaseException):
    """A cancellation."""


@dataclass(frozen=True)
class Subscribe:
    """Make a subscription.

    Attributes:
        does: what its handler does, where it has come to.
        waits: whether the handler waits at a gate before.
        fails: whether it fails in the end.
        fails_cancelled: whether it fails if it is cancelled at its gate.
    """

    event: str
    component: str = "one"
    priority: int = 3
    once: bool = False
    filter: Literal["none", "accepts", "refuses", "raises", "unsubscribes"] = "none"
    does: tuple[Act, ...] = ()
    waits: bool = False
    fails: bool = False
    fails_cancelled: bool = False


@dataclass(frozen=True)
class Unsubscribe:
    """End one of the subscriptions made so far."""

    place: int


@dataclass(frozen=True)
class UnsubscribeAll:
    """End those of a component."""

    component: str


@dataclass(frozen=True)
class Publish:
    """Publish an event."""

    event: str
    delivery: DeliveryMode
    on_error: ErrorPolicy


@dataclass(frozen=True)
class Open:
    """Let the handler that was started with this number go on."""

    number: int


@dataclass(frozen=True)
class Cancel:
    """Cancel what a task does; tasks are numbered as they begin."""

    task: int


Act: TypeAlias = Subscribe | Unsubscribe | UnsubscribeAll | Publish
Step: TypeAlias = Act | Open | Cancel
"""One step of a program; an act is done in a task of its own."""

Run: TypeAlias = Generator[None, int]

_TIERS: dict[DeliveryMode, Callable[[Seat], int]] = {
    "sequential": lambda seat: seat.place,
    "concurrent": lambda _: 0,
    "tiered": lambda seat: seat.asked.priority,
}
"""Those of the same number are called at once."""


@dataclass
class Seat:
    """A subscription; which is active until it is ended."""

    place: int
    asked: Subscribe
    active: bool = True


@dataclass
class Model:
    """The reference.

    Attributes:
        seats: the subscriptions, by age.
        trace: what has happened since the last look.
        waiting: the handlers that wait at their gates, by the numbers of their starts.
        tasks: what has begun and not ended, by number.
    """

    seats: list[Seat] = field(default_factory=list[Seat])
    trace: list[Any] = field(default_factory=list[Any])
    waiting: set[int] = field(default_factory=set[int])
    tasks: dict[int, Run] = field(default_factory=dict[int, Run])
    begun: int = 0
    starts: int = 0
    cancelling: int = 0
    in_any_order: bool = False

    def perform(self, step: Step) -> None:
        """Do a step, and whatever then goes on."""
        match step:
            case Open(number):
                for task in [*self.tasks]:
                    self._advance(task, number)
            case Cancel(task):
                self._cancel([self.tasks.pop(task)])
            case _:
                self.tasks[self.begun] = self._do(step, depth=0, silent=False)
                self.begun += 1
                self._advance(self.begun - 1, None)

    def look(self) -> tuple[list[Any], bool, list[bool], set[int]]:
        """Tell what has happened, whether in that order, who is subscribed, and who waits."""
        trace, self.trace = self.trace, []
        ordered, self.in_any_order = not self.in_any_order, False
        return trace, ordered, [seat.active for seat in self.seats], {*self.waiting}

    def _advance(self, task: int, gate: int | None) -> None:
        try:
            self.tasks[task].send(gate)  # type: ignore[arg-type]
        except (StopIteration, Boom):
            del self.tasks[task]

    def _do(self, act: Act, *, depth: int, silent: bool) -> Run:
        match act:
            case Subscribe():
                self.seats.append(Seat(len(self.seats), act))
            case Unsubscribe(place):
                if self.seats:
                    gone = self._remove(self.seats[place % len(self.seats)])
                    self.trace.append(("unsubscribed", gone))
            case UnsubscribeAll(component):
                mine = [seat for seat in self.seats if seat.asked.component == component]
                self.trace.append(("unsubscribed all", sum(map(self._remove, mine))))
            case Publish() if depth < DEEPEST:
                yield from self._publish(act, depth=depth + 1, silent=silent)
            case Publish():
                pass

    def _remove(self, seat: Seat) -> bool:
        was_active, seat.active = seat.active, False
        return was_active

    def _publish(self, act: Publish, *, depth: int, silent: bool) -> Run:
        try:
            failures = yield from self._deliver(act, act.event, depth=depth, silent=silent)
        except Boom as boom:
            self.trace.append(("raised", boom.args))
            raise
        except Cancelled:
            self.trace.append("cancelled")
            raise
        self.trace.append(("returned", failures))

    def _deliver(
        self, act: Publish, data: object, *, depth: int, silent: bool
    ) -> Generator[None, int, list[Any]]:
        """Call who is subscribed now, in order, tier by tier."""
        here = [seat for seat in self.seats if seat.active and matches(seat.asked.event, act.event)]
        here.sort(key=lambda seat: seat.asked.priority)
        silent = silent or act.event == HANDLER_FAILED
        failures = dict[int, Any]()
        for _, tier in groupby(here, _TIERS[act.delivery]):
            calls = [self._attempt(s, act, data, failures, depth, silent=silent) for s in tier]
            yield from self._together(calls, depth, silent=silent)
        return [(seat.place, failures[seat.place]) for seat in here if seat.place in failures]

    def _together(self, calls: list[Run], depth: int, *, silent: bool) -> Run:
        """Call some at once; where one fails or all are cancelled, the others are too."""
        try:
            running = list(self._going_on(calls, None))
            while running:
                gate = yield
                running = list(self._going_on(running, gate))
        except (Boom, Cancelled) as exc:
            late = self._cancel(calls)
            first = late.pop(0) if late and isinstance(exc, Cancelled) else exc
            for boom in late:
                self.trace.append(("logged", boom.args))
            try:
                for boom in late if not self.cancelling else ():
                    yield from self._announce(boom, depth, silent=silent)
            except Cancelled:
                pass
            raise first

    def _going_on(self, calls: Iterable[Run], gate: int | None) -> Iterable[Run]:
        for call in calls:
            try:
                call.send(gate)  # type: ignore[arg-type]
            except StopIteration:
                continue
            yield call

    def _cancel(self, calls: list[Run]) -> list[Boom]:
        """Cancel those that wait, and give what they let out instead of the cancellation."""
        waiting = [call for call in calls if getgeneratorstate(call) == GEN_SUSPENDED]
        self.in_any_order |= len(waiting) > 1
        self.cancelling += 1
        late = list[Boom]()
        for call in waiting:
            try:
                call.throw(Cancelled())
            except Boom as boom:
                late.append(boom)
            except (Cancelled, StopIteration):
                pass
        self.cancelling -= 1
        return late

    def _attempt(
        self,
        seat: Seat,
        act: Publish,
        data: object,
        failures: dict[int, Any],
        depth: int,
        *,
        silent: bool,
    ) -> Run:
        try:
            yield from self._call(seat, act.event, data, depth, silent=silent)
        except Boom as boom:
            if act.on_error == "raise":
                raise
            failures[seat.place] = boom.args
            self.trace.append(("logged", boom.args))
            if self.cancelling:
                raise Cancelled from None
            yield from self._announce(boom, depth, silent=silent)

    def _announce(self, boom: Boom, depth: int, *, silent: bool) -> Run:
        if not silent:
            act = Publish(HANDLER_FAILED, "sequential", "continue")
            yield from self._deliver(act, boom.args, depth=depth, silent=silent)

    def _call(self, seat: Seat, event: str, data: object, depth: int, *, silent: bool) -> Run:
        if not self._admits(seat, event):
            return
        self.starts += 1
        number, asked = self.starts, seat.asked
        self.trace.append(("started", seat.place, data))
        if asked.waits:
            yield from self._wait(number, asked)
        for act in asked.does:
            yield from self._do(act, depth=depth, silent=silent)
        if asked.fails:
            raise Boom(number)

    def _wait(self, number: int, asked: Subscribe) -> Run:
        self.waiting.add(number)
        try:
            while (yield) != number:
                pass
        except Cancelled:
            if asked.fails_cancelled:
                raise Boom(*IN_CLEANUP) from None
            raise
        finally:
            self.waiting.remove(number)

    def _admits(self, seat: Seat, event: str) -> bool:
        """Say whether a handler starts; `once` unsubscribes before it does."""
        given = seat.asked.filter
        if not seat.active:
            return False
        if given != "none":
            self.trace.append(("asked", seat.place, event))
        if given == "raises":
            raise Boom("filter", seat.place)
        if given == "unsubscribes" or (seat.asked.once and given != "refuses"):
            self._remove(seat)
        return given not in ("unsubscribes", "refuses")
