"""The built-in events: their names, and the shapes of their payloads.

A name begins with what the event is about: the engine, a component, a state, or another event.
Each payload is a plain dict with the shape of its TypedDict. The events are published with
`on_error="continue"`, so a failing observer never changes what it observes.
"""

# Without the import of `annotations` from `__future__`: typing would compile each annotation anew.
from typing import Any, Final, TypedDict

COMPONENT_REGISTERED: Final = "engine.component.registered"
"""A component was registered; the payload is a `ComponentRegistered`."""

MESSAGE_RECEIVED: Final = "component.message.received"
"""A component is about to handle a message; the payload is a `MessageReceived`."""

STATE_CHANGED: Final = "state.changed"
"""A transition was committed; the payload is a `StateChanged`."""

HANDLER_FAILED: Final = "event.handler.failed"
"""A failure was reported; the payload is a `HandlerFailed`."""

BUILT_IN: Final = frozenset({COMPONENT_REGISTERED, MESSAGE_RECEIVED, STATE_CHANGED, HANDLER_FAILED})
"""The names of all built-in events."""


class ComponentRegistered(TypedDict):
    """Payload of `engine.component.registered`.

    Attributes:
        component: the component's name.

    Example:
        >>> import anyio
        >>> from flexiflow import Component, Engine, events
        >>> async def main():
        ...     engine = Engine()
        ...     await engine.bus.subscribe(events.COMPONENT_REGISTERED, "log", print)
        ...     await engine.register(Component("mail"))
        >>> anyio.run(main)
        {'component': 'mail'}
    """

    component: str


class MessageReceived(TypedDict):
    """Payload of `component.message.received`.

    Attributes:
        component: the component's name.
        message: the observers' own shallow copy of the message (C10).

    Example:
        >>> import anyio
        >>> from flexiflow import Component, Engine, events
        >>> async def main():
        ...     engine = Engine()
        ...     await engine.bus.subscribe(events.MESSAGE_RECEIVED, "log", print)
        ...     await engine.register(Component("mail"))
        ...     await engine.send("mail", {"type": "open"})
        >>> anyio.run(main)
        {'component': 'mail', 'message': {'type': 'open'}}
    """

    component: str
    message: dict[str, Any]


class StateChanged(TypedDict):
    """Payload of `state.changed`.

    Attributes:
        component: the component's name.
        from_state: its state at the time of the transition.
        to_state: the state that was committed.

    Example:
        >>> import anyio
        >>> from flexiflow import Component, Engine, StateMachine, Transition, events
        >>> MACHINE = StateMachine("placed", [Transition("placed", "pay", "paid")])
        >>> async def main():
        ...     engine = Engine()
        ...     await engine.bus.subscribe(events.STATE_CHANGED, "log", print)
        ...     await engine.register(Component("A7", machine=MACHINE))
        ...     await engine.send("A7", {"type": "pay"})
        >>> anyio.run(main)
        {'component': 'A7', 'from_state': 'placed', 'to_state': 'paid'}
    """

    component: str
    from_state: str
    to_state: str


class HandlerFailed(TypedDict):
    """Payload of `event.handler.failed`.

    Attributes:
        event_name: the event whose handler failed.
        component_name: the subscription's owner, or the component whose message failed (C4).
        exception: the exception object itself.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus, events
        >>> async def main():
        ...     bus = EventBus()
        ...     await bus.subscribe("order.placed", "billing", lambda order: 1 / 0)
        ...     await bus.subscribe(events.HANDLER_FAILED, "log", lambda it: print(it["exception"]))
        ...     await bus.publish("order.placed", "A7")
        >>> anyio.run(main)
        division by zero
    """

    event_name: str
    component_name: str
    exception: Exception
