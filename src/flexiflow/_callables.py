"""Checking and naming the callables of users: handlers, filters, guards, actions, factories."""

from __future__ import annotations

import functools
import inspect
import reprlib
import sys
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, TypeGuard

from flexiflow._text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import CoroutineType

# The modules of functions that run their first argument, in a thread, a process or the loop.
_RUNNERS = frozenset(
    {
        *("anyio.from_thread", "anyio.to_interpreter", "anyio.to_process", "anyio.to_thread"),
        *("asyncio.threads", "trio", "trio.from_thread", "trio.to_thread", "trio._threads"),
    }
)

_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR

# Since Python 3.14 annotations are evaluated when they are read, and may use names that are
# imported for type checkers only. 4 is annotationlib.Format.STRING, which evaluates none of them.
_ANNOTATIONS_UNREAD: dict[str, Any] = (
    {"annotation_format": 4} if sys.version_info >= (3, 14) else {}
)


def check_callable(role: str, fn: object, arguments: int) -> None:
    """Check that a callable can be called as its role demands (B3).

    A callable that shows no signature, like some builtins, is accepted.

    Args:
        role: what messages call it: "handler", "guard", ...
        fn: what was given.
        arguments: how many positional arguments it will be called with; there are no others.

    Raises:
        TypeError: it is not callable, is a coroutine object, is a generator or async generator
            function (also behind partials, as a method or as `__call__`), or can't be called with
            that many positional arguments.
    """
    if _fits_at_a_glance(fn, arguments):
        return
    if inspect.iscoroutine(fn):
        raise TypeError(_called_too_early(role, fn))
    if not callable(fn):
        raise TypeError(f"{role} must be callable with {_count(arguments)}, not {reprlib.repr(fn)}")
    if _is_generator_function(fn):
        raise TypeError(
            f"{role} must be a plain or async function, but {describe(fn)} is a generator function"
        )
    signature = _signature(fn)
    if signature is not None and not _takes(signature, arguments):
        shown = f"{describe(fn)}{_outline(signature)}"
        raise TypeError(f"{role} is called with {_count(arguments)}, which {shown} does not take")


def is_coroutine_callable(fn: object) -> bool:
    """Return whether calling `fn` always returns a coroutine.

    It does if `fn` is a coroutine function, also behind partials, as a bound method or as the
    `__call__` of an object. That a sync callable returns an awaitable can't be known beforehand.
    """
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(_code_bearer(fn))


def is_coroutine_function(fn: object) -> TypeGuard[Callable[..., Coroutine[Any, Any, object]]]:
    """Return whether `fn` is plainly a coroutine function, or a bound method that is one.

    This is a quick check: it does not look into partials or callable objects, and returns False for
    them, even if calling them returns a coroutine.
    """
    if type(fn) is MethodType:
        fn = fn.__func__
    return type(fn) is FunctionType and bool(fn.__code__.co_flags & inspect.CO_COROUTINE)


def describe(fn: object) -> str:
    """Return a callable's name for a message or a log line; no user's `__repr__` is called.

    A partial is named after the function that it calls. If that runs another function in a thread
    or a process, the name is that function's: `parse` for
    `partial(anyio.to_thread.run_sync, parse)`.
    """
    try:
        name = getattr(_named(fn), "__qualname__", None)
    except Exception:  # noqa: BLE001  this is called while a failure is reported, and must not fail
        name = None
    return name if isinstance(name, str) and name else type(fn).__qualname__


def _fits_at_a_glance(fn: object, arguments: int) -> bool:
    """Return whether a function's code alone shows that it fits; `inspect` is 20 times slower."""
    if type(fn) is MethodType:
        fn, arguments = fn.__func__, arguments + 1
    if type(fn) is not FunctionType or hasattr(fn, "__signature__"):
        return False
    code = fn.__code__
    needed = code.co_argcount - len(fn.__defaults__ or ())
    return (
        needed <= arguments <= code.co_argcount
        and not code.co_kwonlyargcount
        and not code.co_flags & _GENERATOR
    )


def _called_too_early(role: str, coroutine: CoroutineType[Any, Any, Any]) -> str:
    if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
        # Else Python would add its warning "was never awaited" to this message.
        coroutine.close()
    name = coroutine.__name__
    return (
        f"{role} must be a function, not the coroutine that calling one gives; did you call it? "
        f"give {name}, not {name}(...)"
    )


def _is_generator_function(fn: object) -> bool:
    bearer = _code_bearer(fn)
    return inspect.isgeneratorfunction(bearer) or inspect.isasyncgenfunction(bearer)


def _code_bearer(fn: object) -> object:
    """Return what runs when `fn` is called, behind partials, bound methods and `__call__`."""
    inner = _unbound(fn)
    return inner if isinstance(inner, FunctionType | type) else _unbound(type(inner).__call__)


def _unbound(fn: object) -> object:
    inner = _without_partials(fn)
    return _unbound(inner.__func__) if isinstance(inner, MethodType) else inner


def _named(fn: object) -> object:
    while isinstance(fn, functools.partial):
        is_runner = getattr(fn.func, "__module__", None) in _RUNNERS
        fn = fn.args[0] if is_runner and fn.args and callable(fn.args[0]) else fn.func
    return fn


def _without_partials(fn: object) -> object:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return fn


def _signature(fn: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(fn, follow_wrapped=False, **_ANNOTATIONS_UNREAD)
    except (TypeError, ValueError):
        return None


def _takes(signature: inspect.Signature, arguments: int) -> bool:
    try:
        signature.bind(*(None,) * arguments)
    except TypeError:
        return False
    return True


def _outline(signature: inspect.Signature) -> str:
    """Show a signature's names and kinds only: defaults and annotations have users' `__repr__`."""
    bare = [
        parameter.replace(
            annotation=parameter.empty,
            default=parameter.empty if parameter.default is parameter.empty else ...,
        )
        for parameter in signature.parameters.values()
    ]
    return str(inspect.Signature(bare)).replace("=Ellipsis", "=...")


def _count(arguments: int) -> str:
    return counted(arguments, "positional argument")
