"""Refusing to copy objects such as a bus: a copy would share its inside with the original."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import SupportsIndex


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
