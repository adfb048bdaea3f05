"""JSON as it is stored: strict in both directions (X7)."""

from __future__ import annotations

import reprlib
from functools import lru_cache
from json import JSONDecoder, JSONEncoder
from math import isinf
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Callable

# Annotated as types of Any: their elements may be of any type.
_MAPPING: Final[type[Any]] = dict
_CONTAINERS: Final[tuple[type[Any], ...]] = (dict, list, tuple)
_TEXTS: Final[frozenset[type[Any]]] = frozenset([str])
_PLAIN: Final[frozenset[type[Any]]] = frozenset([str, int, float, bool, type(None)])


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if isinf(number):
        raise ValueError(f"{text} is more than a float holds")
    return number


to_text: Final[Callable[[object], str]] = JSONEncoder(allow_nan=False, separators=(",", ":")).encode
"""Returns a value as JSON, with keys that are no str turned into one."""

name_to_text: Final = lru_cache(to_text)
"""Does so for the name of an event; a program has few of them."""

_decoder: Final = JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def from_json(body: bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is no valid JSON, or no float holds one of its numbers.
    """
    text = body.decode()
    # This module writes no spaces around an event, and to look for some takes time.
    if text[:1] == "{":
        value, end = _decoder.raw_decode(text)
        if end == len(text):
            return value
    return _decoder.decode(text)


def is_key(key: object) -> TypeGuard[str]:
    """Return whether transports can store a key: text without lone surrogates, and not empty."""
    if not isinstance(key, str):
        return False
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return bool(key)


def payload_to_json(data: Any) -> str:
    """Return a payload as JSON.

    Raises:
        ValueError: it holds NaN, an infinity, or a reference to itself.
        TypeError: it holds a value that JSON has no form for, or a key that is no str.
    """
    text = to_text(data)
    # After encoding, which refuses a payload that refers to itself; this would never end with one.
    if isinstance(data, _CONTAINERS) and not _is_flat(data):
        _check_keys(data)
    return text


def _is_flat(data: Any) -> bool:
    """Return whether a payload is a dict of plain values, as most are; a quick check."""
    return (
        type(data) is _MAPPING
        and _TEXTS.issuperset(map(type, data))
        and _PLAIN.issuperset(map(type, data.values()))
    )


def _check_keys(data: Any) -> None:
    """Raise `TypeError` for a key that is no str: JSON would turn it into one."""
    found = [data]
    # The list grows while the loop goes through it.
    for each in found:
        if isinstance(each, _MAPPING):
            for key in each:
                if not isinstance(key, str):
                    raise TypeError(f"a key must be a str, not {reprlib.repr(key)}")
            values = each.values()
        else:
            values = each
        found += [value for value in values if isinstance(value, _CONTAINERS)]
