"""Testing tools: explore schedules, cancel at every checkpoint, check a contract, record events.

`explore` and `replay` run a scenario under chosen task schedules (P2), and tell the `Story` of one
that fails (P8). `cancel_everywhere` cancels it at each checkpoint (P3). `crash_everywhere` kills
the processes of a durable scenario at each checkpoint (P7). `check_bus`, `check_component`,
`check_transport` and `check_store` try to break the clauses of the contract (P1), and
`check_machine` claims about a machine of one's own (P6). `record` collects the events of a bus
(P4).
"""

from flexiflow.testing._check import (
    check_bus,
    check_component,
    check_machine,
    check_store,
    check_transport,
)
from flexiflow.testing._crashing.everywhere import crash_everywhere
from flexiflow.testing._crashing.failures import Crashes, CrashFailure, HandledAgain, WorkerFailed
from flexiflow.testing._examiner.violation import ContractViolation
from flexiflow.testing._machine.report import CoveredTransition, LeadsTo, MachineReport
from flexiflow.testing._record import Recorded, RecordedEvent, record
from flexiflow.testing._scheduling.explore import Exploration, explore, replay
from flexiflow.testing._scheduling.failures import (
    CancellationFailure,
    CheckpointMissed,
    ScenarioStuck,
    ScheduleFailure,
    TasksLeft,
)
from flexiflow.testing._scheduling.story import Place, Story, Turn
from flexiflow.testing._scheduling.sweep import cancel_everywhere

__all__ = [
    "CancellationFailure",
    "CheckpointMissed",
    "ContractViolation",
    "CoveredTransition",
    "CrashFailure",
    "Crashes",
    "Exploration",
    "HandledAgain",
    "LeadsTo",
    "MachineReport",
    "Place",
    "Recorded",
    "RecordedEvent",
    "ScenarioStuck",
    "ScheduleFailure",
    "Story",
    "TasksLeft",
    "Turn",
    "WorkerFailed",
    "cancel_everywhere",
    "check_bus",
    "check_component",
    "check_machine",
    "check_store",
    "check_transport",
    "crash_everywhere",
    "explore",
    "record",
    "replay",
]
