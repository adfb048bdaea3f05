"""Where a group begins in each log of the transport in memory (Y5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flexiflow.extras.durable._errors import StartTrimmed
from flexiflow.extras.durable._logs import check_positions
from flexiflow.extras.durable._records import Replayed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexiflow.extras.durable._memory.log import Log
    from flexiflow.extras.durable._records import Start


def begin(group: str, logs: Sequence[Log], start: Start) -> list[int]:
    """Return for each log the position behind which a new group begins.

    Raises:
        ValueError: `start` is not a position for each log.
        StartTrimmed: records behind one of them were deleted.
    """
    found = _positions(logs, start)
    for partition, (log, position) in enumerate(zip(logs, found, strict=True)):
        if position < log.first - 1:
            raise StartTrimmed(group, partition, str(position), str(log.first - 1))
    return found


def begin_again(logs: Sequence[Log], since: Start) -> tuple[list[int], Replayed]:
    """Return for each log the position behind which a group begins again, and what to tell.

    Raises:
        ValueError: `since` is not a position for each log.
    """
    wanted = _positions(logs, since)
    found = [max(each, log.first - 1) for log, each in zip(logs, wanted, strict=True)]
    has_lost = [_has_lost(log, each, since) for log, each in zip(logs, found, strict=True)]
    is_whole = found == wanted and not any(has_lost)
    return found, Replayed(tuple(map(str, found)), is_whole)


def _has_lost(log: Log, position: int, since: Start) -> bool:
    """Return whether a record behind a position, or as late as `since`, was deleted."""
    is_late = isinstance(since, int | float) and log.deleted >= since
    return is_late or sum(1 for _ in log.since(position)) < log.last - position


def _positions(logs: Sequence[Log], start: Start) -> list[int]:
    if start == "oldest":
        return [log.first - 1 for log in logs]
    if start == "new":
        return [log.last for log in logs]
    if isinstance(start, tuple):
        return check_positions(start, [log.last for log in logs])
    return [_behind(log, start) for log in logs]


def _behind(log: Log, time: float) -> int:
    """Return the position behind which the first record follows of a time or later."""
    times = ((position, log.times.get(position)) for position in log.records)
    after = (position for position, stored in times if stored is not None and stored >= time)
    return next(after, log.last + 1) - 1
