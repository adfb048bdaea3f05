"""A record that a group was given in a log of the transport in memory, and what settles it."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple, final

from flexiflow.extras.durable._outcomes import Acknowledged, Noted

if TYPE_CHECKING:
    from flexiflow.extras.durable._filling import Filling
    from flexiflow.extras.durable._outcomes import Settling
    from flexiflow.extras.durable._records import Record


@final
@dataclass(slots=True)
class Entry:
    """A record that was given to a worker of a group, and is not settled.

    Attributes:
        attempts: as in `Delivery`.
        deliveries: as in `Delivery`.
        holder: the token of the lease that was given the record last, or postponed it.
        origin: its position or, if it was redriven, the one of what it is a copy of.
        stored: when it was stored, if that is known.
        is_done: whether it was acknowledged by a lease that no longer held it.
        record: the record, if it has waited; else None, and the record is in the log.
        key: its key, if it has waited.
        due: while it waits, when it is due; infinite in its key's line.
    """

    attempts: int
    deliveries: int
    holder: int
    origin: int
    stored: float | None
    is_done: bool = False
    record: Record | None = None
    key: str | None = None
    due: float = inf


class Grave(NamedTuple):
    """A record that is to become a dead letter.

    Attributes:
        record: the record.
        origin: its position or, if it was redriven, the one of what it is a copy of.
    """

    record: Record
    origin: int


class Settlement(NamedTuple):
    """The result of settling one record.

    Attributes:
        is_lost: whether another lease holds the record.
        grave: the record, if it is to become a dead letter.
    """

    is_lost: bool = False
    grave: Grave | None = None


SETTLED: Final = Settlement()
"""The result where the lease held the record, which becomes no dead letter."""

NOBODY: Final = 0
"""A token that no lease has."""


def begin_attempt(filling: Filling, position: int, record: Record, entry: Entry) -> bool:
    """Give a record, as an attempt that begins, if there is room; return whether there was."""
    oversize = len(record.body) if len(record.body) > filling.most else 0
    body, counts = b"" if oversize else record.body, (entry.attempts, entry.deliveries)
    waited = entry.record is not None
    if not filling.add(position, body, record.group, *counts, has_waited=waited, oversize=oversize):
        return False
    entry.deliveries = entry.deliveries or 1
    return True


def end_attempt(entry: Entry, outcome: Settling) -> None:
    """Note the end of an attempt, reported by a lease that no longer holds the record."""
    if isinstance(outcome, Noted):
        return
    entry.deliveries = min(entry.deliveries, 1)
    if isinstance(outcome, Acknowledged):
        entry.is_done = True
    else:
        entry.attempts = max(entry.attempts, outcome.attempts)
