"""What all transports have in common: limits, the spreading of batches, the ids of dead letters."""

from __future__ import annotations

import re
import reprlib
from typing import TYPE_CHECKING, Final, NamedTuple
from zlib import crc32

from flexiflow._arguments import check_count, check_finite
from flexiflow.extras.durable._errors import EventTooLarge

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from flexiflow.extras.durable._records import Batch, Record

MAX_EVENT_BYTES: Final = 4 * 1024 * 1024
"""How many bytes an event may have as stored, by default."""

MAX_SCHEDULED: Final = 1_000_000
"""How many records may be scheduled at a time, for each log, by default."""

PAGE_BYTES: Final = 16 * 1024 * 1024
"""How many bytes several dead letters, or records, of one page may have together (X14)."""

# More than anybody needs, and few enough for a transport to go through all of them.
_MOST_PARTITIONS: Final = 65_536

_POSITION: Final = re.compile(r"[0-9]{1,18}")

_ID: Final = re.compile(r"[0-9]{1,18}(?:-[0-9]{1,18})*")
"""Numbers of at most 18 digits, which SQLite and Redis can hold, joined by hyphens."""


class LogLimits(NamedTuple):
    """The arguments that all transports have; `check_limits` makes it.

    Attributes:
        partitions: how many logs there are, each leased to one worker of a group at a time (X4);
            None for one log that all workers of a group share.
        max_length: how many records a log may hold.
        window: for how many seconds after its last batch a producer is remembered (X2).
        max_event_bytes: how many bytes an event may have as stored (X14).
        max_scheduled: how many records may be scheduled at a time, for each log (Y3).
    """

    partitions: int | None
    max_length: int
    window: float
    max_event_bytes: int
    max_scheduled: int

    @property
    def logs(self) -> int:
        """How many logs there are."""
        return self.partitions or 1


def check_limits(
    *,
    partitions: object,
    max_length: object,
    idempotency_window: object,
    max_event_bytes: object,
    max_scheduled: object,
) -> LogLimits:
    """Return the arguments that all transports have, if they are valid.

    Raises:
        ValueError: one is out of its range.
    """
    if partitions is not None and (
        type(partitions) is not int or not 1 <= partitions <= _MOST_PARTITIONS
    ):
        raise ValueError(
            f"partitions must be None or an int from 1 to {_MOST_PARTITIONS:,}, "
            f"not {reprlib.repr(partitions)}"
        )
    return LogLimits(
        partitions,
        check_count("max_length", max_length),
        check_finite("idempotency_window", idempotency_window),
        check_count("max_event_bytes", max_event_bytes),
        check_count("max_scheduled", max_scheduled),
    )


class ConnectionBase:
    """The base of connections, with the attributes that `Connection` describes.

    Args:
        address: where the transport is.
        limits: its limits.
    """

    def __init__(self, address: str, limits: LogLimits) -> None:
        self.address = address
        self.partitions = limits.logs
        self.is_exclusive = limits.partitions is not None
        self.max_length = limits.max_length
        self.max_event_bytes = limits.max_event_bytes
        self.max_scheduled = limits.max_scheduled
        self._limits = limits


def check_records(batch: Batch, max_event_bytes: int) -> None:
    """Raise `EventTooLarge` if a record of a batch has more than `max_event_bytes` bytes."""
    for record in batch.records:
        if len(record.body) > max_event_bytes:
            raise EventTooLarge("an event", len(record.body), max_event_bytes)


def spread(batch: Batch, partitions: int) -> Mapping[int, Sequence[Record]]:
    """Return the records of a batch by partition; the same for each try of the batch (X2).

    Records of one key go to the same partition. Records without a key go to one after the other.
    """
    if partitions == 1:
        return {0: batch.records}
    found: dict[int, list[Record]] = {}
    for turn, record in enumerate(batch.records, crc32(batch.producer.encode()) + batch.number):
        place = turn if record.key is None else crc32(record.key.encode())
        found.setdefault(place % partitions, []).append(record)
    return found


def numbers_of(ids: Iterable[str], count: int) -> list[tuple[int, ...]]:
    """Return the numbers in each id of a dead letter; skip what is no id of `count` numbers."""
    found = (tuple(map(int, each.split("-"))) for each in ids if _ID.fullmatch(each))
    return [each for each in found if len(each) == count]


def numbers_after(after: str | None, count: int) -> tuple[int, ...] | None:
    """Return the numbers in the id after which dead letters are wanted; None for all of them.

    Raises:
        ValueError: it is no id of `count` numbers.
    """
    if after is None:
        return None
    found = numbers_of([after], count)
    if not found:
        raise ValueError(f"after must be the id of a dead letter, not {reprlib.repr(after)}")
    return found[0]


def check_positions(start: tuple[str, ...], ends: Sequence[int]) -> list[int]:
    """Return the positions behind which a group is to begin, where positions are numbers (Y5).

    Args:
        start: a position for each partition.
        ends: for each partition the position of the last record that was stored.

    Raises:
        ValueError: `start` is not that.
    """
    if len(start) != len(ends):
        raise ValueError(
            f"a start must have a position for each of the {len(ends)} partitions, "
            f"not {reprlib.repr(start)}"
        )
    for partition, (last, each) in enumerate(zip(ends, start, strict=True)):
        if not _POSITION.fullmatch(each) or int(each) > last:
            raise ValueError(
                f"a position of partition {partition} must be a number of at most {last}, "
                f"as tail() returns it, not {reprlib.repr(each)}"
            )
    return list(map(int, start))
