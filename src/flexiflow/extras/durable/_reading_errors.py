"""The exceptions that are about one event: it can't be stored, read or handled."""

from __future__ import annotations

from typing import final

from flexiflow._text import show
from flexiflow.extras.durable._errors import TransportError


@final
class NotEncodable(TransportError, ValueError):
    """A payload can't be encoded (X7).

    Args:
        event_name: the event's name.
        reason: what is wrong with its payload.
    """

    def __init__(self, event_name: str, reason: str) -> None:
        super().__init__(event_name, reason)

    def __str__(self) -> str:
        """Name the event and what is wrong."""
        event_name, reason = self.args
        return f"the payload of {show(event_name)} can't be stored: {reason}"


@final
class NotDecodable(TransportError, ValueError):
    """What is stored of a payload is not what its schema reads (Y1).

    Args:
        event_name: the event's name.
        reason: what is wrong.
    """

    def __init__(self, event_name: str, reason: str) -> None:
        super().__init__(event_name, reason)

    def __str__(self) -> str:
        """Name the event and what is wrong."""
        event_name, reason = self.args
        return f"the payload of {show(event_name)} can't be read: {reason}"


@final
class NewerVersion(TransportError):
    """A payload was stored by newer code, in a version that this code does not read (Y1).

    Args:
        event_name: the event's name.
        stored: the version that is stored.
        known: the version that this code reads.
    """

    def __init__(self, event_name: str, stored: int, known: int) -> None:
        super().__init__(event_name, stored, known)

    def __str__(self) -> str:
        """Name the event, both versions, and what would be right."""
        event_name, stored, known = self.args
        return (
            f"the payload of {show(event_name)} is of version {stored}, and this worker's schema "
            f"reads up to version {known}: a worker with the newer schema would be right"
        )


@final
class TooDeep(TransportError):
    """An event is too deep in a chain of stored events, each published while another was handled.

    It is a dead letter at once, so that a loop across processes ends (Y2).

    Args:
        event_name: the event's name.
        depth: how many stored events the chain has, this one included.
        max_depth: how many it may have.
    """

    def __init__(self, event_name: str, depth: int, max_depth: int) -> None:
        super().__init__(event_name, depth, max_depth)

    def __str__(self) -> str:
        """Name the event, and what would be right."""
        event_name, depth, most = self.args
        return (
            f"{show(event_name)} is event {depth} of a chain in which each was published while the "
            f"one before was handled, and max_depth is {most}: end the loop, or redrive it with a "
            "higher max_depth"
        )


@final
class EventTooLarge(TransportError, ValueError):
    """An event has more bytes than the transport takes (X14).

    Args:
        event_name: the event's name, or what is known of it.
        size: how many bytes it has, encoded.
        max_event_bytes: how many bytes it may have.
    """

    def __init__(self, event_name: str, size: int, max_event_bytes: int) -> None:
        super().__init__(event_name, size, max_event_bytes)

    def __str__(self) -> str:
        """Name the event, its size, and what would be right."""
        event_name, size, most = self.args
        return (
            f"{show(event_name)} has {size} bytes as it is stored, and the transport takes {most}; "
            "max_event_bytes= of the transport allows more, or store where the payload is"
        )


@final
class WorkersDied(TransportError):
    """An event was given up since attempts to handle it began, but none of them ended (X3).

    Args:
        event_name: the event's name.
        deliveries: how many attempts.
    """

    def __init__(self, event_name: str, deliveries: int) -> None:
        super().__init__(event_name, deliveries)

    def __str__(self) -> str:
        """Name the event and the number of attempts."""
        event_name, deliveries = self.args
        return (
            f"{deliveries} attempts to handle {show(event_name)} have begun since one last ended: "
            "the workers died, or were silent and lost it to others"
        )
