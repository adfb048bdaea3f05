"""The traceback of what ended a program, from the user's own code on (P5)."""

from __future__ import annotations

from traceback import TracebackException
from typing import TYPE_CHECKING, Final

from flexiflow._cancellation import leaves
from flexiflow._text import printable_lines

if TYPE_CHECKING:
    from types import TracebackType

_OURS: Final = ("flexiflow.testing", "flexiflow._cli")
_LIBRARIES: Final = frozenset({"anyio", "asyncio", "contextlib", "functools", "hypothesis", "trio"})


def show_error(left: BaseException | None) -> str:
    """Return the traceback of what left a program; "" if that only asserts what is promised."""
    found = [] if left is None else [*leaves(left)]
    if not found or any(isinstance(leaf, AssertionError) for leaf in found):
        return ""
    return show_traceback(found[0])


def show_traceback(exception: BaseException) -> str:
    """Return the traceback of an exception without the frames before the user's own code.

    If nothing of it is the user's, it is shown whole.
    """
    begin = _of_user(exception.__traceback__) or exception.__traceback__
    shown = TracebackException(type(exception), exception, begin)
    return printable_lines("".join(shown.format()).rstrip())


def traceback_of_user(exception: BaseException) -> str:
    """Return the same; "" if nothing of it is the user's."""
    return show_traceback(exception) if _of_user(exception.__traceback__) else ""


def _of_user(traceback: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the first frame of the user's code on, or None."""
    while traceback is not None and _is_ours(traceback):
        traceback = traceback.tb_next
    return traceback


def _is_ours(traceback: TracebackType) -> bool:
    module = str(traceback.tb_frame.f_globals.get("__name__"))
    return module.startswith(_OURS) or module.partition(".")[0] in _LIBRARIES
