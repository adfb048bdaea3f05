"""The inside of a component: its state, its mailbox, and the handling of its messages (C3 to C6).

`Actor.handle` waits for a message's turn, handles it, then handles the messages that were deferred
meanwhile, and passes the turn on (`_mailbox`). `Actor._handle` takes one message through the steps
of C5. All this is kept out of `Component`, so that no attribute of a subclass can get in the way.
"""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from enum import Enum
from functools import cache, partial
from typing import TYPE_CHECKING, Any, final

from flexiflow._cancellation import (
    effectively_cancelled,
    is_being_cancelled,
    resume_cancellation,
    split,
)
from flexiflow._delivery.verdict import attempt
from flexiflow._errors import (
    EngineNotRunning,
    HandlerCancelled,
    TransitionRefused,
    UnknownComponent,
)
from flexiflow._mailbox import Mailbox
from flexiflow._reporting import Announcing, is_announcing, log_exception
from flexiflow._text import show
from flexiflow._turns import Entangled, current_turn, innermost_turn
from flexiflow.events import MESSAGE_RECEIVED, STATE_CHANGED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flexiflow._dispatcher import Dispatcher
    from flexiflow._lifecycle import Lifecycle, Trigger
    from flexiflow._machine import StateMachine, Transition
    from flexiflow._turns import Turn
    from flexiflow.events import MessageReceived, StateChanged


@final
class Outcome(Enum):
    """What became of a message.

    Attributes:
        TRANSITIONED: a transition was taken; internal ones count (C7).
        IGNORED: no transition matched, or the component has no machine (C8).
        DEFERRED: the component will handle it after the message in hand (C4).

    Example:
        >>> import anyio
        >>> from flexiflow import Component, Engine, StateMachine, Transition
        >>> MACHINE = StateMachine("placed", [Transition("placed", "pay", "paid")])
        >>> async def main():
        ...     engine = Engine()
        ...     await engine.register(Component("order-7", machine=MACHINE))
        ...     for _ in range(2):
        ...         print((await engine.send("order-7", {"type": "pay"})).name)
        >>> anyio.run(main)
        TRANSITIONED
        IGNORED
    """

    TRANSITIONED = "transitioned"
    IGNORED = "ignored"
    DEFERRED = "deferred"


# On Python 3.11 looking up an enum's member takes 80 ns, since it goes through a descriptor.
_TRANSITIONED = Outcome.TRANSITIONED
_IGNORED = Outcome.IGNORED


