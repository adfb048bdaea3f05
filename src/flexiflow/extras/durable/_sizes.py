"""How large events may be (X14)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flexiflow.extras.durable._errors import EventTooLarge

if TYPE_CHECKING:
    from flexiflow.extras.durable._transport import Batch

MAX_EVENT_BYTES: Final = 4 * 1024 * 1024
"""How many bytes an event may have as it is stored, if a transport is not told otherwise."""

PAGE_BYTES: Final = 16 * 1024 * 1024
"""How many bytes dead letters and records on a page have together, unless it is one alone."""


def check_sizes(batch: Batch, max_event_bytes: int) -> None:
    """Refuse a batch with a record that is too large.

    Raises:
        EventTooLarge: one has more bytes.
    """
    for record in batch.records:
        if len(record.body) > max_event_bytes:
            raise EventTooLarge("an event", len(record.body), max_event_bytes)
