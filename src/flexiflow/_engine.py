"""The engine hosts components under their names, delivers messages, and makes missing components.

While a component is being registered or made, those who send to its name wait in an `Admission`
(`_admission`). Afterwards they move on to the component's mailbox (C1, C2).

With a store, a component that is registered or made first gets what is stored of it (K4). With
`max_components`, those that the factory has made are unloaded when there are more (`_residents`).
Timers and work run in `running()` (`_running`, `_lifecycle`).
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import reprlib
from collections.abc import Awaitable, Callable
from itertools import repeat
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

from anyio.lowlevel import checkpoint

from flexiflow._actor import copy_message
from flexiflow._admission import Admission
from flexiflow._arguments import check_int, make_answer_terms, make_terms
from flexiflow._bus import EventBus, dispatcher_of
from flexiflow._callables import check_callable, describe
from flexiflow._component import Component, actor_of, handlers_of
from flexiflow._delivery.verdict import attempt
from flexiflow._errors import (
    ComponentError,
    DuplicateAnswer,
    DuplicateComponent,
    UnknownComponent,
)
from flexiflow._hosting import Hosting
from flexiflow._names import check_component_name
from flexiflow._objects import refuse_copying
from flexiflow._text import counted, show
from flexiflow.events import COMPONENT_REGISTERED

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from contextlib import AbstractAsyncContextManager

    from flexiflow._actor import Actor, Outcome
    from flexiflow._component import Mark
    from flexiflow._registry import Registry
    from flexiflow._residents import Residents
    from flexiflow._stores import StateStore, Stored
    from flexiflow._subscription import Handler
    from flexiflow._turns import Turn
    from flexiflow.events import ComponentRegistered

_STORE_METHODS: Final = ("load", "save", "due", "delete")

ComponentFactory: TypeAlias = Callable[[str], Component | Awaitable[Component | None] | None]
"""Takes a name, and returns a component of that name or None; sync or async (C2)."""


@final
class Engine:
    """Hosts components, each under its name, and delivers messages to them.

    Args:
        bus: where its components subscribe and publish; None for a new bus.
        component_factory: makes a component when a message is sent to a name that is not
            registered (C2).
        store: where the states of the components are kept, as a `SqliteStateStore` does (K2 to K4);
            None for nowhere.
        max_components: how many of the components that the factory has made stay in memory, 1 or
            more, unless more are busy (K5); None for all.

    Raises:
        TypeError: `bus` is not an `EventBus`, the factory can't be called with a name, or the store
            lacks a method.
        ValueError: `max_components` is not an int of 1 or more, or there is no store or no factory
            for it.

    Example:
        >>> import anyio
        >>> from flexiflow import Component, Engine, StateMachine, Transition
        >>> MACHINE = StateMachine("placed", [Transition("placed", "pay", "paid")])
        >>> async def main():
        ...     engine, order = Engine(), Component("order-7", machine=MACHINE)
        ...     await engine.register(order)
        ...     await engine.send("order-7", {"type": "pay"})
        ...     print(order.state)
        >>> anyio.run(main)
        paid
    """

    __slots__ = (
        "_bus",
        "_components",
        "_dispatcher",
        "_factory",
        "_hosting",
        "_pending",
        "_residents",
        "_view",
    )

    __reduce_ex__ = refuse_copying

    def __init__(
        self,
        *,
        bus: EventBus | None = None,
        component_factory: ComponentFactory | None = None,
        store: StateStore | None = None,
        max_components: int | None = None,
    ) -> None:
        if not (bus is None or isinstance(bus, EventBus)):
            raise TypeError(f"bus must be an EventBus or None, not {reprlib.repr(bus)}")
        if component_factory is not None:
            check_callable("component_factory", component_factory, 1)
        if store is not None:
            _check_store(store)
        if max_components is not None:
            check_int("max_components", max_components, "1 or more", least=1)
            if store is None or component_factory is None:
                raise ValueError(
                    f"max_components={max_components} needs a store, and a component_factory that "
                    "makes the components again; give both, or no max_components"
                )
        self._bus = EventBus() if bus is None else bus
        self._dispatcher = dispatcher_of(self._bus)
        self._factory = component_factory
        self._components: dict[str, Component] = {}
        self._view = MappingProxyType(self._components)
        # By name: the admissions of the components that are being made or registered.
        self._pending: dict[str, Admission] = {}
        self._hosting = Hosting(store)
        self._residents: Residents | None = None
        if max_components is not None:
            from flexiflow._residents import Residents  # noqa: PLC0415  as in `running`

            self._residents = Residents(max_components, self._unload)
            self._hosting.rest = self._residents.rest

    @property
    def bus(self) -> EventBus:
        """The bus that its components subscribe to and publish on."""
        return self._bus

    @property
    def components(self) -> Mapping[str, Component]:
        """The registered components by name, as a read-only view."""
        return self._view

    def __repr__(self) -> str:
        """Show how many components there are."""
        making = f", {len(self._pending)} in the making" if self._pending else ""
        return f"<Engine: {counted(len(self._components), 'component')}{making}>"

    def running(self) -> AbstractAsyncContextManager[None]:
        """Return an async context manager in which timers and work of states run (M2 to M4).

        On entry it opens the store, and begins the work and timers of the components' current
        states. In the block it loads components whose stored time comes (M2), if there is a
        factory; the work, and the messages of timers, are handled in its tasks and its context.
        Leaving it cancels all work and waits for its end; states stay as they are. An engine can
        run several times, one after another.

        Raises:
            RuntimeError: on entry, if the engine is running already.
        """
        # Imported where it is used: importing FlexiFlow is to stay quick.
        from flexiflow._running import Running  # noqa: PLC0415

        load = None if self._factory is None else self._load_due
        return Running(self._hosting, self._components, load, self._dispatcher)

    async def register(self, component: Component) -> None:
        """Register a component: take its name, subscribe its handlers, then publish its event (C1).

        This is a checkpoint. If it is cancelled before the event is published, nothing is
        registered. With a store, the component first gets what is stored under its name (K4).

        Raises:
            TypeError: `component` is not a `Component`, or has a method marked with `on` or
                `answers` that can't be a handler.
            DuplicateComponent: the name is taken.
            DuplicateAnswer: it answers a query that has an answerer already (A2).
            ComponentError: the component is registered already, with this engine or another one.
            UnknownState: its machine does not have the stored state (K4).
            Exception: the store failed, or `restore`.
        """
        if not isinstance(component, Component):
            raise TypeError(_no_component(component))
        actor = actor_of(component)
        name = actor.name
        if name in self._components or name in self._pending:
            raise DuplicateComponent(name)
        _check(component, actor, self._dispatcher.registry)
        admission = Admission(name, self._pending)
        try:
            with admission.join():
                await checkpoint()
                self._enter(component, actor, await self._hosting.load(name))
                await self._announce(component, actor)
        finally:
            self._conclude(name, admission)

    async def unregister(self, name: str) -> None:
        """Unregister a component and end all subscriptions under its name, at once (C1).

        The handling of the message in hand goes on to its end. Waiting senders get
        `UnknownComponent`; deferred messages are reported as failures, with that exception. Its
        work is cancelled, and awaited, unless this is called from within it (M3). What is stored
        stays (K4).

        Raises:
            UnknownComponent: no component has that name.
        """
        component = self._components.pop(check_component_name(name), None)
        if component is None:
            raise UnknownComponent(name, self._components)
        actor = actor_of(component)
        actor.host = actor.dispatcher = None
        work = None if actor.life is None else actor.life.leave(actor)
        if self._residents is not None:
            self._residents.discard(actor)
        self._bus.unsubscribe_all(name)
        if (admission := self._pending.get(name)) is not None:
            admission.refuse(lambda: UnknownComponent(name))
        actor.mailbox.refuse(lambda: UnknownComponent(name))
        await actor.report_deferred(self._dispatcher)
        if work is not None and not work.is_around:
            await work.end()

    async def send(self, name: str, message: Mapping[str, Any]) -> Outcome:
        """Send a message to a component, and wait until it has been handled or deferred (C2 to C6).

        Args:
            name: the component's name.
            message: a mapping with a str `type`; copied one level deep when it is sent.

        Returns:
            What became of the message.

        Raises:
            TypeError: the message is not a mapping, or the name is not a str.
            ValueError: the message has no str `type`, or the name is empty.
            UnknownComponent: no component has that name, and no factory made one.
            ComponentError: the factory returned something else, or asked for the same name.
            TransitionRefused: a strict machine has no transition for the message (C8).
            EngineNotRunning: the message would enter a state with a timer or work, outside of
                `running` (M4).
            StateConflict: another engine has saved the component meanwhile (K3).
            UnknownState: the machine does not have the stored state (K4).
            Exception: what the factory, a guard, an action or the store raised.
        """
        copied = copy_message(message)
        try:
            component = self._components.get(name)
        except TypeError:
            component = None
        if component is None:
            check_component_name(name)
        turn = None
        if component is None or name in self._pending:
            component, turn = await self._find(name)
        # Not by `actor_of`, whose call would be 1.6 % of a message: a registered component has one.
        return await component._flexiflow_actor.handle(component, copied, self, turn)

    def _find(self, name: str) -> Coroutine[Any, Any, tuple[Component, Turn]]:
        """Make a component, or wait for it in its admission, if there is one.

        Returns:
            The component, and a turn in its mailbox.
        """
        admission = self._pending.get(name)
        if admission is not None:
            return self._wait_for(name, admission)
        admission = Admission(name, self._pending)
        return self._admit(name, admission, admission.join())

    async def _wait_for(self, name: str, admission: Admission) -> tuple[Component, Turn]:
        turn = admission.join()
        has_come = await admission.wait(turn)
        if has_come and admission.is_making:
            return await self._admit(name, admission, turn)
        component = self._components.get(name)
        if not has_come:
            # What makes the component must not wait for it. An observer of its registration need
            # not wait: the component is there.
            if component is None:
                raise ComponentError(
                    f"component {show(name)} is asked for while it is being made, by what makes it"
                )
            return component, actor_of(component).mailbox.join()
        if component is None or actor_of(component).mailbox is not turn.line:
            turn.end()
            raise UnknownComponent(name)
        return component, turn

    async def _admit(self, name: str, admission: Admission, turn: Turn) -> tuple[Component, Turn]:
        """Make and register a component, for this sender and then for the others in line."""
        try:
            with turn:
                stored = made = None
                if self._factory is not None:
                    stored = await self._hosting.load(name)
                    made = await attempt(self._factory, name)
                component, actor = self._check_made(made, name)
                self._enter(component, actor, stored)
                if self._residents is not None:
                    self._residents.add(actor)
                if self._residents is None or stored is None:
                    await self._announce(component, actor)
                else:
                    # Loading is no registration where components come and go (K5).
                    self._begin(component, actor)
        except BaseException as exc:
            if isinstance(exc, Exception):
                admission.refuse(repeat(exc).__next__)
            self._conclude(name, admission)
            if (registered := self._components.get(name)) is not None:
                # An observer was cancelled: the component is there, and nobody sends to it.
                self._rest(registered)
            raise
        if component is not self._components.get(name):
            # An observer has unregistered it, which refused all who waited in line.
            raise UnknownComponent(name)
        own = actor.mailbox.join()
        admission.conclude(actor.mailbox)
        return component, own

    def _check_made(self, component: object, name: str) -> tuple[Component, Actor]:
        """Return what the factory has returned, if that is a component of that name."""
        if component is None:
            raise UnknownComponent(name, self._components)
        if not isinstance(component, Component):
            given = reprlib.repr(component)
            raise ComponentError(
                f"component_factory must give a Component or None for {show(name)}, not {given}"
            )
        actor = actor_of(component)
        if actor.name != name:
            raise ComponentError(
                f"component_factory was asked for {show(name)} and gave {component!r}"
            )
        return component, actor

    async def _load_due(self, name: str) -> None:
        """Load a component whose stored time has come."""
        if name not in self._components and name not in self._pending:
            component, turn = await self._find(name)
            turn.end()
            self._rest(component)

    def _rest(self, component: Component) -> None:
        """Note that a component was loaded, and has no message (K5)."""
        if self._residents is not None:
            self._residents.rest(actor_of(component))

    def _unload(self, actor: Actor) -> bool:
        """Forget a component that can be loaded again, unless it is needed; publish nothing (K5).

        Returns:
            Whether it was forgotten.
        """
        name, life = actor.name, actor.life
        if (
            life is None
            or not (life.is_idle and actor.mailbox.is_idle)
            or name in self._pending
            or self._dispatcher.registry.has_any(name)
        ):
            return False
        del self._components[name]
        actor.host = actor.dispatcher = None
        life.leave(actor)
        life.is_unloaded = True
        return True

    def _enter(self, component: Component, actor: Actor, stored: Stored | None) -> None:
        """Register a component and its handlers in one step, after it got what is stored (K4)."""
        bus, hosting = self._dispatcher, self._hosting
        handlers = _check(component, actor, bus.registry)
        if hosting.store is not None:
            actor.give_life().adopt(actor, component, stored)
        actor.host, actor.dispatcher = self, bus
        if actor.life is not None:
            actor.life.hosting, actor.life.is_unloaded = hosting, False
        self._components[actor.name] = component
        _subscribe(handlers, actor.name, bus.registry)

    async def _announce(self, component: Component, actor: Actor) -> None:
        """Publish that a component is registered; then begin what its state does."""
        bus = self._dispatcher
        try:
            if (route := bus.listeners(COMPONENT_REGISTERED)) is not None:
                registered: ComponentRegistered = {"component": actor.name}
                await bus.deliver(route, registered)
        finally:
            self._begin(component, actor)

    def _begin(self, component: Component, actor: Actor) -> None:
        """Begin the timer and the work of a component's state, if it is still registered."""
        if actor.host is self and actor.life is not None:
            actor.life.begin(actor, component)

    def _conclude(self, name: str, admission: Admission) -> None:
        component = self._components.get(name)
        admission.conclude(None if component is None else actor_of(component).mailbox)