def copy_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a message, one level deep (C5).

    Raises:
        TypeError: `message` is not a mapping.
        ValueError: it has no str `type`.
    """
    # Checking against `dict | Mapping` takes as long as calling a handler.
    if not isinstance(message, (dict, Mapping)):
        raise TypeError(
            f"a message must be a mapping with a str 'type', not {reprlib.repr(message)}"
        )
    copied: dict[str, Any] = dict(message)
    if not isinstance(copied.get("type"), str):
        shown = reprlib.repr(copied)
        # By contract (C5) not a TypeError, which says that it is not a mapping.
        raise ValueError(  # noqa: TRY004
            f"a message must have a str 'type', like {{'type': 'confirm'}}; given {shown}"
        )
    return copied


@final
class Actor:
    """The inside of a component.

    Attributes:
        name: the component's name.
        machine: the table of its transitions, or None.
        start: the state in which the component begins; None without a machine.
        state: the current state; None without a machine.
        mailbox: the turns of its messages.
        life: what it has besides, if its states take time or are stored; else None.
        host: the engine that it is registered with, or None.
        dispatcher: the inside of the engine's bus, where its events are published, or None.
    """

    __slots__ = ("dispatcher", "host", "life", "machine", "mailbox", "name", "start", "state")

    def __init__(self, name: str, machine: StateMachine | None, start: str | None) -> None:
        self.name = name
        self.machine = machine
        self.start = self.state = start
        self.mailbox = Mailbox()
        self.life: Lifecycle | None = None
        if machine is not None and machine.details:
            self.give_life()
        self.host: object = None
        self.dispatcher: Dispatcher | None = None

    def give_life(self) -> Lifecycle:
        """Give the component a lifecycle, if it has none; return it."""
        if self.life is None:
            self.life = _lifecycle()(self.machine)
        return self.life

    async def handle(  # noqa: C901, PLR0912, PLR0915  each further function takes a twentieth more time
        self,
        component: Any,
        message: dict[str, Any],
        host: object,
        turn: Turn | None = None,
    ) -> Outcome:
        """Handle a message when its turn has come, and those deferred meanwhile (C3, C4).

        Args:
            component: the actor's component, which guards and actions are given.
            message: the component's own copy of the message.
            host: the engine that the component was registered with when the message was sent, or
                None.
            turn: a place in the mailbox, if one was taken before; else one is taken now.

        Returns:
            What became of the message.

        Raises:
            UnknownComponent: the component was unregistered while the message waited (C1).
            TransitionRefused: a strict machine has no transition for it (C8).
            Exception: what a guard or an action raised (C6).
        """
        mailbox, life, handled = self.mailbox, self.life, sys.exception()
        if life is not None and turn is None:
            if life.is_unloaded:
                raise UnknownComponent(self.name)
            if life.is_within_work(self):
                self.post(component, message)
                return Outcome.DEFERRED
        # Once the turn is in hand, no call may come before the `try`: a stack overflow in it would
        # leave the turn taken for ever.
        if turn is None:
            turn = mailbox.join()
        if mailbox.holder is not turn and not await turn.wait_granted():
            if mailbox.holder is not None:
                mailbox.defer(message, announcing=is_announcing())
                return Outcome.DEFERRED
            # The wait was given up, and what it waited for has ended since.
            turn = mailbox.join()
        try:
            dispatcher = self.dispatcher
            if mailbox.deferred or (dispatcher is not None and dispatcher.until_yield <= 0):
                turn = await self._catch_up(component, turn, handled)
                dispatcher = self.dispatcher
            if self.host is not host and host is not None:
                if turn.trigger is not None:
                    return _IGNORED
                raise UnknownComponent(self.name)
            try:
                outcome = await self._handle(component, message, turn, dispatcher)
            except Entangled:
                self.post(component, message)
                outcome = Outcome.DEFERRED
            except Exception as exc:
                await self._handle_deferred_despite(exc, component, message, handled)
                raise
            if mailbox.deferred:
                await self._handle_deferred(component, handled)
            return outcome
        finally:
            del handled  # raised again, its traceback would hold this frame (B6)
            if mailbox.waiting:
                mailbox.pass_on()
            else:
                # What `pass_on` does, without a call: after a stack overflow there may be no room
                # for one.
                mailbox.holder = None
            if life is not None:
                life.rest(self)

    async def _catch_up(self, component: object, turn: Turn, handled: BaseException | None) -> Turn:
        """Handle what a cancelled send left behind, and yield if a yield is due (D6).

        Returns:
            The turn for the sender's own message.
        """
        try:
            if self.mailbox.deferred:
                await self._handle_deferred(component, handled)
                trigger, turn = turn.trigger, self.mailbox.renew()
                turn.trigger = trigger
            if self.dispatcher is not None and self.dispatcher.until_yield <= 0:
                await self.dispatcher.pay_yield()
        finally:
            del handled  # as in `handle`
        return turn

    async def _handle(  # noqa: C901, PLR0912, PLR0915  each further function takes a twentieth more time
        self,
        component: Any,
        message: dict[str, Any],
        turn: Turn,
        dispatcher: Dispatcher | None,
    ) -> Outcome:
        """Handle one message: announce it, choose a transition, act, commit, announce that (C5)."""
        # What `with turn` would do, written out: its calls make a message take 6 % longer.
        if current_turn.get() is not None:
            turn.outer = innermost_turn()
        marked, life = current_turn.set(turn), self.life
        try:
            if life is not None:
                life.begin_message()
                if life.is_stale:
                    await life.reload(self, component)
                if turn.trigger is not None and not life.accepts(turn.trigger):
                    return _IGNORED
            if (
                dispatcher is not None
                and (route := dispatcher.listeners(MESSAGE_RECEIVED)) is not None
            ):
                received: MessageReceived = {"component": self.name, "message": dict(message)}
                await dispatcher.deliver(route, received)
            machine, state = self.machine, self.state
            if machine is None or state is None:
                return _IGNORED
            candidates = machine.candidates(state, message["type"])
            # The commonest case, written out: calling `_choose` costs as much as three handlers.
            transition = candidates[0] if candidates else None
            if transition is None or transition.guard is not None:
                transition = await self._choose(machine, state, candidates, message, component)
            if transition is None:
                return _IGNORED
            if life is not None:
                await life.carry_out(self, component, transition, message)
            elif transition.action is not None:
                await attempt(transition.action, message, component)
            target = transition.target
            if target is not None:
                self.state = target
                if (
                    dispatcher is not None
                    and (route := dispatcher.listeners(STATE_CHANGED)) is not None
                ):
                    changed: StateChanged = {
                        "component": self.name,
                        "from_state": state,
                        "to_state": target,
                    }
                    await dispatcher.deliver(route, changed)
            return _TRANSITIONED
        finally:
            turn.is_over = True
            turn.awaited = None
            current_turn.reset(marked)
            if life is not None:
                life.settle(self, component)

    async def _choose(
        self,
        machine: StateMachine,
        state: str,
        candidates: Iterable[Transition],
        message: dict[str, Any],
        component: object,
    ) -> Transition | None:
        for each in candidates:
            if each.guard is None or await attempt(each.guard, message, component):
                return each
        if machine.strict:
            raise TransitionRefused(self.name, state, message["type"], machine.triggers(state))
        return None

    async def _handle_deferred(self, component: object, handled: BaseException | None) -> None:
        """Handle the deferred messages until none is left.

        Args:
            component: the actor's component, which guards and actions are given.
            handled: the exception that the sender was handling when it sent, or None.
        """
        mailbox = self.mailbox
        try:
            while mailbox.deferred:
                if self.dispatcher is not None and self.dispatcher.until_yield <= 0:
                    await self.dispatcher.pay_yield()
                if is_being_cancelled(handled):
                    await resume_cancellation()
                # The component may have been unregistered during the yield.
                if mailbox.deferred:
                    message, within_announcement = mailbox.deferred.popleft()
                    with Announcing() if within_announcement else nullcontext():
                        await self._handle_reporting(component, message, handled)
        finally:
            del handled  # as in `handle`

    async def _handle_deferred_despite(
        self,
        failure: Exception,
        component: object,
        message: dict[str, Any],
        handled: BaseException | None,
    ) -> None:
        try:
            await self._handle_deferred(component, handled)
        except BaseException:
            # What leaves now hides the failure from the sender, so the failure is logged (E4).
            self.log(failure, message)
            raise
        finally:
            del failure, handled  # as in `handle`

    async def _handle_reporting(
        self, component: object, message: dict[str, Any], handled: BaseException | None
    ) -> None:
        # Read for each message: the component may have gone to another engine meanwhile.
        dispatcher = self.dispatcher
        try:
            await self._handle(component, message, self.mailbox.renew(), dispatcher)
        except Entangled:
            self.post(component, message)
        except Exception as exc:  # noqa: BLE001  nobody waits for this message, so it is reported
            self.log(exc, message)
            if is_being_cancelled(handled):
                await resume_cancellation()
            if dispatcher is not None:
                with self.mailbox.renew():
                    await dispatcher.announce(MESSAGE_RECEIVED, self.name, exc)
        finally:
            del handled  # as in `handle`

    def post(self, component: Any, message: dict[str, Any], trigger: Trigger | None = None) -> None:
        """Give a message its place in line, and handle it in a task of `running()` (M2, M3).

        Outside of `running()`, it is deferred.

        Args:
            component: the actor's component.
            message: the component's own copy of the message.
            trigger: what has sent the message, if its state has; None if the state's work has.
        """
        hosting = None if self.life is None else self.life.hosting
        if hosting is None or hosting.tasks is None:
            self.mailbox.defer(message, announcing=is_announcing())
            return
        turn = self.mailbox.join_alone()
        turn.trigger = trigger
        if trigger is None:
            keep = partial(self.mailbox.defer, message, announcing=is_announcing())
            hosting.posted[turn] = keep
        start = partial(hosting.tasks.start_guarded, self._handle_posted, component, message, turn)
        # What is reported is so where the component was hosted as the message was sent.
        start(self.host, self.dispatcher, is_announcing(), hosting.posted)

    async def _handle_posted(
        self,
        component: Any,
        message: dict[str, Any],
        turn: Turn,
        host: object,
        dispatcher: Dispatcher,
        within_announcement: bool,  # noqa: FBT001  a task is started with positional arguments
        posted: dict[Turn, Callable[[], object]],
    ) -> None:
        due = None if self.life is None else self.life.due
        has_begun = False
        with Announcing() if within_announcement else nullcontext():
            try:
                await self._wait_for(turn, dispatcher)
                if turn.trigger is None and posted.pop(turn, None) is None:
                    # `running()` is being left, and has kept the message.
                    turn.end()
                    return
                has_begun = True
                await self.handle(component, message, host, turn)
            except BaseException as exc:
                failure = _failure(exc, message)
                is_put_off = turn.trigger is not None and self._is_put_off(failure, due)
                if is_put_off and self.life is not None:
                    self.life.take_back(turn.trigger, due)
                if failure is None:
                    raise
                posted.pop(turn, None)
                if turn.trigger is None or (has_begun and not self._is_stopped_by(failure)):
                    # Nobody waits for this message, so its failure is reported.
                    await dispatcher.report(failure, self.name, _culprit(message))
            finally:
                failure = None  # its traceback holds this frame (B6)

    def _is_put_off(self, failure: Exception | None, due: float | None) -> bool:
        """Return whether the trigger of a timer is to be sent again, as the handling has ended.

        Args:
            failure: that of the message; None if it was cancelled.
            due: when the timer was to send it.
        """
        if failure is None or self._is_stopped_by(failure):
            return True
        # Its turn did not come: the component could not be loaded.
        return self.life is not None and self.life.due == due

    def _is_stopped_by(self, failure: Exception) -> bool:
        """Return whether a message has failed because `running()` is being left."""
        hosting = None if self.life is None else self.life.hosting
        is_left = hosting is not None and hosting.tasks is None
        return is_left and isinstance(failure, EngineNotRunning)

    async def _wait_for(self, turn: Turn, dispatcher: Dispatcher) -> None:
        """Wait for a turn, then yield if a yield is due (D6): a message can be kept until then."""
        if self.mailbox.holder is not turn:
            await turn.wait_granted()
        if dispatcher.until_yield <= 0:
            try:
                await dispatcher.pay_yield()
            except BaseException:
                turn.end()
                raise

    async def keep_up(self, component: Any) -> None:
        """Load the component, or save its due time, if that must be done (K3, M2)."""
        life, turn = self.give_life(), self.mailbox.join_alone()
        try:
            if self.mailbox.holder is not turn:
                await turn.wait_granted()
        except UnknownComponent:
            return
        try:
            with turn:
                await life.keep_up(self, component)
            if self.mailbox.deferred:
                await self._handle_deferred(component, None)
        finally:
            self.mailbox.pass_on()
            life.settle(self, component)
            life.rest(self)

    async def report_deferred(self, dispatcher: Dispatcher) -> None:
        """Report the deferred messages of an unregistered component, and forget them (C1, C4)."""
        deferred = self.mailbox.take_deferred()
        unhandled = [(*each, UnknownComponent(self.name)) for each in deferred]
        for message, _, failure in unhandled:
            self.log(failure, message)
        for _, within_announcement, failure in unhandled:
            if not within_announcement:
                await dispatcher.announce(MESSAGE_RECEIVED, self.name, failure)

    def log(self, failure: Exception, message: dict[str, Any]) -> None:
        """Log a failure that is raised to no sender."""
        log_exception(failure, MESSAGE_RECEIVED, self.name, _culprit(message))


def _failure(exception: BaseException, message: dict[str, Any]) -> Exception | None:
    """Return the failure of a message that is handled in a task of its own, or None.

    A native cancel of that task is one.
    """
    if isinstance(exception, Exception):
        return exception
    if isinstance(exception, GeneratorExit) or effectively_cancelled():
        return None
    if split(exception)[1] is not None:
        return None
    failure = HandlerCancelled(_culprit(message))
    failure.__cause__ = exception
    return failure


@cache
def _lifecycle() -> type[Lifecycle]:
    # Imported by the first one: a program without states that last does without it, and it is 6 %
    # of importing FlexiFlow.
    from flexiflow._lifecycle import Lifecycle  # noqa: PLC0415

    return Lifecycle


def _culprit(message: dict[str, Any]) -> str:
    return f"message {show(message['type'])}"
