"""Tickets of scheduled records: text that names the transport, the partition, and one record."""

from __future__ import annotations

import re
import reprlib
from typing import Final
from uuid import uuid4

_TICKET: Final = re.compile(r"([0-9a-z]+)-([0-9]{1,5})-[0-9a-f]{32}")


def make_ticket(transport: str, partition: int) -> str:
    """Return a new ticket, unique among all (Y3).

    Args:
        transport: lower-case letters and digits that tell the transport's file, or its prefix on a
            server, from all others.
        partition: the partition that the record will be in.
    """
    return f"{transport}-{partition}-{uuid4().hex}"


def partition_of(ticket: str, transport: str, partitions: int) -> int:
    """Return the partition that a ticket names.

    Args:
        ticket: the ticket.
        transport: as in `make_ticket`.
        partitions: how many partitions the transport has.

    Raises:
        ValueError: it is no ticket of this transport.
    """
    found = _TICKET.fullmatch(ticket)
    if not found or found[1] != transport or int(found[2]) >= partitions:
        raise ValueError(
            f"a ticket must be one that schedule() of this transport returned, not "
            f"{reprlib.repr(ticket)}"
        )
    return int(found[2])
