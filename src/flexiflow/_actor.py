"""What handles a component's messages: its state, its mailbox, and the order of one message (C5).

Apart from `Component`, since whatever a subclass defines must not get in the way.
"""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, cast, final

from flexiflow._bus import announce, emit, is_yield_due, listeners, yield_now
from flexiflow._cancellation import (
    attempt,
    is_being_cancelled,
    resume_cancellation,
)
from flexiflow._errors import TransitionRefused, UnknownComponent
from flexiflow._mailbox import Mailbox
from flexiflow._reporting import Announcing, is_announcing, log_exception
from flexiflow.events import MESSAGE_RECEIVED, STATE_CHANGED

if TYPE_CHECKING:
    from flexiflow._bus import EventBus
    from flexiflow._machine import StateMachine, Transition
    from flexiflow._mailbox import Turn
    from flexiflow.events import MessageReceived, StateChanged


@final
class Outcome(Enum):
    """What became of a message.

    Attributes:
        TRANSITIONED: a transition was taken, perhaps an internal one (C7).
        IGNORED: no transition matched, or the component has no machine (C8).
        DEFERRED: the component will handle it after the message in hand (C4).
    """

    TRANSITIONED = "transitioned"
    IGNORED = "ignored"
    DEFERRED = "deferred"


class Host(Protocol):
    """What a component knows of the engine that it is registered with."""

    @property
    def bus(self) -> EventBus:
        """Where its events are published."""
        ...


# An enum's members are looked up through a descriptor, at 80 ns each on Python 3.11.
_TRANSITIONED = Outcome.TRANSITIONED
_IGNORED = Outcome.IGNORED


