"""Buses with one planted fault each, which prove that `check_bus` finds what it has to find.

A fault is a subclass of the reference implementation (`properties.reference`), which keeps the
contract: it overrides one method, and is decorated with the clauses that it breaks.
"""

from properties.faults import (
    of_around,
    of_asking,
    of_audience,
    of_background,
    of_bus,
    of_crossings,
    of_delivery,
    of_endings,
    of_errors,
    of_exits,
    of_instruments,
    of_limits,
    of_plans,
    of_reports,
    of_steps,
    of_streams,
    of_subscriptions,
)
from properties.faults._registry import FAULTS, Fault

__all__ = [
    "FAULTS",
    "Fault",
    "of_around",
    "of_asking",
    "of_audience",
    "of_background",
    "of_bus",
    "of_crossings",
    "of_delivery",
    "of_endings",
    "of_errors",
    "of_exits",
    "of_instruments",
    "of_limits",
    "of_plans",
    "of_reports",
    "of_steps",
    "of_streams",
    "of_subscriptions",
]
