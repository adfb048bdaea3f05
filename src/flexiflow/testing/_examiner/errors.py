"""The traceback of what ended a program, from the user's own code on (P5)."""

from __future__ import annotations

from traceback import TracebackException
from typing import TYPE_CHECKING, Final

from flexiflow._cancellation import leaves
from flexiflow._text import printable_lines
from flexiflow.testing._scheduling.failures import ScenarioStuck
from flexiflow.testing._scheduling.owners import LIBRARIES, owner_of

if TYPE_CHECKING:
    from types import TracebackType

# Arguments of checks are refused in `_callables`; Hypothesis wraps what it calls in functions of
# modules that it makes.
_KIT: Final = (
    *("flexiflow.testing", "flexiflow._cli", "flexiflow._callables"),
    "hypothesis_temporary_module_",
)


def show_error(left: BaseException | None) -> str:
    """Return the traceback of what left a program; "" if the complaint says it all."""
    found = [] if left is None else [*leaves(left)]
    if not found or any(isinstance(leaf, AssertionError | ScenarioStuck) for leaf in found):
        return ""
    return show_traceback(found[0])


def show_traceback(exception: BaseException) -> str:
    """Return the traceback of an exception without the frames before the user's own code.

    If nothing of it is the user's, it begins in the program that was run, or is shown whole.
    """
    whole = exception.__traceback__
    begin = _of_user(whole) or _of_program(whole) or whole
    shown = TracebackException(type(exception), exception, begin)
    _leave_out_ours(shown, exception)
    return printable_lines("".join(shown.format()).rstrip())


def _leave_out_ours(shown: TracebackException, exception: BaseException) -> None:
    """Cut off the chain of exceptions where the examiner was handling one of its own."""
    context = exception.__context__
    while context is not None and shown.__context__ is not None:
        if _of_user(context.__traceback__) is None:
            shown.__context__ = None
            return
        shown, context = shown.__context__, context.__context__


def traceback_of_user(exception: BaseException) -> str:
    """Return the same; "" if nothing of it is the user's."""
    return show_traceback(exception) if _of_user(exception.__traceback__) else ""


def _of_user(traceback: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the first frame of the user's code on, or None."""
    while traceback is not None and _is_ours(traceback):
        traceback = traceback.tb_next
    return traceback


def _of_program(traceback: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the first frame of a program of the kit on, or None."""
    while traceback is not None and not _module_of(traceback).endswith("programs"):
        traceback = traceback.tb_next
    return traceback


def _is_ours(traceback: TracebackType) -> bool:
    # The bus that is examined may be FlexiFlow's own; it is the user's here.
    is_kit = _module_of(traceback).startswith(_KIT)
    return is_kit or owner_of(traceback.tb_frame.f_code.co_filename) == LIBRARIES


def _module_of(traceback: TracebackType) -> str:
    return str(traceback.tb_frame.f_globals.get("__name__"))
