"""FlexiFlow: an event bus for structured concurrency, the same on asyncio and on trio."""

from typing import TYPE_CHECKING

from flexiflow import events
from flexiflow._actor import Outcome
from flexiflow._background import Background, BackgroundStatistics
from flexiflow._bus import EventBus
from flexiflow._component import Component, answers, on
from flexiflow._engine import Engine
from flexiflow._errors import (
    BufferFull,
    ComponentError,
    DuplicateAnswer,
    DuplicateComponent,
    EngineNotRunning,
    FlexiFlowError,
    HandlerCancelled,
    HandlerTimeout,
    LimitDeadlock,
    NoAnswer,
    PublishRefused,
    ReceiverClosed,
    StateConflict,
    StreamDeadlock,
    TransitionRefused,
    UnknownComponent,
    UnknownState,
)
from flexiflow._expectation import Expectation
from flexiflow._machine import StateMachine, Transition
from flexiflow._names import Event, Query, Topic
from flexiflow._states import State
from flexiflow._stream import EventStream, StreamStatistics
from flexiflow._subscription import HandlerFailure, Subscription

__all__ = [
    "Background",
    "BackgroundStatistics",
    "BufferFull",
    "Component",
    "ComponentError",
    "DuplicateAnswer",
    "DuplicateComponent",
    "Engine",
    "EngineNotRunning",
    "Event",
    "EventBus",
    "EventStream",
    "Expectation",
    "FlexiFlowError",
    "HandlerCancelled",
    "HandlerFailure",
    "HandlerTimeout",
    "LimitDeadlock",
    "NoAnswer",
    "Outcome",
    "PublishRefused",
    "Query",
    "ReceiverClosed",
    "State",
    "StateConflict",
    "StateMachine",
    "StreamDeadlock",
    "StreamStatistics",
    "Subscription",
    "Topic",
    "Transition",
    "TransitionRefused",
    "UnknownComponent",
    "UnknownState",
    "answers",
    "events",
    "on",
]

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(attribute: str) -> str:
        """Return `__version__`, which is looked up only here: importing FlexiFlow stays quick."""
        if attribute != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {attribute!r}")
        from importlib.metadata import version  # noqa: PLC0415

        return version(__name__)
