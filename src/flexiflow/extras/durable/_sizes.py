"""How many bytes events and pages may have (X14)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flexiflow.extras.durable._errors import EventTooLarge

if TYPE_CHECKING:
    from flexiflow.extras.durable._transport import Batch

MAX_EVENT_BYTES: Final = 4 * 1024 * 1024
"""How many bytes an event may have as stored, by default."""

PAGE_BYTES: Final = 16 * 1024 * 1024
"""How many bytes several dead letters, or records, of one page may have together."""


def check_sizes(batch: Batch, max_event_bytes: int) -> None:
    """Check the sizes of the records of a batch.

    Raises:
        EventTooLarge: a record has more than `max_event_bytes` bytes.
    """
    for record in batch.records:
        if len(record.body) > max_event_bytes:
            raise EventTooLarge("an event", len(record.body), max_event_bytes)
