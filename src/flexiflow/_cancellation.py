"""Cancellations, the same on both backends: finding them, and letting them go on (E5, E6, E8)."""

from __future__ import annotations

import math
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import anyio
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import NoReturn


def split(exception: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """Split an exception into one cancellation that it is or holds, and the rest (E8).

    Each may be None. The rest of an exception group is a group without cancellations.
    """
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
    """Return whether a cancel scope around the caller is cancelled, with shields considered."""
    return anyio.current_effective_deadline() == -math.inf


def cancel_counter() -> Callable[[], int]:
    """Return a function that counts the native cancel requests of the current task; 0 on trio.

    This is the only place that knows asyncio: only its tasks know of native cancels (E6, R3). The
    module is looked up and not imported: a program that runs on asyncio has loaded it.
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
    """Return how many native cancel requests the current task has; 0 on trio."""
    return cancel_counter()()


def is_being_cancelled(handled: BaseException | None = None) -> bool:
    """Return whether the caller is being cancelled, by a scope or natively; in doubt, True (E6).

    A task that cleans up after a native cancel, perhaps in a shield, still has that cancel request.
    If `handled` shows this, the task's requests don't count.

    Args:
        handled: the exception that the caller was handling before it called a handler, or None.
    """
    return effectively_cancelled() or (cancel_requests() > 0 and not _shows_cancellation(handled))


def _shows_cancellation(exception: BaseException | None) -> bool:
    return any(split(each)[0] is not None for each in contexts(exception))


def contexts(exception: BaseException | None) -> Iterator[BaseException]:
    """Iterate over an exception, the one that was being handled when it was raised, and so on."""
    seen: set[int] = set()  # contexts that were set by hand may form a ring
    while exception is not None and id(exception) not in seen:
        seen.add(id(exception))
        yield exception
        exception = exception.__context__


async def resume_cancellation() -> NoReturn:
    """Raise the cancellation during which a handler failed, so that it goes on (E5)."""
    await checkpoint_if_cancelled()
    # No scope is cancelled, so it was a native cancel. Perhaps it is still to be delivered:
    await checkpoint()
    # Else the handler has received it, and asyncio delivers it only once.
    raise anyio.get_cancelled_exc_class()


async def absorb_native_cancel() -> None:
    """Wait until a native cancel of this task that is still pending has struck, and forget it.

    It would strike the next await of the task; and at the end of the task, asyncio's task group
    would silently cancel the siblings.
    """
    if not effectively_cancelled():
        with suppress(anyio.get_cancelled_exc_class()):
            await checkpoint()


def leaves(exception: BaseException) -> Iterator[BaseException]:
    """Iterate over the exceptions in a group, at any depth; of another exception, over itself."""
    stack = [exception]
    while stack:
        each = stack.pop()
        if isinstance(each, BaseExceptionGroup):
            group = cast("BaseExceptionGroup[BaseException]", each)
            stack += reversed(group.exceptions)
        else:
            yield each
