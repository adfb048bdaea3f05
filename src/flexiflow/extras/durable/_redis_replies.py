"""What a Redis server may answer that is no answer, and what it means for whoever asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from flexiflow.extras.durable._errors import TransportUnavailable, TransportUnusable

if TYPE_CHECKING:
    from flexiflow.extras.durable._errors import TransportError

# Each passes: a server that starts, is full, has no disk, is a replica, or moves its slots.
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
    """A connection ended, could not be made, or was silent for too long.

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
        code: the first word of it.
        text: the other ones.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text


def explain(error: Broken | Refused, address: str) -> TransportError:
    """Tell what an error means for whoever uses the transport."""
    if isinstance(error, Broken):
        return TransportUnavailable(address, error.reason)
    said = f"{error.code} {error.text}".rstrip()
    # In the answer of a script that failed, Redis 6.2 has its error's code somewhere in the middle,
    # some with the sign by which errors begin on the wire.
    words = frozenset(word.lstrip("-") for word in said.split())
    if words & _PASSING:
        return TransportUnavailable(address, said)
    if error.code in _PASSWORD:
        return TransportUnusable(address, f"it wants another user or password: {said}")
    if "WRONGTYPE" in words:
        reason = "something else has written to the keys of this transport; use another prefix"
        return TransportUnusable(address, f"{reason}: {said}")
    return TransportUnusable(address, said)
