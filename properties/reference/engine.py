"""The reference implementation of an engine and its components, plain, each step a method.

A fault overrides one method. They keep the contract, except for costs, native cancels, and cycles
of waiting that go through a factory.
Their tables of transitions are real ones.
"""

import contextlib
import logging
import math
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from inspect import isawaitable
from types import MappingProxyType
from typing import Any

import anyio
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from flexiflow import (
    ComponentError,
    DuplicateComponent,
    HandlerCancelled,
    Outcome,
    StateMachine,
    Transition,
    TransitionRefused,
    UnknownComponent,
)
from flexiflow.events import (
    COMPONENT_REGISTERED,
    HANDLER_FAILED,
    MESSAGE_RECEIVED,
    STATE_CHANGED,
)
from properties.reference.bus import Plain, Publishing

logger = logging.getLogger("flexiflow")


@dataclass(eq=False)
class Handling:
    """A message's place in line, and then its time with its component.

    Attributes:
        within: the handlings from within which it was sent.
        component: the component whose line it is in; None while that is being made.
        stay: the number of the stay in a state that has sent it, or None.
        is_timed: whether the timer of that state has sent it.
        is_given_up: whether its sender waits no more, since that would be for ever.
        is_reporting: whether it was sent from within the report of a failure (E7).
    """

    message: dict[str, Any]
    within: tuple["Handling", ...]
    component: Any = None
    stay: int | None = None
    is_timed: bool = False
    is_given_up: bool = False
    is_reporting: bool = False
    come: anyio.Event = field(default_factory=anyio.Event)
    refusal: Exception | None = None
    is_over: bool = False

    def refuse(self, refusal: Exception) -> None:
        self.refusal = refusal
        self.come.set()


current: ContextVar[tuple[Handling, ...]] = ContextVar("current", default=())
making: ContextVar[tuple[str, ...]] = ContextVar("making", default=())
waiting: list[Handling] = []


def live() -> tuple[Handling, ...]:
    """Return the handlings that the caller is within."""
    return tuple(each for each in current.get() if not each.is_over)


def waits_for(handling: Handling | None, wanted: tuple[Handling, ...]) -> bool:
    """Return whether a handling can't be over before one of `wanted` is."""
    return handling in wanted or any(
        waits_for(each.component.in_hand, wanted)
        for each in waiting
        if each.component and handling in each.within
    )


def copied(message: Any) -> dict[str, Any]:
    """Return a copy of a message, or refuse a value that is none."""
    if not isinstance(message, Mapping):
        raise TypeError("no mapping")
    if not isinstance(message.get("type"), str):
        raise ValueError("no str 'type'")
    return dict(message)


async def call(function: Any, *arguments: Any) -> Any:
    """Call a guard, an action or a factory; a stray cancellation becomes a failure."""
    try:
        result = function(*arguments)
        return await result if isawaitable(result) else result
    except anyio.get_cancelled_exc_class() as exc:
        if anyio.current_effective_deadline() == -math.inf:
            raise
        raise HandlerCancelled("it") from exc


class QuietBus(Plain):
    """A bus that never yields, so that nothing yields between a commit and its observers (C6)."""

    async def publish(self, event: Any, data: Any = None, **options: Any) -> Any:
        publishing = Publishing(event, data, options.get("on_error") == "raise")
        with self.announcement() if event == HANDLER_FAILED else contextlib.nullcontext():
            await self.sequential(publishing, self.audience(event))
        return self.results(publishing, self.audience(event))


