"""FlexiFlow: an event bus for structured concurrency, the same on asyncio and on trio."""

from flexiflow import events
from flexiflow._actor import Outcome
from flexiflow._bus import EventBus
from flexiflow._component import Component, on
from flexiflow._engine import Engine
from flexiflow._errors import (
    ComponentError,
    DuplicateComponent,
    FlexiFlowError,
    HandlerCancelled,
    TransitionRefused,
    UnknownComponent,
)
from flexiflow._machine import StateMachine, Transition
from flexiflow._subscription import HandlerFailure, Subscription

__all__ = [
    "Component",
    "ComponentError",
    "DuplicateComponent",
    "Engine",
    "EventBus",
    "FlexiFlowError",
    "HandlerCancelled",
    "HandlerFailure",
    "Outcome",
    "StateMachine",
    "Subscription",
    "Transition",
    "TransitionRefused",
    "UnknownComponent",
    "events",
    "on",
]
