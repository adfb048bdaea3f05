"""What is published: an event, and the typed name of one (T1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Self, TypeVar, final

from flexiflow._names import check_subscribed_name

T = TypeVar("T")

if TYPE_CHECKING:
    from collections.abc import Callable

# To type checkers a topic must be no str: the overloads for plain names would take it for one.
if TYPE_CHECKING:

    class _Name:
        # It may be compared with names.
        def __eq__(self, other: object, /) -> bool: ...

        def __hash__(self) -> int: ...

else:
    _Name = str


@final
class Event(NamedTuple, Generic[T]):
    """A named occurrence with a payload.

    Attributes:
        name: the name that was published, never a pattern.
        data: the payload, the object itself.
    """

    name: str
    data: T


_tuple: Any = tuple
make_event: Final[Callable[[type[Event[Any]], tuple[str, object]], Event[Any]]] = _tuple.__new__
"""Makes an `Event` of (name, data) in half the time that a call of the class takes."""


@final
class Topic(_Name, Generic[T]):
    """An event name, or a pattern, that knows the type of its payload (T1).

    A str at run time, and equal to the name. To type checkers it is a class of its own: with it
    they hold handlers, filters, payloads and the events of a stream to the payload's type.

    Args:
        name: an event name, like "order.placed", or a pattern, like "order.*".

    Raises:
        ValueError: a malformed or empty name (B3).
        TypeError: a name that is no str (B3).
    """

    __slots__ = ()

    def __new__(cls, name: str) -> Self:
        """Check the name."""
        make: Any = super().__new__
        topic: Self = make(cls, check_subscribed_name(name))
        return topic
