"""Errors of a Redis server or a connection, and the transport's errors for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from flexiflow.extras.durable._errors import TransportUnavailable, TransportUnusable

if TYPE_CHECKING:
    from flexiflow.extras.durable._errors import TransportError

# Errors that pass: the server starts, is full, can't write to disk, is a replica, or moves slots.
_PASSING: Final = frozenset(
    {
        "ASK",
        "BUSY",
        "CLUSTERDOWN",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",
        "MOVED",
        "NOREPLICAS",
        "OOM",
        "READONLY",
        "TRYAGAIN",
        "UNBLOCKED",
    }
)
_PASSWORD: Final = frozenset({"NOAUTH", "WRONGPASS"})


@final
class Broken(Exception):
    """A connection ended, could not be opened, or was silent for too long.

    Args:
        reason: what was seen.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@final
class Refused(Exception):
    """The server answered with an error.

    Args:
        code: the first word of the error.
        text: the other words.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text


def explain(error: Broken | Refused, address: str) -> TransportError:
    """Return the transport's error for an error of a server or a connection."""
    if isinstance(error, Broken):
        return TransportUnavailable(address, error.reason)
    said = f"{error.code} {error.text}".rstrip()
    # If a script failed, the error of Redis 6.2 has the code somewhere in the middle, sometimes
    # with the "-" by which errors begin on the wire.
    words = frozenset(word.lstrip("-") for word in said.split())
    if words & _PASSING:
        return TransportUnavailable(address, said)
    if error.code in _PASSWORD:
        return TransportUnusable(address, f"it wants another user or password: {said}")
    if "WRONGTYPE" in words:
        reason = "something else has written to the keys of this transport; use another prefix"
        return TransportUnusable(address, f"{reason}: {said}")
    return TransportUnusable(address, said)
