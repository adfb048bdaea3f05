"""Which partition a record is stored in, and which worker reads a partition (X4)."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Final
from zlib import crc32

# More than anybody needs, and few enough for a transport to go through all of them.
_MOST: Final = 65_536

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexiflow.extras.durable._transport import Batch, Record


def check_partitions(partitions: object) -> int | None:
    """Return the argument if it is a valid number of partitions, or None.

    Raises:
        ValueError: it is no int from 1 to 65,536.
    """
    if partitions is None:
        return None
    if type(partitions) is not int or not 1 <= partitions <= _MOST:
        raise ValueError(
            f"partitions must be None or an int from 1 to {_MOST:,}, not {reprlib.repr(partitions)}"
        )
    return partitions


def spread(batch: Batch, partitions: int) -> dict[int, list[Record]]:
    """Return the records of a batch by partition; the same for each try of the batch (X2).

    Records of one key go to the same partition. Records without a key go to one after the other.
    """
    spread: dict[int, list[Record]] = {}
    for turn, record in enumerate(batch.records, crc32(batch.producer.encode()) + batch.number):
        place = turn if record.key is None else crc32(record.key.encode())
        spread.setdefault(place % partitions, []).append(record)
    return spread


def share(partitions: int, consumers: Sequence[str], consumer: str) -> range:
    """Return the partitions that a consumer should lease.

    Consumers that see the same list agree on the shares. Until they do, a lease decides which of
    them reads a partition.

    Args:
        partitions: how many partitions there are.
        consumers: the names of all live consumers, sorted.
        consumer: one of them.
    """
    return range(consumers.index(consumer), partitions, len(consumers))
