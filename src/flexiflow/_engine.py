"""The engine: hosts components under their names, and makes them when they are asked for."""

from __future__ import annotations

import reprlib
from collections.abc import Awaitable, Callable
from itertools import repeat
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias, final

from anyio.lowlevel import checkpoint

from flexiflow._actor import copy_message
from flexiflow._arguments import make_terms
from flexiflow._bus import EventBus, emit, listeners, subscribe_now
from flexiflow._callables import check_callable
from flexiflow._cancellation import attempt
from flexiflow._component import Component, actor_of, handlers_of
from flexiflow._errors import ComponentError, DuplicateComponent, UnknownComponent
from flexiflow._mailbox import Mailbox
from flexiflow._names import check_component_name
from flexiflow._showing import show
from flexiflow._uncopied import refuse_copying
from flexiflow.events import COMPONENT_REGISTERED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flexiflow._actor import Outcome
    from flexiflow._component import On
    from flexiflow._mailbox import Turn
    from flexiflow._subscription import Handler
    from flexiflow.events import ComponentRegistered

ComponentFactory: TypeAlias = Callable[[str], Component | Awaitable[Component | None] | None]
"""Takes a name and gives a component of that name, or None; sync or async (C2)."""


@final
class Engine:
    """Hosts components, each under its name, and delivers messages to them.

    Args:
        bus: where its components subscribe and publish; a new one where none is given.
        component_factory: asked for a component that is sent a message but isn't registered (C2).

    Raises:
        TypeError: `bus` is no `EventBus`; the factory can't be called with a name.
    """

    __slots__ = ("_bus", "_components", "_factory", "_pending", "_view")

    __reduce_ex__ = refuse_copying

    def __init__(
        self, *, bus: EventBus | None = None, component_factory: ComponentFactory | None = None
    ) -> None:
        if not (bus is None or isinstance(bus, EventBus)):
            raise TypeError(f"bus must be an EventBus or None, not {reprlib.repr(bus)}")
        if component_factory is not None:
            check_callable("component_factory", component_factory, 1)
        self._bus = EventBus() if bus is None else bus
        self._factory = component_factory
        self._components: dict[str, Component] = {}
        self._view = MappingProxyType(self._components)
        # Where those wait who ask for a component that is being made or registered.
        self._pending: dict[str, Mailbox] = {}

    @property
    def bus(self) -> EventBus:
        """Where its components subscribe and publish."""
        return self._bus

    @property
    def components(self) -> Mapping[str, Component]:
        """The registered components by name; a read-only view."""
        return self._view

    async def register(self, component: Component) -> None:
        """Register a component: its name, its handlers, then its event; a checkpoint (C1).

        Cancelled before its event is published, nothing is registered.

        Raises:
            TypeError: no `Component`, or one with a method marked `on` that can't be a handler.
            DuplicateComponent: the name is taken.
            ComponentError: the component is registered already, here or elsewhere.
        """
        if not isinstance(component, Component):
            raise TypeError(_no_component(component))
        name = actor_of(component).name
        if name in self._components or name in self._pending:
            raise DuplicateComponent(name)
        _check(component)
        line = self._pending[name] = Mailbox()
        try:
            with line.join():
                await checkpoint()
                await self._introduce(component)
        finally:
            self._go_on(name, line)

    async def unregister(self, name: str) -> None:
        """Unregister a component and end all subscriptions under its name, at once (C1).

        The message in hand finishes; waiting senders get `UnknownComponent`, and deferred
        messages are reported with it.

        Raises:
            UnknownComponent: no component has that name.
        """
        component = self._components.pop(check_component_name(name), None)
        if component is None:
            raise UnknownComponent(name, self._components)
        actor = actor_of(component)
        actor.host = actor.bus = None
        self._bus.unsubscribe_all(name)
        if (line := self._pending.pop(name, None)) is not None:
            line.refuse(lambda: UnknownComponent(name))
        actor.mailbox.refuse(lambda: UnknownComponent(name))
        await actor.report_deferred(self._bus)

    async def send(self, name: str, message: Mapping[str, Any]) -> Outcome:
        """Send a message to a component, and wait until it was handled or deferred (C2 to C6).

        Args:
            name: the component's name.
            message: has a str `type`; copied, one level, when it is sent.

        Returns:
            What became of it.

        Raises:
            TypeError: no mapping, or a name that is no str.
            ValueError: no str `type`, or an empty name.
            UnknownComponent: no component has that name, and no factory gave one.
            ComponentError: the factory gave something else, or asked for the name itself.
            TransitionRefused: a strict machine has no transition for it (C8).
            Exception: what the factory, a guard or an action raised.
        """
        copied = copy_message(message)
        try:
            component = self._components[name]
        except (KeyError, TypeError):
            component = None
            check_component_name(name)
        turn = None
        if component is None or name in self._pending:
            component, turn = await self._wait_for(name)
        return await actor_of(component).handle(component, copied, self, turn)

    async def _wait_for(self, name: str) -> tuple[Component, Turn]:
        """Wait in line for a component, and make it where one is the first."""
        line = self._pending.setdefault(name, Mailbox())
        turn = line.join()
        try:
            granted = await turn.granted()
        except BaseException:
            self._close(name, line)
            raise
        if granted and turn.mailbox is line:
            return await self._ask(name, line, turn)
        component = self._components.get(name)
        if not granted:
            # One who makes the component must not wait for it; one who observes its
            # registration need not, since it is there.
            if component is None:
                raise ComponentError(
                    f"component {show(name)} is asked for while it is being made, by what makes it"
                )
            return component, actor_of(component).mailbox.join()
        if component is None or actor_of(component).mailbox is not turn.mailbox:
            turn.end()
            raise UnknownComponent(name)
        return component, turn

    async def _ask(self, name: str, line: Mailbox, turn: Turn) -> tuple[Component, Turn]:
        """Make and register a component for all who wait in `line`, oneself first."""
        try:
            with turn:
                component = await self._make(name)
                await self._introduce(component)
        except BaseException as exc:
            if isinstance(exc, Exception):
                line.refuse(repeat(exc).__next__)
            self._go_on(name, line)
            raise
        if self._components.get(name) is not component:
            # Unregistered by an observer, and with it all who waited in line.
            raise UnknownComponent(name)
        own = actor_of(component).mailbox.join()
        self._go_on(name, line)
        return component, own

    async def _make(self, name: str) -> Component:
        component = None if self._factory is None else await attempt(self._factory, name)
        if component is None:
            raise UnknownComponent(name, self._components)
        if not isinstance(component, Component):
            given = reprlib.repr(component)
            raise ComponentError(
                f"component_factory must give a Component or None for {show(name)}, not {given}"
            )
        if actor_of(component).name != name:
            raise ComponentError(
                f"component_factory was asked for {show(name)} and gave {component!r}"
            )
        return component

    async def _introduce(self, component: Component) -> None:
        """Register a component, all at once, and tell of it."""
        handlers = _check(component)
        actor = actor_of(component)
        actor.host, actor.bus = self, self._bus
        self._components[actor.name] = component
        for mark, handler in handlers:
            subscribe_now(
                self._bus,
                mark.event,
                actor.name,
                handler,
                priority=mark.priority,
                filter=mark.filter,
                once=mark.once,
                terms=make_terms(time_limit=mark.time_limit, limit=mark.limit),
            )
        if (route := listeners(self._bus, COMPONENT_REGISTERED)) is not None:
            registered: ComponentRegistered = {"component": actor.name}
            await emit(self._bus, route, registered)

    def _go_on(self, name: str, line: Mailbox) -> None:
        """Let those who wait in `line` go on: to the component, or the next one asks again."""
        component = self._components.get(name)
        if component is None:
            line.pass_on()
        else:
            actor_of(component).mailbox.adopt(line)
        self._close(name, line)

    def _close(self, name: str, line: Mailbox) -> None:
        """Forget a line in which nobody is left."""
        if line.holder is None and self._pending.get(name) is line:
            del self._pending[name]


def _check(component: Component) -> list[tuple[On, Handler]]:
    """Return the handlers of a component that may be registered."""
    if actor_of(component).host is not None:
        raise ComponentError(
            f"{component!r} is registered already; a component belongs to at most one engine"
        )
    return list(handlers_of(component))


def _no_component(given: object) -> str:
    message = f"register takes a Component, not {reprlib.repr(given)}"
    if isinstance(given, type) and issubclass(given, Component):
        name = given.__name__
        message += f": make one first, as in register({name}('a-name'))"
    return message
