"""Errors of a Redis server or a connection, and the errors that users get for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, final

if TYPE_CHECKING:
    from collections.abc import Callable

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


class Terms(NamedTuple):
    """The words and the errors of what stands on a server.

    Attributes:
        what: what stands on it.
        unavailable: the error, of an address and a reason, after which a later try may succeed.
        unusable: the same where a person must act.
    """

    what: str
    unavailable: Callable[[str, str], Exception]
    unusable: Callable[[str, str], Exception]


def explain(error: Broken | Refused, address: str, terms: Terms) -> Exception:
    """Return the users' error for an error of a server or a connection."""
    if isinstance(error, Broken):
        return terms.unavailable(address, error.reason)
    said = f"{error.code} {error.text}".rstrip()
    # If a script failed, the error of Redis 6.2 has the code somewhere in the middle, sometimes
    # with the "-" by which errors begin on the wire.
    words = frozenset(word.lstrip("-") for word in said.split())
    if words & _PASSING:
        return terms.unavailable(address, said)
    if error.code in _PASSWORD:
        return terms.unusable(address, f"it wants another user or password: {said}")
    if "WRONGTYPE" in words:
        reason = f"something else has written to the keys of this {terms.what}; use another prefix"
        return terms.unusable(address, f"{reason}: {said}")
    return terms.unusable(address, said)