class PlainComponent:
    """A component."""

    def __init__(self, name: str, *, machine: StateMachine | None = None) -> None:
        self._name = name
        self._machine = machine
        self._state = None if machine is None else machine.initial
        self.engine: PlainEngine | None = None
        self.in_hand: Handling | None = None
        self.line: list[Handling] = []
        self.deferred: list[Handling] = []

    @property
    def name(self) -> str:
        return self._name

    @property
    def machine(self) -> StateMachine | None:
        return self._machine

    @property
    def state(self) -> str | None:
        return self._state

    async def handle_message(self, message: Any) -> Outcome:
        return await self.take(copied(message), self.engine)

    # Turns.

    async def take(self, message: dict[str, Any], engine: Any) -> Outcome:
        """Handle a message in its turn, or defer it."""
        mine = Handling(message, live())
        if self.is_to_be_deferred(mine):
            self.defer(mine)
            return Outcome.DEFERRED
        self.line_up(mine)
        return await self.handle_in_turn(mine, engine)

    def is_to_be_deferred(self, mine: Handling) -> bool:
        return self.in_hand is not None and waits_for(self.in_hand, mine.within)

    def defer(self, mine: Handling) -> None:
        if self.engine is not None:
            mine.is_reporting = bool(self.engine.bus.announcing.get())
        self.deferred.append(mine)

    def line_up(self, mine: Handling) -> None:
        mine.component = self
        if self.in_hand is None:
            self.in_hand = mine
            mine.come.set()
        else:
            self.line.append(mine)
            waiting.append(mine)

    async def handle_in_turn(self, mine: Handling, engine: Any) -> Outcome:
        await self.turn_of(mine)
        try:
            if self.deferred:  # a cancelled send left some
                await self.handle_deferred()
                self.in_hand = mine
            if engine is not None and engine.published >= engine.yields_after:
                await self.let_others_run()
            if self.engine is not engine:
                raise UnknownComponent(self.name)
            return await self.handle_all(mine)
        finally:
            self.go_on()

    async def turn_of(self, mine: Handling) -> None:
        try:
            if not mine.come.is_set():
                await mine.come.wait()
        except BaseException:
            self.withdraw(mine)
            raise
        if mine.refusal is not None:
            raise mine.refusal

    def withdraw(self, mine: Handling) -> None:
        if self.in_hand is mine:
            self.go_on()
        elif mine in self.line:
            self.line.remove(mine)
            waiting.remove(mine)

    def go_on(self) -> None:
        """Give the turn to the next in line."""
        self.in_hand = None
        if self.line:
            self.in_hand = self.next()
            waiting.remove(self.in_hand)
            self.in_hand.come.set()

    def next(self) -> Handling:
        return self.line.pop(0)

    def leave(self) -> list[Handling]:
        """Refuse all waiting senders, and return what was deferred."""
        for each in self.line:
            waiting.remove(each)
            each.refuse(UnknownComponent(self.name))
        self.line.clear()
        left, self.deferred = self.deferred, []
        return left

    # The messages of one turn.

    async def handle_all(self, mine: Handling) -> Outcome:
        """Handle a message, and those deferred meanwhile."""
        try:
            outcome = await self.handle(mine)
        except Exception as exc:
            try:
                await self.handle_deferred()
            except BaseException:
                self.log_unraised(exc)
                raise
            raise
        await self.handle_deferred()
        return outcome

    def log_unraised(self, failure: Exception) -> None:
        """Log a failure that does not reach its sender, since it is cancelled."""
        logger.error("a message failed", exc_info=failure)

    async def handle_deferred(self) -> None:
        while self.deferred:
            await self.let_others_run()
            self.in_hand = mine = self.deferred.pop(0)
            with self.reporting(mine):
                try:
                    await self.handle(mine)
                except Exception as exc:
                    await self.deferred_failure(mine, exc)

    def reporting(self, mine: Handling) -> contextlib.AbstractContextManager[None]:
        """Return what marks its inside as within the report of a failure, if a message is."""
        if self.engine is None or not mine.is_reporting:
            return contextlib.nullcontext()
        announcement: contextlib.AbstractContextManager[None] = self.engine.bus.announcement()
        return announcement

    async def let_others_run(self) -> None:
        """Yield now and then (D6)."""
        await checkpoint_if_cancelled()
        if self.engine is not None and self.engine.published >= self.engine.yields_after:
            self.engine.published = 0
            await checkpoint()

    async def deferred_failure(self, mine: Handling, failure: Exception) -> None:
        if self.engine is not None:
            self.in_hand = Handling({}, ())
            with self.marked(self.in_hand):
                await self.engine.report(self.name, mine, failure)

    # One message.

    async def handle(self, mine: Handling) -> Outcome:
        with self.marked(mine):
            if not await self.is_wanted(mine):
                return Outcome.IGNORED
            await self.publish(MESSAGE_RECEIVED, message=self.shown(mine.message))
            row = await self.choose(mine.message)
            if row is None:
                return self.unmatched(mine.message)
            await self.act(row, mine.message)
            await self.finish(row)
            return Outcome.TRANSITIONED

    async def is_wanted(self, mine: Handling) -> bool:
        return True

    @contextlib.contextmanager
    def marked(self, mine: Handling) -> Iterator[None]:
        token = current.set((*live(), mine))
        try:
            yield
        finally:
            mine.is_over = True
            current.reset(token)

    def shown(self, message: dict[str, Any]) -> dict[str, Any]:
        """Return the message that observers get."""
        return dict(message)

    async def choose(self, message: dict[str, Any]) -> Transition | None:
        for row in self.candidates(message):
            if row.guard is None or await call(row.guard, message, self):
                return row
        return None

    def candidates(self, message: dict[str, Any]) -> tuple[Transition, ...]:
        if self.machine is None or self.state is None:
            return ()
        return self.machine.candidates(self.state, message["type"])

    def unmatched(self, message: dict[str, Any]) -> Outcome:
        if self.machine is not None and self.machine.strict:
            state, trigger = str(self.state), message["type"]
            raise TransitionRefused(self.name, state, trigger, self.machine.triggers(state))
        return Outcome.IGNORED

    async def act(self, row: Transition, message: dict[str, Any]) -> None:
        if row.action is not None:
            await call(row.action, message, self)

    async def finish(self, row: Transition) -> None:
        if row.target is not None:
            await self.commit(row.target)

    async def commit(self, target: str) -> None:
        from_state, self._state = self._state, target
        await self.changed(from_state, target)

    async def changed(self, from_state: str | None, to_state: str) -> None:
        await self.publish(STATE_CHANGED, from_state=from_state, to_state=to_state)

    async def publish(self, event: str, **data: object) -> None:
        if self.engine is not None:
            await self.engine.publish(event, {"component": self.name, **data})


