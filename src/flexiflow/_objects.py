"""What the objects of several classes refuse: to be changed, and to be copied."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
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
