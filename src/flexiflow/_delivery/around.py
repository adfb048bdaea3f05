"""Calling a handler inside the functions of `around` (A3).

Each function is given `call`, which calls what is inside it: the next function, or the handler.
What leaves a `call` has been judged (E6), so a function sees a `HandlerCancelled` or a
`HandlerTimeout`, and no stray cancellation.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

from inspect import isawaitable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from flexiflow._callables import describe
from flexiflow._cancellation import is_being_cancelled
from flexiflow._delivery.verdict import judge
from flexiflow._limits import await_within
from flexiflow._reporting import log_failure
from flexiflow._subscription import HandlerFailure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import TypeAlias

    from flexiflow._names import Event
    from flexiflow._subscription import Around, Subscription

    _Running: TypeAlias = Coroutine[Any, Any, object]

# Any, since pyright would narrow by the class to a coroutine of unknown types.
_COROUTINE: Final[Any] = CoroutineType


def call_directly(function: Around, event: Event[Any], subscription: Subscription) -> _Running:
    """Return the coroutine of the only function around a handler, with the handler inside.

    The handler is a coroutine function, and its subscription is not `once` and has no terms, other
    than the function. `call_inside` would do the same in a third more time. Both are on the ways
    that `tests/bus/test_every_way.py` compares.
    """
    # The coroutine of the function, while no call of it runs.
    idle: Any = None

    async def call() -> None:
        nonlocal idle
        caller = idle
        if caller is None or not (caller.cr_running or caller.cr_suspended):
            raise RuntimeError(_refusal(function, is_running=caller is None))
        idle = None
        try:
            if subscription.active:
                handler: Any = subscription.handler
                await handler(event.data)
        except BaseException as exc:
            raise _judge(exc, subscription.handler, event, subscription)
        finally:
            idle = caller

    started: Any = function(event, subscription, call)
    coroutine: _Running = started if type(started) is _COROUTINE else _as_coroutine(started)
    idle = coroutine
    return coroutine


def call_inside(
    functions: tuple[Around, ...], event: Event[Any], subscription: Subscription
) -> _Running:
    """Return the coroutine of the first function, with the others and the handler inside.

    A plain function with a closure: a coroutine around this one, or an object with `__call__`,
    would cost as much as a handler.

    Args:
        functions: the outermost first; at least one.
        event: what is published.
        subscription: the handler's subscription.
    """
    idle: Any = None

    async def call() -> None:
        nonlocal idle
        caller = idle
        if caller is None or not (caller.cr_running or caller.cr_suspended):
            raise RuntimeError(_refusal(functions[0], is_running=caller is None))
        idle = None
        inner: Any = subscription.handler
        try:
            if len(functions) > 1:
                inner = functions[1]
                await call_inside(functions[1:], event, subscription)
            elif subscription.active or subscription.once:
                await _call_handler(subscription, event.data)
        except BaseException as exc:
            raise _judge(exc, inner, event, subscription)
        finally:
            idle = caller

    started: Any = functions[0](event, subscription, call)
    coroutine: _Running = started if type(started) is _COROUTINE else _as_coroutine(started)
    idle = coroutine
    return coroutine


async def _as_coroutine(awaitable: Awaitable[object]) -> object:
    # A function that was marked as a coroutine function, or compiled, may return any awaitable.
    return await awaitable


async def _call_handler(subscription: Subscription, data: Any) -> None:
    handler: Callable[[Any], object] = subscription.handler
    result = handler(data)
    if result is None or not isawaitable(result):
        return
    terms = subscription._terms
    if terms is None or terms.time_limit is None:
        await result
    else:
        await await_within(result, terms.time_limit, describe(handler))


def _judge(
    exception: BaseException,
    culprit: Callable[..., object],
    event: Event[Any],
    subscription: Subscription,
) -> BaseException:
    """Return what a `call` raises in place of an exception (E6, E8)."""
    # Native cancels of the task count, too: a function may have set a timeout of asyncio. What
    # leaves the outermost function is judged as what leaves a handler is.
    verdict = judge(exception, culprit, cancelled=is_being_cancelled)
    failure = verdict.failure
    try:
        if failure is None or verdict.cancellation is None:
            return verdict.leaving
        # A function might swallow the failure, and the cancellation with it (E5).
        log_failure(HandlerFailure(event.name, subscription.component_name, failure, subscription))
        return verdict.cancellation
    finally:
        del exception, failure, verdict  # their tracebacks hold this frame (B6)


def _refusal(function: Callable[..., object], *, is_running: bool) -> str:
    when = "while its last call still ran" if is_running else "after it had returned"
    return (
        f"{describe(function)} called the handler {when}; a function in around may call it several "
        "times, one after another, until it returns"
    )
