"""What all transports have in common: limits, the spreading of batches, the ids of dead letters."""

from __future__ import annotations

import re
import reprlib
from itertools import count as count_from
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import uuid4
from zlib import crc32

from flexiflow._arguments import check_count, check_finite
from flexiflow.extras.durable._errors import EventTooLarge
from flexiflow.extras.durable._tickets import make_ticket

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from flexiflow.extras.durable._records import Batch, Record

MAX_EVENT_BYTES: Final = 4 * 1024 * 1024
"""How many bytes an event may have as stored, by default."""

MAX_SCHEDULED: Final = 1_000_000
"""How many records may be scheduled at a time, for each log, by default."""

PAGE_BYTES: Final = 16 * 1024 * 1024
"""How many bytes several dead letters, or records, of one page may have together (X14)."""

# More than anybody needs, and few enough for a transport to go through all of them.
_MOST_PARTITIONS: Final = 65_536

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
        name: tells the transport from all others, in tickets; see `make_ticket`.
        turns: yields a number for each ticket without a key; successive numbers, from any one on,
            if it is None.
    """

    def __init__(
        self, address: str, limits: LogLimits, name: str, turns: Iterator[int] | None = None
    ) -> None:
        self.address = address
        self.partitions = limits.logs
        self.is_exclusive = limits.partitions is not None
        self.max_length = limits.max_length
        self.max_event_bytes = limits.max_event_bytes
        self._limits = limits
        self._name = name
        # Begins anywhere, so that short processes do not all begin with the same partition.
        self._turns = count_from(uuid4().int) if turns is None else turns

    def new_ticket(self, key: str | None) -> str:
        """Return a new ticket; those without a key go to one partition after the other."""
        count = self.partitions
        partition = next(self._turns) % count if key is None else partition_for(key, count)
        return make_ticket(self._name, partition)


def check_record(record: Record, max_event_bytes: int) -> None:
    """Raise `EventTooLarge` if the body of a record has more than `max_event_bytes` bytes."""
    if len(record.body) > max_event_bytes:
        raise EventTooLarge("an event", len(record.body), max_event_bytes)


def check_records(batch: Batch, max_event_bytes: int) -> None:
    """Raise `EventTooLarge` if a record of a batch has more than `max_event_bytes` bytes."""
    for record in batch.records:
        check_record(record, max_event_bytes)


def partition_for(key: str, partitions: int) -> int:
    """Return the partition of all records that have a key."""
    return crc32(key.encode()) % partitions


def spread(batch: Batch, partitions: int) -> Mapping[int, Sequence[Record]]:
    """Return the records of a batch by partition; the same for each try of the batch (X2).

    Records of one key go to the same partition. Records without a key go to one after the other.
    """
    if partitions == 1:
        return {0: batch.records}
    found: dict[int, list[Record]] = {}
    for turn, record in enumerate(batch.records, crc32(batch.producer.encode()) + batch.number):
        key = record.key
        partition = turn % partitions if key is None else partition_for(key, partitions)
        found.setdefault(partition, []).append(record)
    return found


def numbers_of(ids: Iterable[str], count: int) -> list[tuple[int, ...]]:
    """Return the numbers in each id of a dead letter; skip ids that have not `count` numbers."""
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
