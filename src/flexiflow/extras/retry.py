"""Retrying async functions, such as handlers, on asyncio and on trio (R1 to R6).

The first attempt is a plain call. Only if it fails and may be retried does tenacity take over
(`_retry`): it counts the attempts, and waits and logs between them. No other module imports it.
"""

from __future__ import annotations

import functools
import inspect
import math
import random
import reprlib
import sys
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import (
    TYPE_CHECKING,
    Any,
    ParamSpec,
    Protocol,
    TypeGuard,
    TypeVar,
    cast,
    final,
    overload,
)

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from flexiflow._callables import describe, is_coroutine_callable
from flexiflow._cancellation import is_being_cancelled, leaves
from flexiflow._reporting import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from types import TracebackType

    from tenacity import AsyncRetrying, RetryCallState

__all__ = ["RetryConfig", "retry_async"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

# What may be retried. An exception group need not be an `Exception` itself.
_FAILURES = (Exception, BaseExceptionGroup)

# Since Python 3.14 annotations are evaluated when they are read, and may use names that are defined
# later. 3 is annotationlib.Format.FORWARDREF, which leaves such a name unevaluated.
_ANNOTATIONS_OPEN: dict[str, Any] = {"annotation_format": 3} if sys.version_info >= (3, 14) else {}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RetryConfig:
    """How often to try, how long to wait in between, and which exceptions to retry (R1).

    The delay after attempt ``n`` is ``base_delay * backoff ** (n - 1)`` seconds, plus the jitter,
    and at most ``max_delay``.

    Attributes:
        max_attempts: attempts in all, the first included; an int of 1 or more, 1 for no retry.
        base_delay: seconds between the first attempt and the second; finite, 0 or more.
        jitter: each delay is extended by up to this many seconds, uniformly random; finite, 0 or
            more.
        backoff: each delay is this many times the one before; finite, 1.0 or more (R7).
        max_delay: the longest delay in seconds, jitter included; 0 or more, None for no cap.
        retry_on: the exceptions to retry: a subclass of `Exception`, or a tuple of such. An
            exception group is retried if each exception in it, at any depth, would be; so
            `ExceptionGroup` itself matches nothing here (R4).

    Raises:
        ValueError: a number is out of its range, or `retry_on` is an empty tuple.
        TypeError: `retry_on` is, or holds, something other than a subclass of `Exception`.
    """

    max_attempts: int = 3
    base_delay: float = 1.0
    jitter: float = 0.0
    backoff: float = 1.0
    max_delay: float | None = None
    retry_on: type[Exception] | tuple[type[Exception], ...] = Exception

    def __post_init__(self) -> None:
        """Check every field."""
        for field, (fits, allowed) in _NUMBERS.items():
            value = getattr(self, field)
            if not fits(value):
                raise ValueError(f"{field} must be {allowed}, not {reprlib.repr(value)}")
        _check_types(self.retry_on)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_finite(value: object) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    # Compared and not converted, since an int may be too large for a float.
    return -sys.float_info.max <= value <= sys.float_info.max


def _is_seconds(value: object) -> bool:
    return _is_finite(value) and value >= 0


def _is_factor(value: object) -> bool:
    return _is_finite(value) and value >= 1


def _is_cap(value: object) -> bool:
    return value is None or value == math.inf or _is_seconds(value)


_NUMBERS: dict[str, tuple[Callable[[object], bool], str]] = {
    "max_attempts": (_is_count, "an int of 1 or more"),
    "base_delay": (_is_seconds, "a finite number of seconds, 0 or more"),
    "jitter": (_is_seconds, "a finite number of seconds, 0 or more"),
    "backoff": (_is_factor, "a finite number, 1.0 or more"),
    "max_delay": (_is_cap, "a number of seconds, 0 or more, or None for no cap"),
}


def _is_exception_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


def _check_types(retry_on: object) -> None:
    if retry_on == ():
        raise ValueError(
            "retry_on must hold at least one subclass of Exception, not be an empty tuple"
        )
    kinds = cast("tuple[object, ...]", retry_on if isinstance(retry_on, tuple) else (retry_on,))
    for kind in kinds:
        if not _is_exception_class(kind):
            raise TypeError(
                "retry_on must be a subclass of Exception, or a tuple of them: "
                f"{reprlib.repr(kind)} is none"
            )


_DEFAULTS = RetryConfig()


class _Decorator(Protocol):
    """A decorator that makes an async function retry, and keeps its signature."""

    def __call__(
        self, function: Callable[_P, Coroutine[Any, Any, _T]], /
    ) -> Callable[_P, Coroutine[Any, Any, _T]]: ...


@overload
def retry_async(
    function: Callable[_P, Coroutine[Any, Any, _T]], /
) -> Callable[_P, Coroutine[Any, Any, _T]]: ...


@overload
def retry_async(config: RetryConfig = ...) -> _Decorator: ...


def retry_async(config: Any = _DEFAULTS) -> Any:
    """Make an async function try again when it fails.

    Write ``@retry_async(RetryConfig(...))``, or ``@retry_async`` for the defaults. Calls that run
    at the same time share nothing (R5). Each retry is logged as a warning by the logger
    ``flexiflow``, with the attempt, the delay and the exception. After the last attempt the last
    exception is raised, unwrapped (R2).

    Cancellation ends a call at once, during an attempt or a delay. If an attempt turns the
    cancellation into an exception of its own, that is raised and not retried (R3).

    Example:
        >>> from flexiflow.extras.retry import RetryConfig, retry_async
        >>> @retry_async(RetryConfig(max_attempts=5, base_delay=0.2, jitter=0.2))
        ... async def charge(order): ...

    Args:
        config: how to retry.

    Returns:
        A decorator or, for a plain ``@retry_async``, the decorated function. That has the
        function's arguments, result, name, docstring and signature.

    Raises:
        TypeError: the decorated object is not an async function, a partial of one, or an object
            whose ``__call__`` is async (R6).
    """

    def decorate(
        function: Callable[_P, Coroutine[Any, Any, _T]],
    ) -> Callable[_P, Coroutine[Any, Any, _T]]:
        return _retrying(function, config)

    if isinstance(config, RetryConfig):
        return decorate
    return _retrying(config, _DEFAULTS)


def _retrying(
    function: Callable[_P, Coroutine[Any, Any, _T]], config: RetryConfig
) -> Callable[_P, Coroutine[Any, Any, _T]]:
    if not is_coroutine_callable(function):
        raise TypeError(_refusal(function))

    async def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        handled = sys.exception()
        try:
            try:
                return await function(*args, **kwargs)
            except _FAILURES as exc:
                if not _may_retry(exc, 1, config, handled):
                    raise
                attempt = functools.partial(function, *args, **kwargs)
                retries = _retry(attempt, describe(function), config, handled, exc)
            # Awaited only here: within the `except`, each failure would get the first as its
            # context.
            return await retries
        finally:
            del handled  # raised again, its traceback would hold this frame (B6)

    _dress(call, function)
    return call


def _refusal(function: object) -> str:
    if inspect.iscoroutine(function):
        given = "a coroutine; did you call the function?"
    elif callable(function):
        given = f"{describe(function)}, which is not async"
    else:
        given = reprlib.repr(function)
    return (
        "retry_async takes an async function, a partial of one, or an object with an async "
        f"__call__, not {given}"
    )


def _dress(call: Callable[..., Any], function: Callable[..., Any]) -> None:
    """Copy the function's name, docstring and signature to the wrapper (R2)."""
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    if hasattr(inner, "__name__"):
        functools.update_wrapper(call, inner)
    else:
        functools.update_wrapper(call, type(inner).__call__)
        call.__name__ = type(inner).__name__
        call.__qualname__ = type(inner).__qualname__
        call.__doc__ = inner.__doc__
    vars(call)["__wrapped__"] = function
    with suppress(TypeError, ValueError):  # some objects show no signature
        vars(call)["__signature__"] = inspect.signature(function, **_ANNOTATIONS_OPEN)


async def _retry(
    attempt: Callable[[], Coroutine[Any, Any, _T]],
    name: str,
    config: RetryConfig,
    handled: BaseException | None,
    failure: BaseException,
) -> _T:
    """Try again after a failed first attempt, until one succeeds or fails for good.

    Args:
        attempt: calls the function with its arguments.
        name: the function's name, for the log.
        config: how to retry.
        handled: the exception that the caller was handling when it called, or None.
        failure: what the first attempt raised.
    """
    turns = aiter(_turns(name, config))
    state = (await anext(turns)).retry_state
    # Failures are passed to tenacity as results. Exceptions it would judge itself: one that is
    # false would count as none, and its own TryAgain as an order to try again.
    state.set_result(failure)
    del failure
    try:
        while True:
            await anext(turns)
            try:
                return await attempt()
            except _FAILURES as exc:
                _forget_earlier_raises(exc)
                if not _may_retry(exc, state.attempt_number, config, handled):
                    raise
                state.set_result(exc)
    finally:
        del handled
        state.outcome = None  # its traceback holds this frame (B6)


def _turns(name: str, config: RetryConfig) -> AsyncRetrying:
    # Imported by the first call that is retried, so that programs start faster.
    from tenacity import AsyncRetrying, retry_always  # noqa: PLC0415

    return AsyncRetrying(
        sleep=_pause,
        wait=lambda state: _delay(config, state.attempt_number),
        retry=retry_always,
        before_sleep=functools.partial(_log, name, config),
    )


async def _pause(delay: float) -> None:
    await anyio.sleep(delay)
    # If a cancellation comes just as the delay ends, no further attempt may begin (R3).
    await checkpoint_if_cancelled()


def _delay(config: RetryConfig, attempt: int) -> float:
    """Return the seconds between this attempt and the next (R1)."""
    try:
        delay = float(config.base_delay) * float(config.backoff) ** (attempt - 1)
    except OverflowError:
        delay = math.inf if config.base_delay else 0.0
    jitter = random.uniform(0, config.jitter)  # noqa: S311  nothing here is secret
    cap = math.inf if config.max_delay is None else config.max_delay
    return min(delay + jitter, cap)


def _log(name: str, config: RetryConfig, state: RetryCallState) -> None:
    failure = state.outcome.result() if state.outcome else None
    logger.warning(
        "attempt %d of %d of %s failed, the next is in %g s: %r",
        state.attempt_number,
        config.max_attempts,
        name,
        state.upcoming_sleep,
        failure,
    )


def _may_retry(
    failure: BaseException, attempt: int, config: RetryConfig, handled: BaseException | None
) -> bool:
    """Return whether an attempt is left (R1), all leaves match (R4), and nothing is cancelled (R3).

    Args:
        failure: what the attempt raised.
        attempt: its number, from 1.
        config: how to retry.
        handled: the exception that the caller was handling when it called, or None.
    """
    return (
        attempt < config.max_attempts
        and all(_matches(leaf, config) for leaf in leaves(failure))
        and not is_being_cancelled(handled)
    )


def _matches(leaf: BaseException, config: RetryConfig) -> bool:
    # Both are asked: a class may claim instances that don't inherit from it, even a cancellation.
    return isinstance(leaf, Exception) and isinstance(leaf, config.retry_on)


def _forget_earlier_raises(exception: BaseException) -> None:
    """Drop the entries of earlier attempts from the traceback of an exception raised repeatedly.

    Python puts the entries of each raise before the old ones, so the traceback would grow with each
    attempt.
    """
    entries = list(_entries(exception.__traceback__))
    for entry, following in pairwise(entries):
        if following.tb_frame is entries[0].tb_frame:
            entry.tb_next = None


def _entries(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next