def _check(component: Component, actor: Actor, registry: Registry) -> list[tuple[Mark, Handler]]:
    """Check that a component may be registered, and return its handlers and answerers.

    Raises:
        ComponentError: the component is registered already.
        DuplicateAnswer: it answers a query that has an answerer, or answers it twice (A2).
        TypeError: a method marked with `on` or `answers` can't be a handler.
    """
    if actor.host is not None:
        raise ComponentError(
            f"{component!r} is registered already; a component belongs to at most one engine"
        )
    handlers = handlers_of(component)
    answerers: dict[str, Handler] = {}
    for mark, handler in handlers:
        if "query" in mark:
            query = registry.check_unanswered(mark["query"])
            if query in answerers:
                methods = describe(answerers[query]), describe(handler)
                raise DuplicateAnswer(query, actor.name, *methods)
            answerers[query] = handler
    return handlers


def _subscribe(handlers: list[tuple[Mark, Handler]], name: str, registry: Registry) -> None:
    """Subscribe the handlers and answerers of a component."""
    for mark, handler in handlers:
        time_limit, limit = mark["time_limit"], mark["limit"]
        if "query" in mark:
            terms = make_answer_terms(time_limit=time_limit, limit=limit)
            registry.create_answerer(mark["query"], name, handler, terms)
        else:
            registry.create(
                mark["event"],
                name,
                handler,
                priority=mark["priority"],
                filter=mark["filter"],
                once=mark["once"],
                terms=make_terms(time_limit=time_limit, limit=limit, around=mark["around"]),
            )