def copy_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a message, one level, or refuse what is none (C5)."""
    if not isinstance(message, dict | Mapping):
        raise TypeError(
            f"a message must be a mapping with a str 'type', not {reprlib.repr(message)}"
        )
    copied: dict[str, Any] = dict(message)
    if not isinstance(copied.get("type"), str):
        shown = reprlib.repr(copied)
        # By contract (C5) it is no TypeError: that is for what is no message at all.
        raise ValueError(  # noqa: TRY004
            f"a message must have a str 'type', like {{'type': 'confirm'}}; given {shown}"
        )
    return copied


@final
class Actor:
    """A component's inside.

    Attributes:
        name: the component's name.
        machine: the table of its transitions, or None.
        state: the current state, or None.
        mailbox: whose turn it is.
        host: the engine that it is registered with, or None.
    """

    __slots__ = ("host", "machine", "mailbox", "name", "state")

    def __init__(self, name: str, machine: StateMachine | None) -> None:
        self.name = name
        self.machine = machine
        self.state = None if machine is None else machine.initial
        self.mailbox = Mailbox()
        self.host: Host | None = None

    @property
    def bus(self) -> EventBus | None:
        """Where its events are published, if anywhere."""
        return None if self.host is None else self.host.bus

    async def handle(
        self,
        component: object,
        message: dict[str, Any],
        host: Host | None,
        turn: Turn | None = None,
    ) -> Outcome:
        """Handle a message when its turn has come, and those deferred meanwhile (C3, C4).

        Args:
            component: what guards and actions are given.
            message: the component's own copy.
            host: the engine that it was registered with as the message was sent.
            turn: a place in the mailbox that was taken before; else one is taken now.
        """
        mailbox = self.mailbox
        if turn is None:
            turn = mailbox.join()
        try:
            if mailbox.holder is not turn and not await turn.granted():
                turn.mailbox.defer(message, announcing=is_announcing())
                return Outcome.DEFERRED
            run = _Run(self, component, turn)
            if mailbox.deferred:  # a cancelled send left some
                await run.deferred()
            if host is not None and is_yield_due(host.bus):
                await yield_now(host.bus)
            if host is not None and self.host is not host:
                raise UnknownComponent(self.name)
            return await run.to_completion(message)
        finally:
            if mailbox.holder is turn and not mailbox.waiting:
                # Without a call: where the stack ended there is none left for one.
                mailbox.holder = None
            else:
                turn.end()

    async def report_deferred(self, bus: EventBus) -> None:
        """Report the deferred messages of a component that was unregistered (C1, C4)."""
        unhandled = [(each, UnknownComponent(self.name)) for each in self.mailbox.take_deferred()]
        for each, failure in unhandled:
            self.log(failure, each.message)
        for each, failure in unhandled:
            if not each.announcing:
                await announce(bus, MESSAGE_RECEIVED, self.name, failure)

    def log(self, failure: Exception, message: dict[str, Any]) -> None:
        """Log a failure that no sender gets."""
        culprit = f"message {message['type']!r}"
        log_exception(failure, MESSAGE_RECEIVED, self.name, culprit)


@final
class _Run:
    """One turn's work."""

    __slots__ = ("_actor", "_bus", "_component", "_handled", "_turn")

    def __init__(self, actor: Actor, component: object, turn: Turn) -> None:
        self._actor = actor
        self._component = component
        self._turn = turn
        self._bus: EventBus | None = None
        self._handled = sys.exception()

    async def to_completion(self, message: dict[str, Any]) -> Outcome:
        """Handle a message, then those deferred meanwhile."""
        try:
            outcome = await self._handle(message)
        except Exception as exc:
            try:
                await self.deferred()
            except BaseException:
                # What leaves now hides this failure from the sender, so it goes to the log (E4).
                self._actor.log(exc, message)
                raise
            raise
        if self._actor.mailbox.deferred:
            await self.deferred()
        return outcome

    async def deferred(self) -> None:
        """Handle the deferred messages until none is left."""
        mailbox = self._actor.mailbox
        while mailbox.deferred:
            bus = self._actor.bus
            if bus is not None and is_yield_due(bus):
                await yield_now(bus)
            if is_being_cancelled(self._handled):
                await resume_cancellation()
            # While this yielded, the component may have been unregistered.
            if mailbox.deferred:
                message, within_announcement = mailbox.deferred.popleft()
                with Announcing() if within_announcement else nullcontext():
                    await self._handle_reporting(message)

    async def _handle_reporting(self, message: dict[str, Any]) -> None:
        try:
            await self._handle(message)
        except Exception as exc:  # noqa: BLE001  whatever it is, nobody waits for it
            self._actor.log(exc, message)
            if is_being_cancelled(self._handled):
                await resume_cancellation()
            if self._bus is not None:
                with self._turn.handling():
                    await announce(self._bus, MESSAGE_RECEIVED, self._actor.name, exc)

    async def _handle(self, message: dict[str, Any]) -> Outcome:
        actor = self._actor
        # A deferred message may have come after its component went to another engine.
        bus = self._bus = actor.bus
        with self._turn.handling():
            if bus is not None and (route := listeners(bus, MESSAGE_RECEIVED)) is not None:
                received: MessageReceived = {"component": actor.name, "message": dict(message)}
                await emit(bus, MESSAGE_RECEIVED, received, route)
            transition = await self._choose(message)
            if transition is None:
                return _IGNORED
            if transition.action is not None:
                await attempt(transition.action, message, self._component)
            if transition.target is not None:
                await self._commit(transition.target, bus)
            return _TRANSITIONED

    async def _choose(self, message: dict[str, Any]) -> Transition | None:
        machine, state = self._actor.machine, self._actor.state
        if machine is None or state is None:
            return None
        trigger = message["type"]
        for each in machine.candidates(state, trigger):
            if each.guard is None or await attempt(each.guard, message, self._component):
                return each
        if machine.strict:
            raise TransitionRefused(self._actor.name, state, trigger, machine.triggers(state))
        return None

    async def _commit(self, target: str, bus: EventBus | None) -> None:
        source = cast("str", self._actor.state)  # it has a transition, so it has a state
        self._actor.state = target
        if bus is not None and (route := listeners(bus, STATE_CHANGED)) is not None:
            changed: StateChanged = {
                "component": self._actor.name,
                "from_state": source,
                "to_state": target,
            }
            await emit(bus, STATE_CHANGED, changed, route)
