"""Checks of arguments, made before anything is changed (B3)."""

from __future__ import annotations

import math
import reprlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from flexiflow._callables import check_callable, describe, is_coroutine_callable
from flexiflow._limits import Limiter
from flexiflow._names import (
    check_component_name,
    check_is_event,
    check_is_query,
    check_subscribed_name,
)
from flexiflow._subscription import Terms

if TYPE_CHECKING:
    from typing import TypeVar

    from flexiflow._subscription import Around

    _T = TypeVar("_T")

# They can be iterated over, and are no list of functions.
_NO_LISTS: Final[tuple[type, ...]] = (str, bytes, Mapping)

# The largest count. Lua writes numbers with 14 digits; SQLite and `islice` have limits too.
_MOST: Final = 10**12


def check_subscription(
    event: object,
    component: object,
    handler: object,
    *,
    priority: object,
    filter: object,
    time_limit: object,
    limit: object,
) -> None:
    """Check the arguments of `EventBus.subscribe`, and raise what it raises."""
    check_options(event, priority=priority, filter=filter, time_limit=time_limit, limit=limit)
    if not isinstance(component, str):
        raise TypeError(
            f"a component's name must be a str, not {reprlib.repr(component)}; the call is "
            "subscribe('order.placed', 'billing', handler)"
        )
    check_component_name(component)
    check_callable("handler", handler, 1)


def check_options(
    event: object, *, priority: object, filter: object, time_limit: object, limit: object
) -> None:
    """Check a subscription's arguments, except for its component and handler."""
    check_is_event(event, "answer it with bus.answer or @answers, and ask it with bus.ask")
    check_subscribed_name(event)
    check_int("priority", priority, "1 (first) to 5 (last)", least=1, most=5)
    check_terms(time_limit=time_limit, limit=limit)
    if filter is None:
        return
    check_callable("filter", filter, 2)
    if is_coroutine_callable(filter):
        raise TypeError(f"a filter must be a plain function, but {describe(filter)} is async")


def check_answer(
    query: object, component: object, handler: object, *, time_limit: object, limit: object
) -> None:
    """Check the arguments of `EventBus.answer`, and raise what it raises."""
    check_query(query, time_limit=time_limit, limit=limit)
    check_component_name(component)
    check_callable("handler", handler, 1)


def check_query(query: object, *, time_limit: object, limit: object) -> None:
    """Check an answerer's arguments, except for its component and handler."""
    check_is_query(query, "subscribe to it with bus.subscribe or @on, and publish it")
    check_terms(time_limit=time_limit, limit=limit)


def check_terms(*, time_limit: object, limit: object) -> None:
    """Check the terms of a subscription or an answerer."""
    if time_limit is not None:
        check_seconds("time_limit", time_limit)
    if limit is not None:
        check_int("limit", limit, "1 or more calls at once", least=1)


def make_terms(
    *, time_limit: float | None, limit: int | None, around: tuple[Around, ...] = ()
) -> Terms | None:
    """Return the terms of a subscription, or None if it has none."""
    if time_limit is limit is None and not around:
        return None
    return Terms(None if limit is None else Limiter(limit), time_limit, around=around)


def make_answer_terms(*, time_limit: float | None, limit: int | None) -> Terms:
    """Return the terms of an answerer."""
    return Terms(None if limit is None else Limiter(limit), time_limit, answers=True)


def check_around(around: Any) -> tuple[Around, ...]:
    """Return the functions around a handler as a tuple (A3).

    Raises:
        TypeError: they are not several async functions with three arguments.
    """
    if issubclass(type(around), _NO_LISTS) or not hasattr(around, "__iter__"):
        raise TypeError(
            "around must be a list of async functions, like [in_transaction], "
            f"not {reprlib.repr(around)}"
        )
    functions: tuple[Any, ...] = tuple(around)
    for each in functions:
        check_callable("a function in around", each, 3)
        if not is_coroutine_callable(each):
            raise TypeError(f"a function in around must be async, but {describe(each)} is not")
    return functions


def check_buffer(buffer: object, overflow: str) -> None:
    """Check how many events a stream's buffer may hold."""
    if overflow == "block":
        check_int("buffer", buffer, "0 or more events", least=0)
    else:
        check_int("buffer", buffer, f"1 or more events where overflow is {overflow!r}", least=1)


def choose(option: str, given: str, choices: Mapping[str, _T]) -> _T:
    """Return what an option stands for.

    Raises:
        ValueError: `given` is not one of the choices, which the message lists.
    """
    try:
        return choices[given]
    except (KeyError, TypeError):
        allowed = ", ".join(map(repr, choices))
        raise ValueError(f"{option} must be one of {allowed}, not {reprlib.repr(given)}") from None


def check_int(what: str, given: object, allowed: str, *, least: int, most: float = math.inf) -> int:
    """Return an int that is within a range.

    Args:
        what: the argument's name, for the message.
        given: the argument.
        allowed: the range in words, for the message.
        least: the smallest int allowed.
        most: the largest int allowed.

    Raises:
        ValueError: it is not an int, or out of range; a bool does not count as an int.
    """
    if not isinstance(given, int) or isinstance(given, bool) or not least <= given <= most:
        raise ValueError(f"{what} must be an int, {allowed}, not {reprlib.repr(given)}")
    return given


def check_count(what: str, given: object) -> int:
    """Return an int from 1 to 10**12, a range that every transport can count in.

    Raises:
        ValueError: it is not an int, or out of range.
    """
    return check_int(what, given, f"1 to {_MOST:,}", least=1, most=_MOST)


def check_seconds(what: str, given: object, *, zero: bool = False) -> None:
    """Check a number of seconds: more than 0, and perhaps infinite.

    Args:
        what: the argument's name, for the message.
        given: the argument.
        zero: whether 0 is allowed, too.

    Raises:
        ValueError: it is not an int or a float, or out of range; a bool does not count as either.
    """
    if (
        not isinstance(given, int | float)
        or isinstance(given, bool)
        or not (0 < given <= sys.float_info.max or given == math.inf or (zero and given == 0))
    ):
        allowed = "0 or more" if zero else "more than 0"
        raise ValueError(
            f"{what} must be a number of seconds, {allowed}, not {reprlib.repr(given)}"
        )


def check_finite(what: str, given: object, *, least: float | None = None) -> float:
    """Return a duration in seconds, if it is valid.

    Args:
        what: the argument's name, for the message.
        given: the duration.
        least: the shortest that is valid; None for any that is more than 0.

    Raises:
        ValueError: it is no number, is too short, or is not finite.
    """
    if (
        isinstance(given, bool)
        or not isinstance(given, int | float)
        or not (given > 0 if least is None else given >= least)
        or given > sys.float_info.max
    ):
        allowed = "more than 0" if least is None else f"{least} or more"
        raise ValueError(
            f"{what} must be a finite number of seconds, {allowed}, not {reprlib.repr(given)}"
        )
    return float(given)