class PlainEngine:
    """An engine."""

    yields_after = 61

    def __init__(self, *, bus: Any = None, component_factory: Any = None) -> None:
        self.bus = QuietBus() if bus is None else bus
        self.component_factory = component_factory
        self.published = 0
        self.hosted: dict[str, PlainComponent] = {}
        # The senders that wait for a component to be made or registered; the first one makes it.
        self.pending: dict[str, list[Handling]] = {}

    @property
    def components(self) -> Mapping[str, PlainComponent]:
        return MappingProxyType(self.hosted)

    async def publish(self, event: str, data: dict[str, Any]) -> None:
        self.published += 1
        await self.bus.publish(event, data, delivery="sequential", on_error="continue")

    async def report(self, name: str, mine: Handling, failure: Exception) -> None:
        self.log(name, mine, failure)
        if not self.bus.announcing.get():
            data = {"event_name": MESSAGE_RECEIVED, "component_name": name, "exception": failure}
            await self.publish(HANDLER_FAILED, data)

    def log(self, name: str, mine: Handling, failure: Exception) -> None:
        told = mine.message["type"], name, MESSAGE_RECEIVED
        logger.error("message %r of component %r failed on %r", *told, exc_info=failure)

    # Registering.

    async def register(self, component: Any) -> None:
        self.check(component)
        self.pending[component.name] = [Handling({}, ())]
        try:
            await checkpoint()
            await self.introduce(component)
        finally:
            self.made(component.name)

    def check(self, component: Any) -> None:
        if component.name in self.hosted or component.name in self.pending:
            raise DuplicateComponent(component.name)
        if component.engine is not None:
            raise ComponentError("registered already")

    async def introduce(self, component: Any) -> None:
        component.engine = self
        self.hosted[component.name] = component
        token = making.set((*making.get(), component.name))
        try:
            await self.tell_of(component)
        finally:
            making.reset(token)

    async def tell_of(self, component: Any) -> None:
        await self.publish(COMPONENT_REGISTERED, {"component": component.name})

    def made(self, name: str) -> None:
        """Let the waiting senders of a component go on, or make the next one ask."""
        _, *others = self.pending.pop(name, [None])
        if name in self.hosted:
            for each in others:
                self.hosted[name].line_up(each)  # type: ignore[arg-type]
        elif others:
            self.pending[name] = others  # type: ignore[assignment]
            others[0].come.set()  # type: ignore[union-attr]

    async def unregister(self, name: str) -> None:
        if name not in self.hosted:
            raise UnknownComponent(name, self.hosted)
        component = self.hosted.pop(name)
        component.engine = None
        self.end_subscriptions(name)
        for each in self.pending.pop(name, [])[1:]:
            each.refuse(UnknownComponent(name))
        for each in component.leave():
            await self.report(name, each, UnknownComponent(name))

    def end_subscriptions(self, name: str) -> None:
        self.bus.unsubscribe_all(name)

    # Sending.

    async def send(self, name: str, message: Any) -> Outcome:
        message = self.copied(message)
        is_within = self.is_made_by_caller(name)
        if name in self.hosted and (name not in self.pending or is_within):
            return await self.hosted[name].take(message, self)
        if is_within:
            raise ComponentError("asked for while it is made")
        return await self.wait_for(name, Handling(message, live()))

    def copied(self, message: Any) -> Any:
        return copied(message)

    def is_made_by_caller(self, name: str) -> bool:
        return name in making.get()

    async def wait_for(self, name: str, mine: Handling) -> Outcome:
        line = self.pending.setdefault(name, [])
        line.append(mine)
        if line[0] is not mine:
            try:
                await mine.come.wait()
            except BaseException:
                self.withdraw(name, mine)
                raise
        if mine.refusal is not None:
            raise mine.refusal
        if mine.component is None:
            await self.ask(name, mine)
        return await self.hosted[name].handle_in_turn(mine, self)

    def withdraw(self, name: str, mine: Handling) -> None:
        if mine.component is not None:
            mine.component.withdraw(mine)
        elif self.pending.get(name, [])[:1] == [mine]:
            self.made(name)
        elif mine in self.pending.get(name, []):
            self.pending[name].remove(mine)

    async def ask(self, name: str, mine: Handling) -> None:
        """Ask the factory for a component, and be the first in its line."""
        token = making.set((*making.get(), name))
        try:
            component = await self.make(name)
            await self.introduce(component)
        except Exception as exc:
            self.failed(name, exc)
            raise
        except BaseException:
            self.abandoned(name)
            raise
        finally:
            making.reset(token)
        if name not in self.hosted:
            raise UnknownComponent(name)
        component.line_up(mine)
        self.made(name)

    def failed(self, name: str, failure: Exception) -> None:
        for each in self.pending.pop(name, [])[1:]:
            each.refuse(failure)

    def abandoned(self, name: str) -> None:
        self.made(name)

    async def make(self, name: str) -> Any:
        component = None
        if self.component_factory is not None:
            component = await call(self.component_factory, name)
        if component is None:
            raise UnknownComponent(name, self.hosted)
        self.check_made(name, component)
        return component

    def check_made(self, name: str, component: Any) -> None:
        if component.name != name:
            raise ComponentError("of another name")