def store_of(engine: Engine) -> StateStore | None:
    """Return where an engine keeps the states of its components, or None."""
    return engine._hosting.store


async def ask_for(engine: Engine, name: str) -> Component:
    """Return a component, which is made if it is not there, as for a message (C2).

    Raises:
        Exception: as `Engine.send` says, except for what a message itself may raise.
    """
    await engine._load_due(name)
    return engine._components[name]


async def sample(engine: Engine, name: str) -> Component:
    """Return a component to look at: as `ask_for`, but the engine has no store from then on.

    Raises:
        Exception: as `ask_for`, except for what a store raises.
    """
    engine._hosting.use(None)
    return await ask_for(engine, name)


async def keep_in(engine: Engine, store: StateStore) -> None:
    """Give a store to an engine that has none; its components get what is stored of them.

    For the command line; elsewhere `Engine(store=...)` says it.

    Raises:
        Exception: as `Engine.register` says; then the engine has no store.
    """
    engine._hosting.use(store)
    try:
        for component in [*engine._components.values()]:
            actor = actor_of(component)
            life = actor.give_life()
            life.adopt(actor, component, await engine._hosting.load(actor.name))
            life.hosting = engine._hosting
    except BaseException:
        engine._hosting.use(None)
        raise


def _check_store(given: object) -> None:
    # A protocol that can be checked at run time would be imported with FlexiFlow.
    lacks = [name for name in _STORE_METHODS if not callable(getattr(given, name, None))]
    if isinstance(given, type) or lacks:
        raise TypeError(
            "store must have the methods load, save, due and delete of a StateStore, as "
            f"SqliteStateStore('state.db') has, not {reprlib.repr(given)}"
        )


def _no_component(given: object) -> str:
    message = f"register takes a Component, not {reprlib.repr(given)}"
    if isinstance(given, type) and issubclass(given, Component):
        name = given.__name__
        message += f": make one first, as in register({name}('a-name'))"
    return message
