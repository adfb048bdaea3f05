"""FlexiFlow: an event bus for structured concurrency, the same on asyncio and on trio."""

from flexiflow import events
from flexiflow._actor import Outcome
from flexiflow._bus import EventBus
from flexiflow._component import Component, on
from flexiflow._engine import Engine
from flexiflow._errors import (
    BufferFull,
    ComponentError,
    DuplicateComponent,
    FlexiFlowError,
    HandlerCancelled,
    HandlerTimeout,
    LimitDeadlock,
    PublishRefused,
    ReceiverClosed,
    StreamDeadlock,
    TransitionRefused,
    UnknownComponent,
)
from flexiflow._expectation import Expectation
from flexiflow._machine import StateMachine, Transition
from flexiflow._names import Event, Topic
from flexiflow._stream import EventStream, StreamStatistics
from flexiflow._subscription import HandlerFailure, Subscription

__all__ = [
    "BufferFull",
    "Component",
    "ComponentError",
    "DuplicateComponent",
    "Engine",
    "Event",
    "EventBus",
    "EventStream",
    "Expectation",
    "FlexiFlowError",
    "HandlerCancelled",
    "HandlerFailure",
    "HandlerTimeout",
    "LimitDeadlock",
    "Outcome",
    "PublishRefused",
    "ReceiverClosed",
    "StateMachine",
    "StreamDeadlock",
    "StreamStatistics",
    "Subscription",
    "Topic",
    "Transition",
    "TransitionRefused",
    "UnknownComponent",
    "events",
    "on",
]
