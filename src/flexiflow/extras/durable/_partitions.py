"""Which partition a record is in, and whose a partition is (X4)."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Final
from zlib import crc32

# More than anybody needs, and so few that a transport can go through them all.
_MOST: Final = 65_536

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexiflow.extras.durable._transport import Batch, Record


def check_partitions(partitions: object) -> int | None:
    """Return a number of partitions, or None, if it is valid.

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
    """Sort the records of a batch by their partitions; always in the same way (X2).

    Records of one key share a partition. Those without take turns.
    """
    spread: dict[int, list[Record]] = {}
    for turn, record in enumerate(batch.records, crc32(batch.producer.encode()) + batch.number):
        place = turn if record.key is None else crc32(record.key.encode())
        spread.setdefault(place % partitions, []).append(record)
    return spread


def share(partitions: int, consumers: Sequence[str], consumer: str) -> range:
    """Tell which partitions are a consumer's, where these are alive.

    All agree on it where they see the same consumers; until then a lease tells whose it is.

    Args:
        partitions: how many there are.
        consumers: who is alive, sorted.
        consumer: one of them.
    """
    return range(consumers.index(consumer), partitions, len(consumers))
