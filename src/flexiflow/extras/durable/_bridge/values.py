"""Functions that look at a value of some type, part by part (Y1).

They serve both ways. On reading they are given what the codec has decoded, on writing the payload
itself; only what becomes of an object of a class differs (`read_class`, `write_class`). Each
returns the value, or raises `ValueError` with the place of the part that is wrong.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from itertools import repeat
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias, cast

from flexiflow._text import show

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

Function: TypeAlias = Callable[[Any], Any]

_OBJECT: Final[type[Any]] = dict
_LISTS: Final[tuple[Any, ...]] = (list, tuple)
"""A codec other than JSON may know both."""


def _refuse(value: object, wanted: str) -> NoReturn:
    raise ValueError(f"must be {wanted}, not {reprlib.repr(value)}")


def as_it_is(value: Any) -> Any:
    """Return a value of any type that was read."""
    return value


def write_any(value: Any) -> Any:
    """Return a value of any type as it is written: dataclasses inside as dicts."""
    if _is_object(value):
        return asdict(value)
    if isinstance(value, _LISTS):
        return [write_any(each) for each in cast("Sequence[Any]", value)]
    if isinstance(value, _OBJECT):
        return {name: write_any(each) for name, each in cast("dict[Any, Any]", value).items()}
    return value


def _is_object(value: Any) -> bool:
    return is_dataclass(value) and not isinstance(value, type)


def read_plain(kind: type[Any], value: Any) -> Any:
    """Return a value of a type that JSON has, such as str; a bool is no int."""
    if type(value) is not kind and (
        (kind is int and type(value) is bool) or not isinstance(value, kind)
    ):
        _refuse(value, "None" if kind is NoneType else f"of the type {kind.__name__}")
    return value


def read_float(value: Any) -> float:
    """Return a float; JSON has one type for both kinds of numbers."""
    if type(value) is bool or not isinstance(value, int | float):
        _refuse(value, "of the type float")
    return float(value)


def read_literal(choices: tuple[Any, ...], value: Any) -> Any:
    """Return one of some values."""
    if not any(type(each) is type(value) and each == value for each in choices):
        _refuse(value, f"one of {choices}")
    return value


def read_union(hint: Any, functions: Sequence[Function], value: Any) -> Any:
    """Return a value of the first type whose function takes it."""
    for each in functions:
        try:
            return each(value)
        except ValueError:
            continue
    _refuse(value, f"of the type {hint}")


def read_list(read: Function, make: Function, value: Any) -> Any:
    """Return a list or a tuple, as `make` makes it, of values of one type."""
    return make(_read_each(repeat(read), _listed(value, "a list")))


def read_tuple(functions: Sequence[Function], value: Any) -> Any:
    """Return a tuple of values of a type each."""
    wanted = f"a list of {len(functions)} values"
    values = _listed(value, wanted)
    if len(values) != len(functions):
        _refuse(value, wanted)
    return tuple(_read_each(functions, values))


def _listed(value: Any, wanted: str) -> Sequence[Any]:
    if type(value) not in _LISTS:
        _refuse(value, wanted)
    return cast("Sequence[Any]", value)


def _read_each(functions: Iterable[Function], values: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    try:
        for read, value in zip(functions, values, strict=False):
            found.append(read(value))
    except ValueError as exc:
        raise _inside(f"[{len(found)}]", exc) from None
    return found


def read_dict(read: Function, value: Any) -> Any:
    """Return a dict whose keys are str, of values of one type."""
    if not isinstance(value, _OBJECT):
        _refuse(value, "an object")
    found: dict[str, Any] = {}
    name: str = ""
    try:
        for name, each in value.items():
            found[name] = read(each)
    except ValueError as exc:
        raise _inside(f"[{show(name)}]", exc) from None
    return found


def read_class(
    kind: Any, functions: Mapping[str, Function], needed: AbstractSet[str], value: Any
) -> Any:
    """Return an object of a dataclass, made of a dict.

    Args:
        kind: the class.
        functions: the functions of its fields, by name.
        needed: the names of the fields without a default.
        value: the dict; entries that are no field are ignored.
    """
    if not isinstance(value, _OBJECT):
        _refuse(value, f"an object with the fields of {kind.__qualname__}")
    if not needed <= value.keys():
        missing = next(name for name in functions if name in needed and name not in value)
        raise ValueError(f"must have the field {missing!r} of {kind.__qualname__}")
    found: dict[str, Any] = {}
    name = ""
    try:
        for name, read in functions.items():
            if name in value:
                found[name] = read(value[name])
    except ValueError as exc:
        raise _inside(f".{name}", exc) from None
    return kind(**found)


def write_class(kind: Any, functions: Mapping[str, Function], value: Any) -> Any:
    """Return a dict, made of an object of a dataclass; of a subclass, some would be lost."""
    if type(value) is not kind:
        _refuse(value, f"of the type {kind.__qualname__}")
    found: dict[str, Any] = {}
    name = ""
    try:
        for name, write in functions.items():
            found[name] = write(getattr(value, name))
    except ValueError as exc:
        raise _inside(f".{name}", exc) from None
    return found


def _inside(place: str, problem: ValueError) -> ValueError:
    """Return what is wrong with a part of a value, saying which one it is."""
    text = str(problem)
    join = "" if text.startswith((".", "[")) else " "
    return ValueError(f"{place}{join}{text}")
