"""Snapshots as JSON: checked before anything is changed, and written (K2).

A snapshot is checked for each message, so what is usual, a dict of a few plain values, takes a
quick way. The place of what is wrong is looked for only once something is.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from json import JSONDecoder, JSONEncoder, encoder
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from flexiflow._text import show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

DEEPEST: Final = 200
"""How many containers may be inside each other; Python's `json` can't go much deeper."""

# Annotated as types of Any: their elements may be of any type.
_MAPPING: Final[type[Any]] = dict
_CONTAINERS: Final[tuple[type[Any], ...]] = (dict, list, tuple)
_TEXTS: Final[frozenset[type[Any]]] = frozenset([str])
_PLAIN: Final[frozenset[type[Any]]] = frozenset([str, int, float, bool, type(None)])
_PLAIN_KINDS: Final = (str, int, float, type(None))


def _refuse_value(value: object) -> NoReturn:
    raise TypeError(f"JSON has no form for {type(value).__qualname__}")


def _make_encoder() -> Callable[[object, int], Iterable[str]]:
    """Return a function that encodes a value as JSON, in pieces, or raises.

    Its second argument is 0. On CPython it is json's own encoder in C. `JSONEncoder.encode` makes
    such an encoder for each value, which costs as much as using it.
    """
    make: Any = getattr(encoder, "c_make_encoder", None)
    if make is None:
        encode = JSONEncoder(
            check_circular=False, allow_nan=False, separators=(",", ":"), default=_refuse_value
        ).encode
        return lambda value, _: encode(value)
    encode_in_c: Callable[[object, int], Iterable[str]] = make(
        markers=None,
        default=_refuse_value,
        encoder=encoder.encode_basestring_ascii,
        indent=None,
        key_separator=":",
        item_separator=",",
        sort_keys=False,
        skipkeys=False,
        allow_nan=False,
    )
    return encode_in_c


_encode: Final = _make_encoder()


def encode(data: Any) -> str | None:
    """Return a snapshot as JSON, in ASCII; None for None.

    What `decode` makes of it is equal, but for tuples, which become lists.

    Raises:
        TypeError: it is no mapping, or holds a key that is no str or a value that JSON has no form
            for. The message names the place.
        ValueError: it holds NaN, an infinity or an int of over 4,300 digits, refers to itself, or
            has more than 200 containers inside each other. The message names the place.
    """
    if data is None:
        return None
    plain: Any = data
    if not isinstance(data, _MAPPING):
        if not isinstance(data, Mapping):
            raise TypeError(f"data must be a mapping or None, not {reprlib.repr(data)}")
        plain = _MAPPING(data)
    try:
        text = "".join(_encode(plain, 0))
    except (TypeError, ValueError, RecursionError):
        _refuse(plain)
        raise
    if not _is_flat(plain) and not _is_sound(plain):
        _refuse(plain)
    return text


def decode(text: str | bytes | None) -> dict[str, Any] | None:
    """Return the snapshot that `encode` has written.

    Raises:
        ValueError: it is something else.
    """
    if text is None:
        return None
    try:
        data = _decoder.decode(text if isinstance(text, str) else text.decode())
    except RecursionError:
        raise ValueError("it has too many containers inside each other") from None
    if not isinstance(data, dict):
        raise ValueError(f"it must be a JSON object, not {reprlib.repr(data)}")  # noqa: TRY004 - the value of what was stored is wrong
    return cast("dict[str, Any]", data)


def _is_flat(data: Any) -> bool:
    """Return whether a snapshot is a dict of plain values, as most are; a quick check."""
    # Plain code: `issuperset` with `map` takes twice as long for a few values.
    for key, value in data.items():
        if type(key) is not str or type(value) not in _PLAIN:
            return False
    return True


def _is_sound(data: Any) -> bool:
    """Return whether all keys are texts, and not too many containers are inside each other."""
    level = [data]
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for each in level:
            values = each
            if isinstance(each, _MAPPING):
                if not _TEXTS.issuperset(map(type, each)) and not _are_texts(each):
                    return False
                values = each.values()
            if not _PLAIN.issuperset(map(type, values)):
                inner += [value for value in values if isinstance(value, _CONTAINERS)]
        if not inner:
            return True
        level = inner
    return False


def _are_texts(keys: Any) -> bool:
    return all(isinstance(key, str) for key in keys)


def _refuse(data: Any) -> None:
    """Raise an exception that names the first place of a snapshot where something is wrong."""
    # What is left to look at, the next one last: a value, its place, and what it is inside of.
    left: list[tuple[Any, str, tuple[int, ...]]] = [(data, "data", ())]
    while left:
        value, place, around = left.pop()
        if not _is_container(value):
            _check_value(value, place)
            continue
        if id(value) in around:
            raise ValueError(f"{place} is inside itself")
        if len(around) == DEEPEST:
            raise ValueError(
                f"{place[:100]}... has more than {DEEPEST} containers inside each other"
            )
        left += reversed([(each, at, (*around, id(value))) for at, each in _parts(value, place)])


def _is_container(value: Any) -> bool:
    return isinstance(value, _CONTAINERS)


def _parts(container: Any, place: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(container, _MAPPING):
        yield from ((f"{place}[{index}]", each) for index, each in enumerate(container))
        return
    for key, each in container.items():
        if not isinstance(key, str):
            raise TypeError(
                f"a key of {place} must be a str, not {reprlib.repr(key)} of type "
                f"{type(key).__qualname__}"
            )
        yield f"{place}[{show(key)}]", each


def _check_value(value: Any, place: str) -> None:
    if not isinstance(value, _PLAIN_KINDS):
        raise TypeError(
            f"{place} is {reprlib.repr(value)} of type {type(value).__qualname__}, which JSON has "
            "no form for"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{place} is {value!r}, and JSON has only finite numbers")
    if isinstance(value, int):
        try:
            _encode(value, 0)
        except ValueError:
            raise ValueError(f"{place} is an int of too many digits for JSON") from None


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


_decoder: Final = JSONDecoder(parse_constant=_refuse_constant)
