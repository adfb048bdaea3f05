"""The contract of the bus as data (P1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flexiflow.testing._bus import (
    around_clauses,
    asking_clauses,
    background_clauses,
    clauses,
    delivery_clauses,
    failure_clauses,
    instrument_clauses,
    limit_clauses,
    seeing_clauses,
    stream_clauses,
)
from flexiflow.testing._examiner.clause import clauses_of

if TYPE_CHECKING:
    from flexiflow.testing._examiner.clause import Clause

_MODULES: Final = (
    clauses,
    seeing_clauses,
    background_clauses,
    delivery_clauses,
    failure_clauses,
    stream_clauses,
    limit_clauses,
    instrument_clauses,
    asking_clauses,
    around_clauses,
)
CONTRACT: Final = clauses_of(*map(vars, _MODULES))
"""Every clause of the bus, in order."""


def _narrow_first() -> tuple[Clause, ...]:
    place = {each.identifier: float(at) for at, each in enumerate(CONTRACT)}
    place["B10"] = place["B8"] - 0.5
    place["B5"] = place["B12"] + 0.5
    return tuple(sorted(CONTRACT, key=lambda each: place[each.identifier]))


TRIED: Final = _narrow_first()
"""The same in the order in which `check_bus` tries them, to raise what is broken first.

Patterns (B10) come before the clauses whose programs use them, and B5, whose programs use all that
can be subscribed and ended, after those that say what these are.
"""
