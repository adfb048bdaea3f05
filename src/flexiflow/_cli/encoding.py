"""Encoding any payload as JSON; what JSON can't hold becomes its repr (L3)."""

from __future__ import annotations

from json import JSONEncoder, encoder
from typing import TYPE_CHECKING, Any, cast

from flexiflow._cli.text import show_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def _make_encoder() -> Callable[[object, int], Iterable[str]]:
    """Return a function that encodes a value as JSON, in pieces, or raises.

    Its second argument is 0. On CPython it is json's own encoder in C. `JSONEncoder.encode` makes
    such an encoder for each value, which costs as much as using it.
    """
    make: Any = getattr(encoder, "c_make_encoder", None)
    if make is None:
        encode = JSONEncoder(default=show_value, check_circular=False, allow_nan=False).encode
        return lambda value, _: encode(value)
    encode_in_c: Callable[[object, int], Iterable[str]] = make(
        markers=None,
        default=show_value,
        encoder=encoder.encode_basestring_ascii,
        indent=None,
        key_separator=": ",
        item_separator=", ",
        sort_keys=False,
        skipkeys=False,
        allow_nan=False,
    )
    return encode_in_c


_encode = _make_encoder()


def encode(payload: object) -> str:
    """Return a payload as JSON, with the repr in place of what JSON can't hold.

    That is: objects without a counterpart, NaN and the infinities, a structure that contains
    itself, and keys other than strings, numbers, booleans and None.
    """
    try:
        return "".join(_encode(payload, 0))
    except Exception:  # noqa: BLE001  a user's class may raise anything
        return _encode_leniently(payload)


def _encode_leniently(payload: object) -> str:
    try:
        return "".join(_encode(_holdable(payload, ()), 0))
    except Exception:  # noqa: BLE001  as above, or the payload is nested too deeply
        return "".join(_encode(show_value(payload), 0))


def _holdable(value: object, around: tuple[int, ...]) -> object:
    if id(value) not in around:
        inside = (*around, id(value))
        if isinstance(value, dict):
            items = cast("Iterable[tuple[object, object]]", value.items())
            return {_key(key): _holdable(item, inside) for key, item in items}
        if isinstance(value, list | tuple):
            return [_holdable(item, inside) for item in cast("Iterable[object]", value)]
    return value if _can_hold(value) else show_value(value)


def _key(key: object) -> object:
    return key if _can_hold({key: None}) else show_value(key)


def _can_hold(value: object) -> bool:
    try:
        _encode(value, 0)
    except Exception:  # noqa: BLE001  as above
        return False
    return True
