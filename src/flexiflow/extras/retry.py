"""Retrying async functions, such as handlers, on asyncio and on trio (R1 to R8).

The first attempt is a plain call. If it fails and may be retried, tenacity counts the further
attempts, and waits and logs between them.
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
from itertools import pairwise, takewhile
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
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled

from flexiflow._callables import check_callable, describe, is_coroutine_callable
from flexiflow._cancellation import contexts, is_being_cancelled, leaves, split
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
    """How often to try, how long to wait in between, and which exceptions to retry (R1, R7).

    The delay after attempt ``n`` is ``base_delay * backoff ** (n - 1)`` seconds, or what `delay`
    returns, plus the jitter, and at most ``max_delay``.

    Attributes:
        max_attempts: attempts in all, the first included; an int of 1 or more, 1 for no retry.
        base_delay: seconds between the first attempt and the second; finite, 0 or more.
        jitter: each delay is extended by up to this many seconds, uniformly random; finite, 0 or
            more.
        backoff: each delay is this many times the one before; finite, 1.0 or more (R7).
        max_delay: the longest delay in seconds, jitter included; 0 or more, None for no cap.
        retry_on: the exceptions to retry: a subclass of `Exception`, a tuple of such, or a function
            that takes an exception and returns whether to retry it. An exception group is retried
            if each exception in it, at any depth, would be; so `ExceptionGroup` itself matches
            nothing here (R4). What the function raises ends the call, with the failure as context.
        total_time: seconds from the first attempt; no delay begins that would end after them, and
            the last exception is raised; 0 or more, None for no end (R7).
        delay: takes the number of the attempt, from 1, and its exception, and returns the seconds
            until the next one, in place of `base_delay` and `backoff`; for example what a server's
            `Retry-After` says (R7). The call ends with a `ValueError` if that is no finite number,
            or below 0; its cause is the failure.

    Raises:
        ValueError: a number is out of its range, or `retry_on` is an empty tuple.
        TypeError: `retry_on` is, or holds, something other than a subclass of `Exception`, and is
            no function of an exception; `delay` is no function of two arguments; or one of them is
            async.

    Example:
        >>> from flexiflow.extras.retry import RetryConfig
        >>> config = RetryConfig(max_attempts=5, base_delay=0.5, backoff=2.0, max_delay=3.0)
        >>> print(config.max_attempts, config.jitter)
        5 0.0
    """

    max_attempts: int = 3
    base_delay: float = 1.0
    jitter: float = 0.0
    backoff: float = 1.0
    max_delay: float | None = None
    retry_on: type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool] = (
        Exception
    )
    total_time: float | None = None
    delay: Callable[[int, Exception], float] | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        for field, (fits, allowed) in _NUMBERS.items():
            value = getattr(self, field)
            if not fits(value):
                raise ValueError(f"{field} must be {allowed}, not {reprlib.repr(value)}")
        retry_on: Any = self.retry_on
        is_function = callable(retry_on) and not isinstance(retry_on, type)
        if not is_function:
            _check_types(retry_on)
        else:
            _check_function("retry_on", retry_on, 1)
        if self.delay is not None:
            _check_function("delay", self.delay, 2)


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
    "total_time": (_is_cap, "a number of seconds, 0 or more, or None for no end"),
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
                "retry_on must be a subclass of Exception, a tuple of them, or a function of an "
                f"exception, and {reprlib.repr(kind)} is none of these"
            )


def _check_function(field: str, function: object, arguments: int) -> None:
    check_callable(field, function, arguments)
    if is_coroutine_callable(function):
        raise TypeError(f"{field} must be a plain function, but {describe(function)} is async")


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
        begun = 0.0 if config.total_time is None else anyio.current_time()
        try:
            try:
                return await function(*args, **kwargs)
            except _FAILURES as exc:
                decided = _Call(describe(function), config, begun)
                if not decided.goes_on(exc, 1, handled):
                    raise
                attempt = functools.partial(function, *args, **kwargs)
                retries = _retry(attempt, decided, handled, exc)
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


@final
class _Call:
    """A call of which an attempt has failed: decides whether it goes on, and when.

    Args:
        name: the function's name, for the log.
        config: how to retry.
        begun: the event loop's time at the first attempt, if `total_time` is set.

    Attributes:
        delay: the seconds until the next attempt.
    """

    __slots__ = ("_begun", "config", "delay", "name")

    def __init__(self, name: str, config: RetryConfig, begun: float) -> None:
        self.name = name
        self.config = config
        self.delay = 0.0
        self._begun = begun

    def goes_on(self, failure: BaseException, attempt: int, handled: BaseException | None) -> bool:
        """Return whether there is to be a further attempt, and set `delay`.

        There is one if one is left (R1), nothing is being cancelled (R3), all leaves match (R4),
        and the delay would end in time (R7).

        Args:
            failure: what the attempt raised.
            attempt: its number, from 1.
            handled: the exception that the caller was handling when it called, or None.

        Raises:
            ValueError: the user's `delay` returned no finite number, or one below 0.
            TypeError: the user's predicate returned an awaitable.
            Exception: what the user's functions raise.
        """
        config = self.config
        if (
            attempt >= config.max_attempts
            or is_being_cancelled(handled)
            or not all(_matches(leaf, config.retry_on) for leaf in leaves(failure))
        ):
            return False
        self.delay = _delay(config, attempt, failure)
        end = math.inf if config.total_time is None else self._begun + config.total_time
        return end == math.inf or anyio.current_time() + self.delay <= end


async def _retry(
    attempt: Callable[[], Coroutine[Any, Any, _T]],
    decided: _Call,
    handled: BaseException | None,
    failure: BaseException,
) -> _T:
    """Try again after a failed first attempt, until one succeeds or fails for good.

    Args:
        attempt: calls the function with its arguments.
        decided: decides after each failed attempt.
        handled: the exception that the caller was handling when it called, or None.
        failure: what the first attempt raised.
    """
    turns = aiter(_turns(decided))
    state = (await anext(turns)).retry_state
    # Failures are passed to tenacity as results. Exceptions it would judge itself: one that is
    # false would count as none, and its own TryAgain as an order to try again.
    state.set_result(failure)
    last = [failure]
    del failure
    try:
        while True:
            await anext(turns)
            try:
                return await attempt()
            except _FAILURES as exc:
                _forget_earlier_raises(exc)
                if not decided.goes_on(exc, state.attempt_number, handled):
                    raise
                state.set_result(exc)
                last[0] = exc
    except GeneratorExit:  # perhaps no event loop is left to ask
        raise
    except BaseException as exc:
        # An attempt may have turned its cancellation into a failure or a group.
        if split(exc)[0] is not None or is_being_cancelled(handled):
            _add_context(exc, last.pop(), handled)
            if handled is not None:
                await _begin_a_step(exc)
        raise
    finally:
        del handled
        last.clear()
        state.outcome = None  # its traceback holds this frame (B6)


def _turns(decided: _Call) -> AsyncRetrying:
    # Imported by the first call that is retried, so that programs start faster.
    from tenacity import AsyncRetrying, retry_always  # noqa: PLC0415

    return AsyncRetrying(
        sleep=_pause,
        wait=lambda _: decided.delay,
        retry=retry_always,
        before_sleep=functools.partial(_log, decided),
    )


async def _pause(delay: float) -> None:
    await anyio.sleep(delay)
    # If a cancellation comes just as the delay ends, no further attempt may begin (R3).
    await checkpoint_if_cancelled()


def _delay(config: RetryConfig, attempt: int, failure: BaseException) -> float:
    """Return the seconds between this attempt and the next (R1, R7)."""
    if config.delay is None:
        try:
            delay = float(config.base_delay) * float(config.backoff) ** (attempt - 1)
        except OverflowError:
            delay = math.inf if config.base_delay else 0.0
    else:
        # What matched holds only `Exception`s, so it is one, but for a group of an odd class.
        delay = _ask(config.delay, attempt, cast("Exception", failure))
        if not _is_seconds(delay):
            raise ValueError(
                f"the delay after attempt {attempt} must be a finite number of seconds, 0 or more, "
                f"and {describe(config.delay)} returned {reprlib.repr(delay)}"
            ) from failure
    jitter = random.uniform(0, config.jitter)  # noqa: S311  nothing here is secret
    cap = math.inf if config.max_delay is None else config.max_delay
    return min(delay + jitter, cap)


def _log(decided: _Call, state: RetryCallState) -> None:
    failure = state.outcome.result() if state.outcome else None
    logger.warning(
        "attempt %d of %d of %s failed, the next is in %g s: %r",
        state.attempt_number,
        decided.config.max_attempts,
        decided.name,
        state.upcoming_sleep,
        failure,
    )


def _matches(leaf: BaseException, retry_on: Any) -> bool:
    # Both are asked: a class may claim instances that don't inherit from it, even a cancellation.
    if not isinstance(leaf, Exception):
        return False
    if isinstance(retry_on, type | tuple):
        return isinstance(leaf, retry_on)
    answer = _ask(retry_on, leaf)
    if inspect.isawaitable(answer):
        raise TypeError(
            f"retry_on must answer at once, and {describe(retry_on)} returned an awaitable"
        )
    return bool(answer)


def _ask(function: Callable[..., _T], *arguments: object) -> _T:
    """Return what a user's function returns; a coroutine is closed, since nobody awaits it."""
    answer = function(*arguments)
    if inspect.iscoroutine(answer):
        answer.close()
    return answer


def _add_context(
    exception: BaseException, failure: BaseException, handled: BaseException | None
) -> None:
    """Put a failure into an exception's chain of contexts (R8).

    It comes at the end, but before what the caller was handling: the failure's own chain goes on
    with that. No exception of the caller's is changed, nor one that the failure's chain holds.
    """
    kept = {id(each) for first in (failure, handled) for each in contexts(first)}
    ours = list(takewhile(lambda each: id(each) not in kept, contexts(exception)))
    if ours:
        # An exception of a user's may be frozen.
        BaseException.__setattr__(ours[-1], "__context__", failure)


async def _begin_a_step(exception: BaseException) -> None:
    """Let the event loop resume this task once more before a cancellation goes on (R8).

    While Python throws an exception into a task, it replaces its context in each frame that is
    handling another one. It doesn't where the exception was raised after the task was resumed.

    Args:
        exception: what is to leave.

    Raises:
        BaseException: a further native cancel; what it takes the place of is its context.
    """
    try:
        await cancel_shielded_checkpoint()
    except anyio.get_cancelled_exc_class() as further:
        further.__context__ = exception
        await cancel_shielded_checkpoint()
        raise


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
