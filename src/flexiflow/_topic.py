"""Events, and the typed names of events and queries: `Topic` (T1) and `Query` (A1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Self, TypeVar, final

from flexiflow._names import check_query_name, check_subscribed_name
from flexiflow._showing import show

T = TypeVar("T")
A = TypeVar("A")

if TYPE_CHECKING:
    from collections.abc import Callable

# For type checkers neither must be a str: else the overloads for plain names would match them.
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
    """

    __slots__ = ()

    def __new__(cls, name: str) -> Self:
        """Check the name."""
        make: Any = super().__new__
        topic: Self = make(cls, check_subscribed_name(name))
        return topic


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
