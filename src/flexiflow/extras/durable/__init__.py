"""Durable delivery: stored events outlive the process and reach other processes (X1 to Y6).

`open_bridge` connects a bus with a transport. The protocols `Transport`, `Connection` and `Lease`
say what a bridge asks of a transport; in memory, in an SQLite file and on a Redis server there is
one each. An `Outbox` stores events in the user's own transactions, and `first_time` recognises in
such transactions what was handled before (Y4). How an event passes is told in the modules of
`Bridge`, `Worker` and `Intake`; the words that all transports share (record, lease, pending,
waiting) are explained in the one of `Transport`.

The bridge and each transport have a package: `_bridge`, `_memory`, `_sqlite` and `_redis`. None of
them imports another; what they share is in the modules beside them. The outbox has one, too,
`_outbox`, above that of the bridge.
"""

from flexiflow.extras.durable._bridge.bridge import Bridge
from flexiflow.extras.durable._bridge.cloudevents import JSON, Codec
from flexiflow.extras.durable._bridge.held import CurrentDelivery, current_delivery
from flexiflow.extras.durable._bridge.opening import open_bridge
from flexiflow.extras.durable._bridge.place import BridgeStatus
from flexiflow.extras.durable._bridge.relaying import OutboxFile
from flexiflow.extras.durable._bridge.schemas import Schema
from flexiflow.extras.durable._bridge.statistics import BridgeStatistics
from flexiflow.extras.durable._errors import (
    BridgeClosed,
    ConsumerInUse,
    EventTooLarge,
    GroupMismatch,
    LeaseLost,
    LogFull,
    NewerVersion,
    NotDecodable,
    NotEncodable,
    NotReplicated,
    ScheduleFull,
    StartTrimmed,
    TooDeep,
    TransportError,
    TransportUnavailable,
    TransportUnusable,
    WorkersDied,
)
from flexiflow.extras.durable._lease import Lease
from flexiflow.extras.durable._memory.transport import MemoryTransport
from flexiflow.extras.durable._outbox.inbox import first_time
from flexiflow.extras.durable._outbox.outbox import Outbox
from flexiflow.extras.durable._outcomes import (
    Acknowledged,
    Buried,
    Followed,
    Noted,
    Outcome,
    Postponed,
    Returned,
    Settled,
)
from flexiflow.extras.durable._records import (
    Batch,
    DeadLetter,
    Delivery,
    Failure,
    Member,
    Record,
    Replayed,
    Room,
    ScheduledRecord,
    Start,
    Stored,
)
from flexiflow.extras.durable._redis.transport import RedisTransport
from flexiflow.extras.durable._sqlite.transport import SqliteTransport
from flexiflow.extras.durable._surveys import GroupSurvey, LogSurvey, MemberSurvey, Standing, Survey
from flexiflow.extras.durable._transport import Connection, Transport
from flexiflow.extras.durable._urls import transport_from_url

__all__ = [
    "JSON",
    "Acknowledged",
    "Batch",
    "Bridge",
    "BridgeClosed",
    "BridgeStatistics",
    "BridgeStatus",
    "Buried",
    "Codec",
    "Connection",
    "ConsumerInUse",
    "CurrentDelivery",
    "DeadLetter",
    "Delivery",
    "EventTooLarge",
    "Failure",
    "Followed",
    "GroupMismatch",
    "GroupSurvey",
    "Lease",
    "LeaseLost",
    "LogFull",
    "LogSurvey",
    "Member",
    "MemberSurvey",
    "MemoryTransport",
    "NewerVersion",
    "NotDecodable",
    "NotEncodable",
    "NotReplicated",
    "Noted",
    "Outbox",
    "OutboxFile",
    "Outcome",
    "Postponed",
    "Record",
    "RedisTransport",
    "Replayed",
    "Returned",
    "Room",
    "ScheduleFull",
    "ScheduledRecord",
    "Schema",
    "Settled",
    "SqliteTransport",
    "Standing",
    "Start",
    "StartTrimmed",
    "Stored",
    "Survey",
    "TooDeep",
    "Transport",
    "TransportError",
    "TransportUnavailable",
    "TransportUnusable",
    "WorkersDied",
    "current_delivery",
    "first_time",
    "open_bridge",
    "transport_from_url",
]
