"""Telling a cancellation from a failure, the same on both backends (E5, E6, E8)."""

from __future__ import annotations

import math
import sys
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from anyio import current_effective_deadline, get_cancelled_exc_class
from anyio.lowlevel import checkpoint_if_cancelled

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


def judge(exception: BaseException, *, cancelled: bool, culprit: str) -> Verdict:
    """Judge what left the handler named `culprit` while publish was, or wasn't, `cancelled`."""
    if isinstance(exception, Exception):
        return Verdict(exception, None, exception)
    cancellation, rest = split(exception)
    if cancellation is not None and rest is None:
        if cancelled:
            return Verdict(None, cancellation, cancellation)
        rest = HandlerCancelled(culprit)
        rest.__cause__ = exception
    if isinstance(rest, Exception):
        return Verdict(rest, cancellation if cancelled else None, rest)
    return Verdict(None, None, exception if rest is None else rest)


async def attempt(function: Callable[..., object], *arguments: object) -> Any:
    """Call a guard, an action or a factory, await it where need be, and return what it gives.

    What leaves it is judged as what leaves a handler is (E6, E8).
    """
    try:
        result = function(*arguments)
        return await result if isawaitable(result) else result
    except BaseException as exc:
        verdict = judge(exc, cancelled=is_being_cancelled(), culprit=describe(function))
        raise verdict.leaving


def split(exception: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """Take an exception apart: one cancellation out of it, and what else it holds (E8)."""
    kind = get_cancelled_exc_class()
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
    return current_effective_deadline() == -math.inf


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


def is_being_cancelled(requests_before: int = 0) -> bool:
    """Tell whether a scope around is cancelled, or the task natively since `requests_before`.

    A shielded cleanup runs in a task that had requests before it began; they don't count.
    """
    return effectively_cancelled() or cancel_requests() > requests_before


async def resume_cancellation() -> NoReturn:
    """Go on with a cancellation that a handler turned into a failure (E5)."""
    await checkpoint_if_cancelled()
    # No scope is cancelled, so it was a native cancel, which asyncio says only once.
    raise get_cancelled_exc_class()


def leaves(exception: BaseException) -> Iterator[BaseException]:
    """Go through what a group holds at any depth; of another exception, through itself."""
    if isinstance(exception, BaseExceptionGroup):
        for each in cast("BaseExceptionGroup[BaseException]", exception).exceptions:
            yield from leaves(each)
    else:
        yield exception
