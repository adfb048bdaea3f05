"""Prove handlers, components and buses right: under every schedule, cancelled everywhere."""

from flexiflow.testing._check import (
    ContractViolation,
    check_bus,
    check_component,
    check_transport,
)
from flexiflow.testing._explore import Exploration, explore, replay
from flexiflow.testing._failures import (
    CancellationFailure,
    CheckpointMissed,
    ScenarioStuck,
    ScheduleFailure,
    TasksLeft,
)
from flexiflow.testing._record import Recorded, RecordedEvent, record
from flexiflow.testing._sweep import cancel_everywhere

__all__ = [
    "CancellationFailure",
    "CheckpointMissed",
    "ContractViolation",
    "Exploration",
    "Recorded",
    "RecordedEvent",
    "ScenarioStuck",
    "ScheduleFailure",
    "TasksLeft",
    "cancel_everywhere",
    "check_bus",
    "check_component",
    "check_transport",
    "explore",
    "record",
    "replay",
]
