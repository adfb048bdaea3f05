"""Refusing to copy what others hold on to: a copy would share the inside of the first one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import SupportsIndex


def refuse_copying(given: object, _protocol: SupportsIndex, /) -> str | tuple[Any, ...]:
    """Be the `__reduce_ex__` of a class whose objects are neither copied nor pickled.

    A subclass that defines `__reduce__`, and so says how one is made again, is not refused.

    Raises:
        TypeError: in all other cases.
    """
    if type(given).__reduce__ is not object.__reduce__:
        return given.__reduce__()
    kind = type(given).__qualname__
    raise TypeError(
        f"{kind} can't be copied or pickled, since a copy would share its inside with the first "
        "one; make a new one, or define __reduce__ to say how that is made"
    )
