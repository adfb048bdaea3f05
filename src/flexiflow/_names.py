"""Names of events and queries, which are non-empty segments joined by dots, and of components.

A topic is a typed event name or pattern (T1), a query the typed name of a question (A1). An `Event`
is what is published under a name.
"""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Self, TypeVar, final

from flexiflow._text import show

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
A = TypeVar("A")

ONE = "*"
REST = "**"

_VERBS: Final = {"an event": "publish to", "a query": "ask or answer"}

_CHARACTERS: Final = 32
"""This many characters of a name count as much as one more name (`room`)."""


def check_event_name(name: object) -> str:
    """Return `name` if it can be published, else raise a ValueError or TypeError (B3)."""
    return ".".join(_segments(name, patterns=False))


def check_query_name(name: object) -> str:
    """Return `name` if it can be a query's, else raise a ValueError or TypeError (A1, B3)."""
    return ".".join(_segments(name, patterns=False, kind="a query"))


def check_subscribed_name(name: object) -> str:
    """Return `name` if it can be subscribed to, as a name or a pattern, else raise (B3, B10)."""
    return ".".join(_segments(name, patterns=True))


def is_pattern(name: str) -> bool:
    """Return whether a valid name has a wildcard."""
    return ONE in name


def room(name: str) -> int:
    """Return how much room a name takes among remembered names; a short one takes 1 (B10).

    A bound on the room bounds the number of names and their characters together.
    """
    return 1 + len(name) // _CHARACTERS


def check_component_name(name: object) -> str:
    """Return `name` if it can be a component's name, else raise a ValueError or TypeError (B3)."""
    if not isinstance(name, str):
        raise TypeError(f"a component's name must be a str, not {reprlib.repr(name)}")
    if not name:
        raise ValueError("a component's name must not be empty")
    return name


def _segments(name: object, *, patterns: bool, kind: str = "an event") -> list[str]:
    if not isinstance(name, str):
        raise TypeError(f"{kind} name must be a str, not {reprlib.repr(name)}")
    segments = name.split(".")
    if not all(segments):
        raise ValueError(
            f"malformed {kind.split()[1]} name {show(name)}: it must be non-empty segments joined "
            "by dots, like 'order.placed'"
        )
    if ONE in name:
        _check_wildcards(name, segments, patterns=patterns, kind=kind)
    return segments


def _check_wildcards(name: str, segments: list[str], *, patterns: bool, kind: str) -> None:
    if not patterns:
        raise ValueError(
            f"can't {_VERBS[kind]} the pattern {show(name)}: {kind}'s name has no wildcard"
        )
    if any(ONE in segment and segment not in (ONE, REST) for segment in segments):
        raise ValueError(
            f"malformed pattern {show(name)}: a wildcard is a segment of its own, '*' or '**'"
        )
    if REST in segments[:-1]:
        raise ValueError(f"malformed pattern {show(name)}: '**' may only be the last segment")


# For type checkers neither a topic nor a query is a str: else the overloads for plain names would
# match it.
if TYPE_CHECKING:

    class _Name:
        # They may be compared with plain names.
        def __eq__(self, other: object, /) -> bool: ...

        def __hash__(self) -> int: ...

else:
    _Name = str


@final
class Event(NamedTuple, Generic[T]):
    """A named occurrence with a payload.

    Attributes:
        name: the name that was published, never a pattern.
        data: the payload, the very object that was published.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> async def main():
        ...     bus = EventBus()
        ...     async with bus.expect("order.*") as expected:
        ...         await bus.publish("order.placed", "A7")
        ...         event = await expected
        ...     print(event.name, event.data)
        >>> anyio.run(main)
        order.placed A7
    """

    name: str
    data: T


_tuple: Any = tuple
make_event: Final[Callable[[type[Event[Any]], tuple[str, object]], Event[Any]]] = _tuple.__new__
"""Makes an `Event` from (name, data), in half the time of calling the class."""


@final
class Topic(_Name, Generic[T]):
    """An event name, or a pattern, that knows the type of its payload (T1).

    At run time it is a str, equal to the name. To type checkers it is a class of its own, by which
    they check handlers, filters, payloads and the events of a stream against the payload's type.

    Args:
        name: an event name, like "order.placed", or a pattern, like "order.*".

    Raises:
        ValueError: a malformed or empty name (B3).
        TypeError: a name that is not a str (B3).

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus, Topic
        >>> PLACED = Topic[int]("order.placed")
        >>> async def main():
        ...     bus = EventBus()
        ...     await bus.subscribe(PLACED, "billing", lambda number: print(number + 1))
        ...     await bus.publish(PLACED, 41)
        >>> anyio.run(main)
        42
    """

    # `Topic[Order](...)` sets it; `Schema.of` reads the type of the payload from it (Y1).
    __slots__ = ("__orig_class__",)

    def __new__(cls, name: str) -> Self:
        """Check the name."""
        make: Any = super().__new__
        topic: Self = make(cls, check_subscribed_name(name))
        return topic

    def __copy__(self) -> Self:
        """Return the topic itself: it can't change, and a copy would not know the type."""
        return self

    def __deepcopy__(self, memo: object) -> Self:
        """Return the topic itself, as `copy` does."""
        return self

    def __reduce__(self) -> tuple[type[Topic[Any]], tuple[str]]:
        """Pickle the name alone; the oldest protocols know no slots."""
        return Topic, (str(self),)


@final
class Query(_Name, Generic[T, A]):
    """The name of a question that knows the types of what is asked and of the answer (A1).

    At run time it is a str, equal to the name. To type checkers it is a class of its own, by which
    they check answerers and the arguments and results of `ask`. It is no event: it can be neither
    published nor subscribed to (A2).

    Args:
        name: a name without wildcards, like "price.asked".

    Raises:
        ValueError: a malformed or empty name, or a pattern (A1, B3).
        TypeError: a name that is not a str (B3).

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus, Query
        >>> PRICE = Query[str, float]("price.asked")
        >>> async def main():
        ...     bus = EventBus()
        ...     await bus.answer(PRICE, "shop", {"tea": 4.5}.get)
        ...     print(await bus.ask(PRICE, "tea"))
        >>> anyio.run(main)
        4.5
    """

    __slots__ = ()

    def __new__(cls, name: str) -> Self:
        """Check the name."""
        make: Any = super().__new__
        query: Self = make(cls, check_query_name(name))
        return query


def is_query(name: Any) -> bool:
    """Return whether a name is a `Query`."""
    return type(name) is Query


def check_is_event(name: Any, rather: str) -> None:
    """Check that a name is not a query's, where an event's name is wanted (A2).

    Args:
        name: what was given.
        rather: the call that is right for a query.

    Raises:
        TypeError: it is a `Query`.
    """
    if is_query(name):
        raise TypeError(f"{_shown(name)} is a query, not an event: {rather}")


def check_is_query(name: Any, rather: str) -> str:
    """Return a query's name.

    Args:
        name: what was given.
        rather: the call that is right for a topic.

    Raises:
        ValueError: a malformed or empty name, or a pattern (A1, B3).
        TypeError: it is a `Topic`, or not a str.
    """
    if isinstance(name, Topic):
        raise TypeError(f"{_shown(name)} is a topic, not a query: {rather}")
    return check_query_name(name)


def _shown(name: Any) -> str:
    # At run time it is a str.
    return show(name)
