"""What a component has beside its state, if its states take time or outlive the process (K3, M1).

`Actor` (`_actor`) handles the messages of every component. If the component's machine has details,
or its engine a store, the actor also has a `Lifecycle`, which it calls

- before a message: `reload`, if it is not certain what is stored (K3);
- for a transition: `carry_out`, which ends the work of the state that is left, calls `exit`, the
  action and `entry`, saves, and commits;
- after a message: `settle`, which begins the work and the timer of the state.

**Stays.** A *stay* lasts from the commit that enters a state to the next commit; stays are
numbered. A timer, or work that has ended, sends a message with the number of its stay (`Trigger`).
If that stay is over when the message's turn comes, the message is dropped (M2, M3).

**Upkeep.** If a save was cancelled or has failed, it is not certain what is stored, and the
component is *stale*: it is loaded before its next message. While the engine runs, `keep_up` loads
it at once, since its timer and work can't begin before. It also saves the due time of a timer, if
no transition has done so: when a start state begins its timer, and when a timer has sent its
trigger.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast, final

from flexiflow import _stores as stores
from flexiflow._callables import describe
from flexiflow._cancellation import absorb_native_cancel, cancel_requests, effectively_cancelled
from flexiflow._clock import time_of_day
from flexiflow._delivery.verdict import attempt, judge
from flexiflow._errors import EngineNotRunning, UnknownState
from flexiflow._reporting import log_exception
from flexiflow._timers import Timer
from flexiflow._turns import Entangled, live_turns
from flexiflow._work import Work, WorkTurn
from flexiflow.events import MESSAGE_RECEIVED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from flexiflow._dispatcher import Dispatcher
    from flexiflow._hosting import Hosting
    from flexiflow._machine import StateMachine, Transition
    from flexiflow._states import State
    from flexiflow._stores import StateStore, Stored
    from flexiflow._tasks import TaskBlock

    _Outcome: TypeAlias = tuple[object, Exception | None]
    """What work has returned, and its failure or None."""

_SPENT: Final = math.inf
"""The due time of a timer that has sent its trigger."""


class Component(Protocol):
    """The part of a component that a store has to do with (K1)."""

    def snapshot(self) -> Mapping[str, Any] | None:
        """Return what is to be stored beside the state."""
        ...

    def restore(self, data: Mapping[str, Any], /) -> None:
        """Take over what was stored."""
        ...


class Actor(Protocol):
    """The inside of a component, as its lifecycle sees it; see `_actor.Actor`."""

    name: str
    state: str | None
    dispatcher: Dispatcher | None

    @property
    def start(self) -> str | None:
        """The state in which the component began."""
        ...

    def post(self, component: Any, message: dict[str, Any], trigger: Trigger | None = None) -> None:
        """Handle a message that nobody waits for, in a task of `running()`."""
        ...

    async def keep_up(self, component: Any) -> None:
        """Call `Lifecycle.keep_up` within a turn."""
        ...


@final
class Trigger(NamedTuple):
    """What has sent a message of a state to its own component.

    Attributes:
        stay: the number of the stay, in which alone the message counts.
        is_timer: whether the timer has sent it, and not the work.
    """

    stay: int
    is_timer: bool


class _Run(NamedTuple):
    """What a work belongs to, and where its failure is announced."""

    actor: Actor
    dispatcher: Dispatcher
    component: Component
    state: State
    work: Work
    stay: int


@final
class Lifecycle:
    """The stays of one component, their work and timers, and what is stored.

    Args:
        machine: the component's machine, or None.

    Attributes:
        hosting: what its engine shares with it; None without an engine.
        stay: the number of the current stay.
        due: when the timer of the stay sends its trigger, as time of day; infinite once it has sent
            it, None if it has never begun.
        is_stale: whether the component must be loaded before its next message.
        is_unloaded: whether the engine has unloaded the component (K5).
    """

    __slots__ = (
        "_details",
        "_has_complained",
        "_has_worked",
        "_home",
        "_is_kept_up",
        "_is_moving",
        "_is_unsaved",
        "_sent",
        "_states",
        "_timer",
        "_version",
        "_work",
        "due",
        "hosting",
        "is_stale",
        "is_unloaded",
        "stay",
    )

    def __init__(self, machine: StateMachine | None) -> None:
        # Looked up with None, too: the state of a component without a machine.
        details: Any = {} if machine is None else machine.details
        self._details: Mapping[str | None, State] = details
        self._states = () if machine is None else machine.states
        self.hosting: Hosting | None = None
        self.stay = 0
        self.due: float | None = None
        self.is_stale = False
        self.is_unloaded = False
        # Where the message in hand began: one that unregisters its component goes on to its end.
        self._home: Hosting | None = None
        # The version that is stored; 0 if nothing is.
        self._version = 0
        # Whether `due` is another one than what is stored.
        self._is_unsaved = False
        # Whether `keep_up` was begun and has not succeeded yet, and whether its failure was logged.
        self._is_kept_up = False
        self._has_complained = False
        self._timer: Timer | None = None
        self._work: Work | None = None
        # Whether the work of the stay has begun.
        self._has_worked = False
        # What has sent the message in hand, if the state has, and when its timer was due.
        self._sent: tuple[Trigger, float | None] | None = None
        # Whether a transition is under way, until it was announced; meanwhile nothing may begin.
        self._is_moving = False

    @property
    def _store(self) -> StateStore | None:
        """Where the message in hand is saved."""
        return None if self._home is None else self._home.store

    @property
    def is_idle(self) -> bool:
        """Whether the component can be unloaded without a loss (K5)."""
        return self._work is None and not (self.is_stale or self._is_unsaved)

    def is_within_work(self, actor: Actor) -> bool:
        """Return whether the caller runs within the component's work."""
        return self._work is not None and any(
            isinstance(turn, WorkTurn) and turn.actor is actor for turn in live_turns()
        )

    def leave(self, actor: Actor) -> Work | None:
        """Note that no engine hosts the component any more; cancel its work, and return that."""
        self.pause()
        hosting: Any = self.hosting  # it has one, as it has an engine
        hosting.overdue.pop(actor, None)
        self.hosting = None
        # No message of the state counts that is on its way.
        self.stay += 1
        if self._work is not None:
            self._work.scope.cancel()
        return self._work

    def pause(self) -> None:
        """Stop the timer, and let `begin` begin all anew; the work is ending or has ended."""
        self._cancel_timer()
        self._has_worked = self._is_kept_up = self._has_complained = False

    def adopt(self, actor: Actor, component: Component, stored: Stored | None) -> None:
        """Put into a component what is stored; if nothing is, it goes on in its state (K4).

        Raises:
            UnknownState: the machine does not have the stored state; nothing has changed.
            Exception: what `restore` raised; the state has not changed.
        """
        if stored is None:
            self._version, self._is_unsaved = 0, self.due is not None
        else:
            version, state, data, due = stored
            if state not in self._states:
                raise UnknownState(actor.name, state, self._states)
            stores.restore(component, data)
            actor.state, self._version, self.due = state, version, due
            self._is_unsaved = False
        self.is_stale = False
        self._new_stay()

    def begin_message(self) -> None:
        """Note which engine hosts the component as a message begins."""
        self._home = self.hosting

    async def reload(self, actor: Actor, component: Component) -> None:
        """Load a component again, since it is not certain what is stored (K3).

        Raises:
            Exception: the store has failed, or has something that can't be used; then the component
                must still be loaded.
        """
        if self._store is not None:
            stored = await stores.load(self._store, actor.name)
            if (0 if stored is None else stored.version) != self._version:
                # Nothing of the new stay may begin before the old work has ended.
                self._is_moving = True
                await self._end_work(actor, actor.state)
                if stored is None:
                    # It was deleted: the component begins anew.
                    actor.state, self.due = actor.start, None
                self.adopt(actor, component, stored)
            elif stored is not None:
                stores.restore(component, stored.data)
        self.is_stale = False

    async def keep_up(self, actor: Actor, component: Component) -> None:
        """Load the component if it is stale, and save its due time if that has changed.

        If that fails, it is logged once, and tried again later (`Hosting.overdue`). A native cancel
        of this task alone is made up for in the same way.
        """
        self.begin_message()
        try:
            if self.is_stale:
                await self.reload(actor, component)
            if self._is_unsaved and actor.state is not None:
                await self._save(actor, component, actor.state, self.due)
        except BaseException as exc:
            if self.hosting is not None:
                self.hosting.overdue[actor] = component
            if not isinstance(exc, Exception):
                raise
            if not self._has_complained:
                self._has_complained = True
                log_exception(exc, MESSAGE_RECEIVED, actor.name, "loading or saving")
        else:
            self._is_kept_up = self._has_complained = False

    def accepts(self, trigger: Any) -> bool:
        """Return whether a message that a state has sent counts; if so, note that it was sent."""
        if trigger.stay != self.stay:
            return False
        self._sent = trigger, self.due
        if trigger.is_timer:
            self.due = _SPENT
            self._is_unsaved = self._store is not None
        return True

    def take_back(self, trigger: Any, due: float | None) -> None:
        """Note that a state's message has not been handled after all: a timer sends it again.

        Args:
            trigger: what has sent the message.
            due: when the timer was to send it.
        """
        if trigger.stay == self.stay and trigger.is_timer:
            self.due, self._timer = due, None

    async def carry_out(
        self,
        actor: Actor,
        component: Component,
        transition: Transition,
        message: dict[str, Any],
    ) -> None:
        """Do all that a transition does, and commit it (M1, K3).

        Raises:
            EngineNotRunning: the target takes time, and the engine does not run (M4).
            Entangled: the work of the source waits for this transition.
            Exception: what `exit`, the action, `entry`, `snapshot` or the store raised.
        """
        target = transition.target
        if target is None:
            await _call(transition.action, message, component)
            await self._save(actor, component, cast("str", actor.state), self.due)
            return
        entered = self._details.get(target)
        after = None if entered is None else entered.after
        takes_time = entered is not None and (after or entered.during)
        if takes_time and (self._home is None or self._home.tasks is None):
            raise EngineNotRunning(actor.name, target)
        is_working = self._work is not None
        self._is_moving = True
        try:
            if self._details:
                await self._leave_and_enter(actor, component, transition, message)
            else:
                await _call(transition.action, message, component)
            await self._save(actor, component, target, after and _due(after))
        except BaseException:
            # Work that this has ended begins anew.
            self._has_worked = self._has_worked and not is_working
            raise
        actor.state, self.due = target, after and _due(after)
        self._new_stay()

    async def _leave_and_enter(
        self,
        actor: Actor,
        component: Component,
        transition: Transition,
        message: dict[str, Any],
    ) -> None:
        """Do what comes before the save, where states have details (M1)."""
        target = cast("str", transition.target)
        left, entered = self._details.get(actor.state), self._details.get(target)
        await self._end_work(actor, target)
        if left is not None:
            await _call(left.exit, message, component)
        await _call(transition.action, message, component)
        if entered is not None:
            await _call(entered.entry, message, component)

    def settle(self, actor: Actor, component: Component) -> None:
        """Note that the handling of a message is over, and begin what has not begun."""
        self._is_moving = False
        self._sent = None
        self.begin(actor, component)

    def begin(self, actor: Actor, component: Component) -> None:
        """Begin what has not begun: the work and the timer of the state (M2, M3)."""
        hosting = self.hosting
        if hosting is None or hosting.tasks is None or self._is_moving:
            return
        if not self.is_stale and (self._details or self.due is not None):
            self._begin_stay(hosting, hosting.tasks, actor, component)
        if (self.is_stale or self._is_unsaved) and not self._is_kept_up:
            self._is_kept_up = True
            hosting.tasks.start_guarded(actor.keep_up, component)

    def _begin_stay(
        self, hosting: Hosting, tasks: TaskBlock, actor: Actor, component: Component
    ) -> None:
        state = self._details.get(actor.state)
        if self.due is not None and self.due != _SPENT and (state is None or state.after is None):
            # The machine that was stored had a timer in this state, which this one has not.
            self.due, self._is_unsaved = None, True
        if state is not None:
            if state.after is not None and self._timer is None and self.due != _SPENT:
                self._set_timer(hosting, actor, component, *state.after)
            if state.during is not None:
                self._begin_work(tasks, actor, component, state)

    def _begin_work(
        self, tasks: TaskBlock, actor: Actor, component: Component, state: State
    ) -> None:
        if self._work is None and not self._has_worked:
            self._has_worked = True
            self._work = Work(actor)
            bus = cast("Dispatcher", actor.dispatcher)  # it has one, as it has a host
            run = _Run(actor, bus, component, state, self._work, self.stay)
            tasks.start_guarded(self._run, run)

    @property
    def _is_running(self) -> bool:
        return self.hosting is not None and self.hosting.tasks is not None

    def _new_stay(self) -> None:
        self.stay += 1
        self._has_worked = False
        self._cancel_timer()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            hosting: Any = self.hosting  # it has one, as it has a timer
            hosting.timers.cancel(self._timer)
            self._timer = None

    def _set_timer(
        self, hosting: Hosting, actor: Actor, component: Component, seconds: float, trigger: str
    ) -> None:
        now = time_of_day()
        if self.due is None:
            self.due = now + seconds
            self._is_unsaved = hosting.store is not None
        # The clock may have been set back since the time was stored.
        delay = min(self.due - now, seconds)
        if delay > 0:
            self._timer = hosting.timers.set(
                delay, _send_trigger, actor, component, trigger, self.stay
            )
        else:
            self._timer = Timer(None)
            _send_trigger(actor, component, trigger, self.stay)

    async def _end_work(self, actor: Actor, target: str | None) -> None:
        while self._work is not None:
            if not await self._work.end():
                raise Entangled if self._is_running else EngineNotRunning(actor.name, str(target))

    async def _save(
        self, actor: Actor, component: Component, state: str, due: float | None
    ) -> None:
        store = self._store
        if store is None:
            self._is_unsaved = False
            return
        data, expected = stores.snapshot_of(component), self._version
        try:
            version: object = await attempt(
                partial(store.save, actor.name, state, data, expected=expected, due=due)
            )
            self._version = stores.check_version(store, version, expected)
        except BaseException:
            # It may be stored all the same, or another engine has saved.
            self.is_stale = True
            self._put_off(actor, component)
            raise
        self._is_unsaved = False

    def _put_off(self, actor: Actor, component: Component) -> None:
        """Have the state send its message again, which could not be saved: when it was loaded.

        The watch loads it, a second later at most: at once would be a loop without an end where
        nothing can be saved.
        """
        sent, hosting = self._sent, self.hosting
        if sent is None or hosting is None:
            return
        trigger, due = sent
        if trigger.is_timer:
            self.take_back(trigger, due)
            self._is_unsaved = False
        else:
            self._has_worked = False
        self._is_kept_up = True
        hosting.overdue[actor] = component

    async def _run(self, run: _Run) -> None:
        """Do the work of a stay, in a task of `running()`, and send how it has ended."""
        actor, work = run.actor, run.work
        outcome: _Outcome | None = None
        failure: Exception | None = None
        try:
            with work.scope, work.holders[0]:
                outcome = await _attempt(run)
            if cancel_requests():
                await absorb_native_cancel()
        finally:
            self._work = None
            work.has_ended()
            if outcome is not None:
                failure = self._send(run, *outcome)
                del outcome
            self.begin(actor, run.component)
            self.rest(actor)
        try:
            if failure is not None:
                culprit = describe(run.state.during)
                await run.dispatcher.report(failure, actor.name, culprit)
        finally:
            del failure  # its traceback may hold this frame (B6)

    def _send(self, run: _Run, result: object, failure: Exception | None) -> Exception | None:
        """Send how work has ended; return its failure if that is to be reported instead."""
        state = run.state
        if run.work.scope.cancel_called or not self._is_running:
            return failure
        sent = Trigger(run.stay, is_timer=False)
        if failure is None:
            if state.done is not None:
                run.actor.post(run.component, {"type": state.done, "result": result}, sent)
            return None
        if state.failed is None:
            return failure
        run.actor.post(run.component, {"type": state.failed, "exception": failure}, sent)
        return None

    def rest(self, actor: Actor) -> None:
        """Note that a message or work of the component is over (K5)."""
        hosting = self.hosting
        if hosting is not None and hosting.rest is not None:
            hosting.rest(actor)


async def _call(
    function: Callable[..., object] | None, message: dict[str, Any], component: object
) -> None:
    if function is not None:
        await attempt(function, message, component)


def _send_trigger(actor: Actor, component: Component, trigger: str, stay: int) -> None:
    actor.post(component, {"type": trigger}, Trigger(stay, is_timer=True))


def _due(after: tuple[float, str]) -> float:
    return time_of_day() + after[0]


async def _attempt(run: _Run) -> _Outcome:
    during: Any = run.state.during
    try:
        return await during(run.component), None
    except BaseException as exc:  # noqa: BLE001  it is judged
        verdict = judge(exc, during, cancelled=effectively_cancelled)
        try:
            if verdict.failure is None:
                raise verdict.leaving
            return None, verdict.failure
        finally:
            del verdict  # its exceptions' tracebacks hold this frame (B6)
