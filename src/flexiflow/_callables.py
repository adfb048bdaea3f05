"""What may be handed over to be called: handlers, filters, guards, actions, factories."""

from __future__ import annotations

import functools
import inspect
import reprlib
import sys
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import CoroutineType

# The modules of functions that run the first one of their arguments.
_RUNNERS = frozenset(
    {
        *("anyio.from_thread", "anyio.to_interpreter", "anyio.to_process", "anyio.to_thread"),
        *("asyncio.threads", "trio", "trio.from_thread", "trio.to_thread", "trio._threads"),
    }
)

_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR

# Since Python 3.14 annotations run when they are asked for, and may name what only a type checker
# imports. 4 is annotationlib.Format.STRING, which runs none of them.
_ANNOTATIONS_UNREAD: dict[str, Any] = (
    {"annotation_format": 4} if sys.version_info >= (3, 14) else {}
)


def check_callable(role: str, fn: object, arguments: int) -> None:
    """Refuse what could not be called as the role demands, before anything is changed (B3).

    Args:
        role: what it is to be, as messages call it: "handler", "guard", ...
        fn: what was given.
        arguments: How many positional arguments it will be called with, and nothing else.

    Raises:
        TypeError: it is not callable, is a coroutine object, is a generator or async generator
            function in any guise, or does not take that many positional arguments. A callable
            that shows no signature, as some builtins do, is accepted.
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
    """Tell whether calling it can only give a coroutine.

    True of a coroutine function, also behind partials, as a bound method or as the `__call__` of
    an object. A sync callable that happens to return an awaitable can't be told beforehand.
    """
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(_code_bearer(fn))


def is_coroutine_function(fn: object) -> TypeGuard[Callable[..., Coroutine[Any, Any, object]]]:
    """Tell at a glance whether it is a coroutine function, or a method that is one.

    False of what would have to be looked into, which may give a coroutine all the same.
    """
    if type(fn) is MethodType:
        fn = fn.__func__
    return type(fn) is FunctionType and bool(fn.__code__.co_flags & inspect.CO_COROUTINE)


def describe(fn: object) -> str:
    """Name a callable for a message or a log line, without calling any `__repr__` of a user.

    A partial has the name of the function that it calls; where that one runs another function in a
    thread or a process, the name of that, as `parse` in `partial(anyio.to_thread.run_sync, parse)`.
    """
    try:
        name = getattr(_named(fn), "__qualname__", None)
    except Exception:  # noqa: BLE001  a name is asked for where a failure is being reported
        name = None
    return name if isinstance(name, str) and name else type(fn).__qualname__


def _fits_at_a_glance(fn: object, arguments: int) -> bool:
    """Accept the commonest callables by their code alone: inspect takes twenty times as long."""
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
        # Left alone it would add its own "was never awaited" to this message.
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
    """Find what runs when `fn` is called: through partials, bound methods and `__call__`."""
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
    """Show names and kinds only: defaults and annotations have a `__repr__` of the user's."""
    bare = [
        parameter.replace(
            annotation=parameter.empty,
            default=parameter.empty if parameter.default is parameter.empty else ...,
        )
        for parameter in signature.parameters.values()
    ]
    return str(inspect.Signature(bare)).replace("=Ellipsis", "=...")


def _count(arguments: int) -> str:
    return f"{arguments} positional argument{'s' * (arguments != 1)}"
