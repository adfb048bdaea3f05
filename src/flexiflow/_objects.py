"""What the objects of several classes refuse: to be changed, and to be copied."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from functools import partial
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, NoReturn, dataclass_transform

from flexiflow._text import show

if TYPE_CHECKING:
    from typing import SupportsIndex


@dataclass_transform(eq_default=False, frozen_default=True)
class Fixed:
    """Base of classes whose constructor sets the attributes, and nobody changes them.

    To their users, and to type checkers, they are like frozen dataclasses. But `dataclass` would
    compile methods for each class, which takes longer than importing most modules.
    """

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise FrozenInstanceError(f"cannot assign to field {show(name)}")

    def __delattr__(self, name: str) -> NoReturn:
        raise FrozenInstanceError(f"cannot delete field {show(name)}")


class Record:
    """Base of records, beside `Fixed`: equal if they are of one class, and all attributes are.

    The attributes are those that `__match_args__` names, in order.
    """

    __slots__ = ()

    def __init__(self, **facts: Any) -> None:
        names = _names(self)
        if facts.keys() != set(names):
            raise TypeError(
                f"{type(self).__name__} takes the keyword arguments {', '.join(names)}, "
                f"not {', '.join(facts)}"
            )
        for name in names:
            object.__setattr__(self, name, facts[name])

    def __eq__(self, other: object) -> bool:
        """Return whether the other one has the same class and attributes."""
        if type(other) is not type(self):
            return NotImplemented
        return self._facts() == other._facts()

    def __hash__(self) -> int:
        """Hash all attributes."""
        return hash(self._facts())

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how a copy is made: of the same attributes."""
        return partial(type(self), **dict(zip(_names(self), self._facts(), strict=True))), ()

    @recursive_repr()
    def __repr__(self) -> str:
        """Show all attributes."""
        shown = zip(_names(self), self._facts(), strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={fact!r}' for name, fact in shown)})"

    def _facts(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in _names(self)])


def _names(record: Record) -> tuple[str, ...]:
    names: tuple[str, ...] = vars(type(record))["__match_args__"]
    return names


def refuse_copying(given: object, _protocol: SupportsIndex, /) -> str | tuple[Any, ...]:
    """Refuse copying and pickling; assign this to a class as its `__reduce_ex__`.

    A subclass that defines `__reduce__`, and so says how to rebuild its objects, is not refused.

    Raises:
        TypeError: the object's class does not define `__reduce__`.
    """
    if type(given).__reduce__ is not object.__reduce__:
        return given.__reduce__()
    kind = type(given).__qualname__
    raise TypeError(
        f"{kind} can't be copied or pickled, since a copy would share its inside with the first "
        "one; make a new one, or define __reduce__ to say how that is made"
    )
