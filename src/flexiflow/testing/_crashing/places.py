"""Where in the code a task has stopped."""

from __future__ import annotations

import os
import sysconfig
from gc import get_referents
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import flexiflow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_LIBRARIES: Final = tuple(
    f"{Path(sysconfig.get_path(name))}{os.sep}"
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
_OURS: Final = tuple(f"{path}{os.sep}" for path in flexiflow.__path__)
_WRAPPERS: Final = {"async_generator_asend", "async_generator_athrow", "coroutine_wrapper"}
"""Types of CPython that await something else, and do not tell what."""


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
    places = {"": "an unknown place"}
    way: list[str] = []
    for frame in _frames(coroutine):
        code = frame.f_code
        way.append(f"{Path(code.co_filename).name}:{frame.f_lineno}")
        places[_owner(code.co_filename)] = f"{code.co_filename}:{frame.f_lineno}, in {code.co_name}"
    owner = next(owner for owner in ("user", "ours", "library", "") if owner in places)
    return Stop(sha256("/".join(way).encode()).hexdigest()[:8], places[owner], owner == "user")


def _frames(awaited: Any) -> Iterator[FrameType]:
    """Yield the frames of a coroutine and of what it awaits, the outermost first."""
    while awaited is not None:
        for prefix, inner in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
            frame = getattr(awaited, f"{prefix}_frame", None)
            if frame is not None:
                yield frame
                awaited = getattr(awaited, inner)
                break
        else:
            is_wrapper = type(awaited).__name__ in _WRAPPERS
            awaited = next(iter(get_referents(awaited)), None) if is_wrapper else None


def _owner(file: str) -> str:
    if file.startswith(_OURS):
        return "ours"
    return "library" if file.startswith(("<", *_LIBRARIES)) else "user"
