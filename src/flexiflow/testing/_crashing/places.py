"""Where in the code a task has stopped."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from flexiflow.testing._scheduling.owners import USERS, owner_of
from flexiflow.testing._scheduling.places import awaited_at, innermost


class Stop(NamedTuple):
    """Where a task has stopped.

    Attributes:
        way: stands for the lines of all functions that wait, down to the innermost one.
        place: the innermost line that is the user's, for people; if none is, the innermost one of
            this library; if none is, the innermost one.
        is_users: whether that line is the user's.
    """

    way: str
    place: str
    is_users: bool


def stop_of(coroutine: object) -> Stop:
    """Return where a coroutine has stopped."""
    spots = [*awaited_at(coroutine)]
    way = "/".join(f"{Path(code.co_filename).name}:{line}" for code, line in spots)
    place, is_users = "an unknown place", False
    if spots:
        code, line = innermost(spots) or spots[-1]
        place = f"{code.co_filename}:{line}, in {code.co_name}"
        is_users = owner_of(code.co_filename) == USERS
    return Stop(sha256(way.encode()).hexdigest()[:8], place, is_users)
