"""Durable delivery: events that outlive the process, and reach others (X1 to X8)."""

from flexiflow.extras.durable._bridge import Bridge, open_bridge
from flexiflow.extras.durable._cloudevents import JSON, Codec
from flexiflow.extras.durable._errors import (
    BridgeClosed,
    ConsumerInUse,
    GroupMismatch,
    LeaseLost,
    LogFull,
    NotEncodable,
    NotReplicated,
    TransportError,
    TransportUnavailable,
    TransportUnusable,
    WorkersDied,
)
from flexiflow.extras.durable._held import CurrentDelivery, current_delivery
from flexiflow.extras.durable._lifetime import BridgeStatus
from flexiflow.extras.durable._memory import MemoryTransport
from flexiflow.extras.durable._redis import RedisTransport
from flexiflow.extras.durable._sqlite import SqliteTransport
from flexiflow.extras.durable._statistics import BridgeStatistics
from flexiflow.extras.durable._transport import (
    Acknowledged,
    Batch,
    Buried,
    Connection,
    DeadLetter,
    Delivery,
    Failure,
    Lease,
    Member,
    Noted,
    Outcome,
    Record,
    Returned,
    Standing,
    Stored,
    Transport,
)
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
    "Failure",
    "GroupMismatch",
    "Lease",
    "LeaseLost",
    "LogFull",
    "Member",
    "MemoryTransport",
    "NotEncodable",
    "NotReplicated",
    "Noted",
    "Outcome",
    "Record",
    "RedisTransport",
    "Returned",
    "SqliteTransport",
    "Standing",
    "Stored",
    "Transport",
    "TransportError",
    "TransportUnavailable",
    "TransportUnusable",
    "WorkersDied",
    "current_delivery",
    "open_bridge",
    "transport_from_url",
]
