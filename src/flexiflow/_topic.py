"""Events, and topics, which are typed event names (T1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Self, TypeVar, final

from flexiflow._names import check_subscribed_name

T = TypeVar("T")

if TYPE_CHECKING:
    from collections.abc import Callable

# For type checkers a topic must not be a str: else the overloads for plain names would match it.
if TYPE_CHECKING:

    class _Name:
        # A topic may be compared with plain names.
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
