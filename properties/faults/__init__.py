"""Buses with one deliberate fault each, which prove that `check_bus` finds what it is to find."""

from properties.faults import (
    of_audience,
    of_bus,
    of_delivery,
    of_errors,
    of_exits,
    of_instruments,
    of_limits,
    of_reports,
    of_streams,
    of_subscriptions,
)
from properties.faults._registry import FAULTS, Fault

__all__ = [
    "FAULTS",
    "Fault",
    "of_audience",
    "of_bus",
    "of_delivery",
    "of_errors",
    "of_exits",
    "of_instruments",
    "of_limits",
    "of_reports",
    "of_streams",
    "of_subscriptions",
]
