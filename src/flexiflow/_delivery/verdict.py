"""What leaves a handler: a failure, the cancellation of publish itself, or neither (E5, E6, E8).

A cancellation exception alone proves little: a handler also raises one if it awaits a task that
someone else has cancelled. So `judge` asks whether publish itself is being cancelled. If it is, the
cancellation must go on; if not, it is the handler's failure, a `HandlerCancelled`.

Sequential delivery does this in two steps. `assess` judges, inside the `except` that caught what
left the handler: it raises what must leave publish, and returns what is to be reported. After the
`except`, `report` logs and announces that. Concurrent delivery judges in the handler's own task.
"""

from __future__ import annotations

import sys
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, final

from anyio.lowlevel import checkpoint

from flexiflow._callables import describe
from flexiflow._cancellation import (
    effectively_cancelled,
    is_being_cancelled,
    resume_cancellation,
    split,
)
from flexiflow._errors import HandlerCancelled
from flexiflow._reporting import log_failure
from flexiflow._subscription import HandlerFailure

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from flexiflow._reporting import Announce
    from flexiflow._subscription import Subscription

    Failures: TypeAlias = tuple[HandlerFailure, ...]


@final
class Verdict:
    """What an exception that left a handler turned out to be.

    Attributes:
        failure: the handler's failure, or None.
        cancellation: publish's own cancellation, which must go on, or None.
        leaving: what to raise if nothing is to be reported: the failure, else the cancellation,
            else the exception itself, which then is neither, like KeyboardInterrupt.
    """

    __slots__ = ("cancellation", "failure", "leaving")

    def __init__(
        self,
        failure: Exception | None,
        cancellation: BaseException | None,
        leaving: BaseException,
    ) -> None:
        self.failure = failure
        self.cancellation = cancellation
        self.leaving = leaving


def judge(
    exception: BaseException, function: Callable[..., object], *, cancelled: Callable[[], bool]
) -> Verdict:
    """Judge what left a handler, or another function of a user.

    Args:
        exception: what left it.
        function: the handler, for the message of `HandlerCancelled`.
        cancelled: returns whether publish is being cancelled (E6).
    """
    if isinstance(exception, Exception):
        return Verdict(exception, None, exception)
    if isinstance(exception, GeneratorExit):  # perhaps no event loop is left to ask
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
    """Call a guard, an action or a factory, and return its result, awaited if it is awaitable.

    An exception that leaves the function is judged as if it had left a handler (E6, E8).
    """
    try:
        result = function(*arguments)
        return await result if isawaitable(result) else result
    except BaseException as exc:
        raise judge(exc, function, cancelled=is_being_cancelled).leaving


@final
class Trouble:
    """A failure that is to be reported; it can be taken out once.

    The traceback of an exception holds the frame of the publish. If the frame held the exception
    too, both would stay in memory until the garbage collector runs (B6).

    Args:
        failure: what is to be reported.
        cancellation: publish's own cancellation, if it came with the failure, or None.
    """

    __slots__ = ("_held",)

    def __init__(self, failure: Exception, cancellation: BaseException | None) -> None:
        self._held = [(failure, cancellation)]

    def take(self) -> tuple[Exception, BaseException | None]:
        """Return the failure and the cancellation, and forget them."""
        return self._held.pop()


def assess(exception: BaseException, subscription: Subscription, *, raises: bool) -> Trouble:
    """Judge what left a handler; call it within the `except` that caught that.

    Returns:
        The failure, to be passed to `report`.

    Raises:
        BaseException: what must leave publish at once: a cancellation, an interrupt, or, if
            `raises`, the failure.
    """
    verdict = judge(exception, subscription.handler, cancelled=is_being_cancelled)
    try:
        if verdict.failure is None or raises:
            raise verdict.leaving
        return Trouble(verdict.failure, verdict.cancellation)
    finally:
        del exception, verdict  # their tracebacks hold this frame (B6)


async def report(
    name: str, subscription: Subscription, trouble: Trouble, announce: Announce
) -> HandlerFailure:
    """Log a failure and announce it (E1), or go on with publish's cancellation (E5).

    Call it after the `except` that caught the failure, so that `sys.exception()` is what the
    publisher was handling.

    Raises:
        BaseException: publish is being cancelled; the failure has been logged only.
    """
    failure, cancellation = trouble.take()
    failed = HandlerFailure(name, subscription.component_name, failure, subscription)
    log_failure(failed)
    if cancellation is not None:
        try:
            raise cancellation
        finally:
            del failure, cancellation, failed  # their tracebacks hold this frame (B6)
    if is_being_cancelled(sys.exception()):
        if not effectively_cancelled():
            # On asyncio a deadline throws a cancellation into the task. While that passes through,
            # `sys.exception()` does not show what the frames around are handling.
            await checkpoint()
        if is_being_cancelled(sys.exception()):
            await resume_cancellation()
    await announce(failed)
    return failed
