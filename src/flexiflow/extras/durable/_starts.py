"""Where a group begins in logs whose positions are dense numbers (Y5): without I/O or a clock."""

from __future__ import annotations

import re
import reprlib
from typing import TYPE_CHECKING, Final, Protocol

from flexiflow.extras.durable._errors import StartTrimmed
from flexiflow.extras.durable._records import Replayed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexiflow.extras.durable._records import Start

_WORDS: Final = "oldest", "new"

_POSITION: Final = re.compile(r"[0-9]{1,18}")


class LogView(Protocol):
    """A log, as far as a start needs it."""

    @property
    def first(self) -> int:
        """The position of the first record that is kept; of the next one if there is none."""
        ...

    @property
    def last(self) -> int:
        """The position of the last record that was stored; 0 before the first."""
        ...

    @property
    def deleted(self) -> float:
        """Of the records that were deleted to make room, the latest time of storing.

        If that is not known of a record, the time of its deletion counts. Minus infinity if no
        record was deleted.
        """
        ...

    def behind(self, time: float) -> int:
        """Return the position before the first record that was stored at a time or later.

        The first in the order of the log: after the clock was set back, later ones may have earlier
        times. A record whose time is not known counts as late, so that no record is skipped that
        may be wanted. If there is no such record, the position of the last record is returned.
        """
        ...

    def count_after(self, position: int) -> int:
        """Return how many records after a position are kept."""
        ...


def begin(group: str, logs: Sequence[LogView], start: Start) -> list[int]:
    """Return for each log the position behind which a new group begins.

    Raises:
        ValueError: `start` is no start, or not a position for each log.
        StartTrimmed: records behind one of these positions were deleted.
    """
    found = _positions(logs, start)
    for partition, (log, position) in enumerate(zip(logs, found, strict=True)):
        if position < log.first - 1:
            raise StartTrimmed(group, partition, str(position), str(log.first - 1))
    return found


def begin_again(logs: Sequence[LogView], since: Start) -> tuple[list[int], Replayed]:
    """Return the position in each log behind which a group begins again, and tell what is lost.

    Raises:
        ValueError: `since` is no start, or not a position for each log.
    """
    wanted = _positions(logs, since)
    found = [max(each, log.first - 1) for log, each in zip(logs, wanted, strict=True)]
    has_lost = [_has_lost(log, each, since) for log, each in zip(logs, found, strict=True)]
    is_complete = found == wanted and not any(has_lost)
    return found, Replayed(tuple(map(str, found)), is_complete)


def _has_lost(log: LogView, position: int, since: Start) -> bool:
    """Return whether a record behind a position, or stored at `since` or later, was deleted."""
    is_late = isinstance(since, int | float) and log.deleted >= since
    return is_late or log.count_after(position) < log.last - position


def _positions(logs: Sequence[LogView], start: Start) -> list[int]:
    if start == "oldest":
        return [log.first - 1 for log in logs]
    if start == "new":
        return [log.last for log in logs]
    check_start(start, len(logs))
    if isinstance(start, tuple):
        return _check_positions(start, [log.last for log in logs])
    return [log.behind(start) for log in logs]


def check_start(start: Start, partitions: int) -> None:
    """Raise `ValueError` if a start is another word, or has not a position for each partition."""
    if isinstance(start, str) and start not in _WORDS:
        raise ValueError(
            "a start must be 'oldest', 'new', a time, or a position for each partition, "
            f"not {reprlib.repr(start)}"
        )
    if isinstance(start, tuple) and len(start) != partitions:
        raise ValueError(
            f"a start must have a position for each of the {partitions} partitions, "
            f"not {reprlib.repr(start)}"
        )


def _check_positions(start: tuple[str, ...], ends: Sequence[int]) -> list[int]:
    """Return the positions behind which a group is to begin.

    Args:
        start: a text for each partition.
        ends: for each partition the position of the last record that was stored.

    Raises:
        ValueError: one is no position.
    """
    for partition, (last, each) in enumerate(zip(ends, start, strict=True)):
        if not _POSITION.fullmatch(each) or int(each) > last:
            raise ValueError(
                f"a position of partition {partition} must be a number of at most {last}, "
                f"as tail() returns it, not {reprlib.repr(each)}"
            )
    return list(map(int, start))
