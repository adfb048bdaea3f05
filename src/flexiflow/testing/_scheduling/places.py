"""Find the line of source code at which a task waits, or raised (P8)."""

from __future__ import annotations

import gc
import linecache
from pathlib import Path
from traceback import walk_tb
from types import AsyncGeneratorType, CodeType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from flexiflow._text import printable, shorten
from flexiflow.testing._scheduling.owners import LIBRARIES, OURS, USERS, bases_of_others, owner_of
from flexiflow.testing._scheduling.story import Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Spot: TypeAlias = tuple[CodeType, int]
"""A line in the code of a function; cheap to keep, unlike its frame."""

_PARTS: Final[dict[type, tuple[str, str]]] = {
    AsyncGeneratorType: ("ag_frame", "ag_await"),
    CoroutineType: ("cr_frame", "cr_await"),
    GeneratorType: ("gi_frame", "gi_yieldfrom"),
}
"""Where each kind of them has its frame, and what it waits for."""

_WRAPPERS: Final = frozenset(
    {"anext_awaitable", "async_generator_asend", "async_generator_athrow", "coroutine_wrapper"}
)


def waits_at(coroutine: object) -> Spot | None:
    """Return the innermost line of the user's own code at which a coroutine is suspended.

    If there is none, it is FlexiFlow's, or else the outermost one.
    """
    spots = list(awaited_at(coroutine))
    return innermost(spots) or next(iter(spots), None)


def raised_at(exception: BaseException) -> Spot | None:
    """Return the innermost line of the user's own code, or FlexiFlow's, that an exception left."""
    return innermost([(frame.f_code, line) for frame, line in walk_tb(exception.__traceback__)])


def begins_at(coroutine: object) -> Spot | None:
    """Return the first line of a coroutine's function."""
    code: CodeType | None = getattr(coroutine, "cr_code", None)
    return None if code is None else (code, code.co_firstlineno)


def inner(coroutine: object) -> object:
    """Return the coroutine that AnyIO's task group was given, if it is in one of AnyIO's."""
    frame = getattr(coroutine, "cr_frame", None)
    if frame is None or owner_of(frame.f_code.co_filename) != LIBRARIES:
        return coroutine
    return getattr(frame.f_locals.get("self"), "coro", coroutine)


def qualname_of(coroutine: object) -> str:
    """Return the name of a coroutine's function."""
    name = getattr(coroutine, "__qualname__", None)
    if name is None:
        # What closes an async generator has no name; the generator has.
        name = getattr(_wrapped(coroutine), "__qualname__", type(coroutine).__name__)
    return str(name)


def place_of(spot: Spot | None) -> Place | None:
    """Return what there is to be read about a line."""
    if spot is None:
        return None
    code, line = spot
    text = linecache.getline(code.co_filename, line).strip().partition("  # noqa")[0]
    return Place(_shown(spot), line, printable(code.co_qualname), printable(shorten(text)))


def awaited_at(coroutine: object) -> Iterator[Spot]:
    """Yield the line at which a coroutine waits, and those of what it waits for, in turn."""
    awaited: object = coroutine
    while awaited is not None:
        parts = _PARTS.get(type(awaited))
        if parts is None:
            awaited = _wrapped(awaited)
            continue
        frame: Any = getattr(awaited, parts[0])
        awaited = getattr(awaited, parts[1])
        yield frame.f_code, frame.f_lineno


def _wrapped(awaited: object) -> object:
    """Return what is behind one of the objects that Python itself makes to await something."""
    if type(awaited).__name__ not in _WRAPPERS:
        return None
    return next(filter(_is_awaited, gc.get_referents(awaited)), None)


def _is_awaited(referent: object) -> bool:
    return type(referent) in _PARTS or type(referent).__name__ in _WRAPPERS


def innermost(spots: Sequence[Spot]) -> Spot | None:
    """Return the innermost line of the user's own code, or else of FlexiFlow's, or None."""
    for owner in (USERS, OURS):
        for spot in reversed(spots):
            if owner_of(spot[0].co_filename) == owner:
                return spot
    return None


def _here() -> list[Path]:
    """Return the working directory, if there is one: it may have been removed."""
    try:
        return [Path.cwd()]
    except FileNotFoundError:
        return []


def _shown(spot: Spot) -> str:
    filename = spot[0].co_filename
    bases = _here()
    if owner_of(filename) != USERS:
        bases = bases_of_others()
    path = Path(filename)
    base = next(filter(path.is_relative_to, bases), None)
    return printable(filename if base is None else path.relative_to(base).as_posix())
