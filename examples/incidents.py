"""Replay the log of an incident desk: each message names the new status of an incident."""

from flexiflow import Component, Engine, StateMachine, Transition

STATUSES = (
    "Accepted/Assigned",
    "Accepted/In Progress",
    "Accepted/Wait",
    "Accepted/Wait - Customer",
    "Accepted/Wait - Implementation",
    "Accepted/Wait - User",
    "Accepted/Wait - Vendor",
    "Completed/Cancelled",
    "Completed/Closed",
    "Completed/In Call",
    "Completed/Resolved",
    "Queued/Awaiting Assignment",
    "Unmatched/Unmatched",
)

# One table for all incidents; each keeps only its current status.
LIFE = StateMachine("New", [Transition("*", status, status) for status in STATUSES])


def incident(number: str) -> Component:
    """Make an incident when its first message comes."""
    return Component(number, machine=LIFE)


engine = Engine(component_factory=incident)
