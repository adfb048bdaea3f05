"""The reference model of an engine, its components and their machines.

It follows the contract's wording, in plain data, without a loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from flexiflow import DuplicateComponent, Outcome, UnknownComponent
from flexiflow.events import COMPONENT_REGISTERED, HANDLER_FAILED, MESSAGE_RECEIVED, STATE_CHANGED
from properties.programs import Cancelled, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Observe: TypeAlias = Callable[[str, dict[str, Any]], Awaitable[None]]

Message: TypeAlias = Mapping[str, Any]


class Failed(Exception):
    """Raised by a guard or an action."""


@dataclass(eq=False)
class Sender:
    """A sender, and the component for whose turn it waits."""

    awaits: Actor | None = None


sender: ContextVar[Sender | None] = ContextVar("sender", default=None)
"""The sender here; what is sent within the handling of a message has the sender of that message."""


@dataclass(eq=False)
class Actor:
    """A component: its queue, its deferred messages, its state."""

    name: str
    state: str
    registered: bool = True
    holder: Sender | None = None
    waiting: deque[Sender] = field(default_factory=deque[Sender])
    deferred: deque[Message] = field(default_factory=deque[Message])

    def pass_on(self) -> None:
        """Give the turn to the first sender that waits, if there is one."""
        self.holder = self.waiting.popleft() if self.waiting else None

    def would_wait_for(self, sender: Sender) -> bool:
        """Return whether the turn in hand can't end before this sender has what it waits for."""
        holder = self.holder
        while holder is not None and holder is not sender:
            holder = holder.awaits.holder if holder.awaits else None
        return holder is sender


@dataclass
class ModelEngine:
    """The reference model; each message has a transition from every state, unless it is "ignored".

    Attributes:
        initial: the state in which components begin.
        makes: the names of the components that the factory makes.
        guard: asked before each transition.
        action: called by each transition.
        observe: called with each event.
        log: called with the component's name for each failure that is logged.
        components: the components that are registered.
        left: those that were unregistered, and whose message in hand may go on.
    """

    initial: str
    makes: frozenset[str]
    guard: Callable[[Message, Any], bool]
    action: Callable[[Message, Any], Awaitable[None]]
    observe: Observe
    log: Callable[[str], None]
    components: dict[str, Actor] = field(default_factory=dict[str, Actor])
    left: list[Actor] = field(default_factory=list[Actor])

    async def register(self, name: str) -> None:
        if name in self.components:
            raise DuplicateComponent(name)
        self.components[name] = Actor(name, self.initial)
        await self.observe(COMPONENT_REGISTERED, {"component": name})

    async def unregister(self, name: str) -> None:
        """Unregister a component: its message in hand goes on, and all others fail."""
        if name not in self.components:
            raise UnknownComponent(name)
        actor = self.components.pop(name)
        actor.registered = False
        self.left.append(actor)
        actor.waiting.clear()
        deferred = len(actor.deferred)
        actor.deferred.clear()
        for _ in range(deferred):
            self.log(name)
        for _ in range(deferred):
            await self.observe(HANDLER_FAILED, {"component_name": name})

    def had_namesakes(self) -> bool:
        """Return whether components of the same name may have run in parallel since the last call.

        The order of what happens in the one and in the other is not determined.
        """
        names = [*self.components, *(each.name for each in self.left)]
        self.left = [each for each in self.left if each.holder is not None]
        return len(names) > len({*names})

    def states(self) -> dict[str, tuple[str, int]]:
        return {name: (each.state, len(each.deferred)) for name, each in self.components.items()}

    async def send(self, name: str, message: Message) -> Outcome:
        """Handle a message when its turn has come, or defer it."""
        if name not in self.components:
            if name not in self.makes:
                raise UnknownComponent(name)
            await self.register(name)
        actor = self.components[name]
        outer = sender.get()
        own = outer or Sender()
        if actor.would_wait_for(own):
            actor.deferred.append(message)
            return Outcome.DEFERRED
        reset = sender.set(own)
        try:
            await self._queue(actor, own)
            return await self._complete(actor, message)
        finally:
            sender.reset(reset)
            if actor.holder is own:
                actor.pass_on()

    async def _queue(self, actor: Actor, own: Sender) -> None:
        if actor.holder is None:
            actor.holder = own
            return
        actor.waiting.append(own)
        own.awaits = actor
        try:
            await until(lambda: own not in actor.waiting)
        except Cancelled:
            actor.waiting.remove(own)
            raise
        finally:
            own.awaits = None

    async def _complete(self, actor: Actor, message: Message) -> Outcome:
        """Handle what a cancelled send has left, the message, and what is deferred meanwhile."""
        if actor.registered:
            await self._catch_up(actor)
        if not actor.registered:
            raise UnknownComponent(actor.name)
        try:
            outcome = await self._handle(actor, message)
        except Failed:
            try:
                await self._catch_up(actor)
            except Cancelled:
                # The cancellation leaves instead, so the failure is only logged.
                self.log(actor.name)
                raise
            raise
        await self._catch_up(actor)
        return outcome

    async def _catch_up(self, actor: Actor) -> None:
        while actor.deferred:
            try:
                await self._handle(actor, actor.deferred.popleft())
            except Failed:
                self.log(actor.name)
                await self.observe(HANDLER_FAILED, {"component_name": actor.name})

    async def _handle(self, actor: Actor, message: Message) -> Outcome:
        """Handle one message: received, guard, action, commit, changed."""
        await self.observe(MESSAGE_RECEIVED, {"component": actor.name, "message": message})
        if message["type"] == "ignored" or not self.guard(message, actor):
            return Outcome.IGNORED
        await self.action(message, actor)
        if message["target"] is not None:
            before, actor.state = actor.state, message["target"]
            changed = {"component": actor.name, "from_state": before, "to_state": actor.state}
            await self.observe(STATE_CHANGED, changed)
        return Outcome.TRANSITIONED
