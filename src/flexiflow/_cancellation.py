"""Telling a cancellation from a failure, the same on both backends (E5, E6, E8)."""

from __future__ import annotations

import math
import sys
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import anyio
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from flexiflow._callables import describe
from flexiflow._errors import HandlerCancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import NoReturn


class Verdict(NamedTuple):
    """What an exception that left a handler is.

    Attributes:
        failure: the handler's failure, or None.
        cancellation: publish's own cancellation, which must go on, or None.
        leaving: what leaves where nothing is reported: the failure, else the cancellation, else
            the exception itself, which is neither, like KeyboardInterrupt.
    """

    failure: Exception | None
    cancellation: BaseException | None
    leaving: BaseException


def judge(
    exception: BaseException, function: Callable[..., object], *, cancelled: Callable[[], bool]
) -> Verdict:
    """Judge what left a handler, or another function, given what tells of a cancellation."""
    if isinstance(exception, Exception):
        return Verdict(exception, None, exception)
    if isinstance(exception, GeneratorExit):  # perhaps no loop is left to ask about anything
        return Verdict(None, None, exception)
    cancellation, rest = split(exception)
    if cancellation is not None and cancelled():
        if rest is None:
            return Verdict(None, cancellation, cancellation)
    else:
        cancellation = None
        if rest is None:
            rest = HandlerCancelled(describe(function))
            rest.__cause__ = exception
    if isinstance(rest, Exception):
        return Verdict(rest, cancellation, rest)
    return Verdict(None, None, rest)


async def attempt(function: Callable[..., object], *arguments: object) -> Any:
    """Call a guard, an action or a factory, await it where need be, and return what it gives.

    What leaves it is judged as what leaves a handler is (E6, E8).
    """
    try:
        result = function(*arguments)
        return await result if isawaitable(result) else result
    except BaseException as exc:
        raise judge(exc, function, cancelled=is_being_cancelled).leaving


def split(exception: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """Take an exception apart: one cancellation out of it, and what else it holds (E8)."""
    kind = anyio.get_cancelled_exc_class()
    if isinstance(exception, kind):
        return exception, None
    if not isinstance(exception, BaseExceptionGroup):
        return None, exception
    group = cast("BaseExceptionGroup[BaseException]", exception)
    cancellations, rest = group.split(kind)
    if cancellations is None:
        return None, group
    return next(leaves(cancellations)), rest


def effectively_cancelled() -> bool:
    """Tell whether a scope around is cancelled, shields counted."""
    return anyio.current_effective_deadline() == -math.inf


def cancel_counter() -> Callable[[], int]:
    """Return what counts the native cancel requests of the current task; always 0 on trio.

    The one place that knows of asyncio: only its own tasks tell of a native cancel (E6, R3). It
    is looked up, not imported, since whoever runs on asyncio has loaded it.
    """
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return int
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no asyncio loop runs in this thread
        return int
    return int if task is None else task.cancelling


def cancel_requests() -> int:
    """Count the native cancel requests of the current task; 0 on trio."""
    return cancel_counter()()


def is_being_cancelled(handled: BaseException | None = None) -> bool:
    """Tell whether a scope around is cancelled, or the current task natively; in doubt, it is.

    Whoever cleans up after a cancellation, perhaps in a shield, still has the native requests
    that it cleans up after. Where `handled`, the exception that was being handled before, shows
    that, they don't count.
    """
    return effectively_cancelled() or (cancel_requests() > 0 and not _shows_cancellation(handled))


def _shows_cancellation(exception: BaseException | None) -> bool:
    return any(split(each)[0] is not None for each in contexts(exception))


def contexts(exception: BaseException | None) -> Iterator[BaseException]:
    """Go through an exception, the one that was being handled as it was raised, and so on."""
    seen: set[int] = set()  # whoever sets contexts by hand can make a ring of them
    while exception is not None and id(exception) not in seen:
        seen.add(id(exception))
        yield exception
        exception = exception.__context__


async def resume_cancellation() -> NoReturn:
    """Go on with a cancellation in the midst of which a handler failed (E5)."""
    await checkpoint_if_cancelled()
    # No scope is cancelled, so it was a native cancel: perhaps it is still to be delivered,
    await checkpoint()
    # else the handler had it, and asyncio says it only once.
    raise anyio.get_cancelled_exc_class()


def leaves(exception: BaseException) -> Iterator[BaseException]:
    """Go through what a group holds at any depth; of another exception, through itself."""
    stack = [exception]
    while stack:
        each = stack.pop()
        if isinstance(each, BaseExceptionGroup):
            group = cast("BaseExceptionGroup[BaseException]", each)
            stack += reversed(group.exceptions)
        else:
            yield each
