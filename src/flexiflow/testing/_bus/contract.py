"""The contract of the bus as data (P1)."""

from __future__ import annotations

from typing import Final

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
