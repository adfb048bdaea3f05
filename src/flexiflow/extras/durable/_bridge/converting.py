"""Dataclasses from the JSON values that `dataclasses.asdict` makes of them (Y1).

A class is looked at once. For the type of each field there is a *reader*: a function that returns
what it is given as a value of that type, or raises `ValueError`.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import partial
from itertools import repeat
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Literal,
    NoReturn,
    TypeAlias,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

_Reader: TypeAlias = Callable[[Any], Any]

_PLAIN: Final = (str, int, bool, NoneType)
_OBJECT: Final[type[Any]] = dict
_LISTS: Final[tuple[Any, ...]] = (list, tuple)
"""A codec other than JSON may know both."""


def reader_of(kind: Any) -> _Reader:
    """Return a function that makes instances of a dataclass.

    Fields may be of these types: `str`, `int`, `float`, `bool`, `None`, `Any`, literals, lists,
    tuples, dicts whose keys are str, other dataclasses, and unions of these. Entries for which the
    class has no field are ignored.

    Raises:
        TypeError: a field is of another type.
    """
    return _Readers().of(kind, kind.__qualname__)


class _Readers:
    """Makes readers, and keeps those of classes, which may refer to themselves."""

    def __init__(self) -> None:
        self._of_classes: dict[Any, tuple[dict[str, _Reader], set[str]]] = {}

    def of(self, hint: Any, place: str) -> _Reader:
        """Return the reader of a type.

        Args:
            hint: the type.
            place: the field, for messages.
        """
        hint = _plain(hint)
        origin, arguments = get_origin(hint), get_args(hint)
        if hint in _PLAIN:
            return partial(_read_plain, hint)
        if hint is float:
            return _read_float
        if is_dataclass(hint):
            return self._of_class(hint)
        return self._of_form(hint, origin, arguments, place)

    def _of_form(self, hint: Any, origin: Any, arguments: tuple[Any, ...], place: str) -> _Reader:
        if origin is Literal:
            return partial(_read_literal, arguments)
        if origin in (Union, UnionType):
            return self._of_union(hint, arguments, place)
        return self._of_container(hint, origin or hint, arguments, place)

    def _of_union(self, hint: Any, kinds: tuple[Any, ...], place: str) -> _Reader:
        kinds = tuple(map(_plain, kinds))
        forms = [form for form in map(_form_of, kinds) if form is not None]
        if len(forms) > len(set(forms)):
            raise TypeError(
                f"{place} is of the type {hint!r}, two of which look alike as JSON: give Schema an "
                "encode and a decode, or use a type of pydantic or msgspec"
            )
        # An int is read as a float only where there is no int among them.
        kinds = tuple(sorted(kinds, key=lambda kind: kind is float))
        return partial(_read_union, hint, [self.of(each, place) for each in kinds])

    def _of_container(
        self, hint: Any, origin: Any, arguments: tuple[Any, ...], place: str
    ) -> _Reader:
        if origin in (Any, object):
            return _as_it_is
        if origin in (list, Sequence):
            return partial(_read_list, self.of((*arguments, Any)[0], place), list)
        if origin is tuple and (not arguments or arguments[1:] == (...,)):
            return partial(_read_list, self.of((*arguments, Any)[0], place), tuple)
        if origin is tuple:
            return partial(_read_tuple, [self.of(each, place) for each in arguments])
        if origin in (dict, Mapping) and (*arguments, str)[0] is str:
            return partial(_read_dict, self.of((*arguments, Any, Any)[1], place))
        raise TypeError(
            f"{place} is of the type {hint!r}, which does not come back from JSON by itself: give "
            "Schema an encode and a decode, or use a type of pydantic or msgspec"
        )

    def _of_class(self, kind: Any) -> _Reader:
        if kind not in self._of_classes:
            # Before its fields, which may be of the same class.
            readers, needed = self._of_classes[kind] = {}, set()
            hints = _hints_of(kind)
            for each in fields(kind):
                if each.init:
                    readers[each.name] = self.of(
                        hints[each.name], f"{kind.__qualname__}.{each.name}"
                    )
                    if each.default is MISSING and each.default_factory is MISSING:
                        needed.add(each.name)
        return partial(_read_class, kind, *self._of_classes[kind])


def _hints_of(kind: Any) -> dict[str, Any]:
    try:
        return get_type_hints(kind, include_extras=True)
    except NameError as exc:
        raise TypeError(
            f"the types of the fields of {kind.__qualname__} can't be found: {exc}"
        ) from exc


def _plain(hint: Any) -> Any:
    """Return a type without the names and notes that it was given."""
    while True:
        if get_origin(hint) is Annotated:
            hint = get_args(hint)[0]
        elif hasattr(hint, "__supertype__"):
            hint = hint.__supertype__
        else:
            return hint


def _form_of(hint: Any) -> str | None:
    """Return what a type has in common with others in JSON; None for plain values."""
    origin = get_origin(hint) or hint
    if origin in (list, tuple, Sequence):
        return "array"
    return "object" if origin in (dict, Mapping) or is_dataclass(origin) else None


def _refuse(value: object, wanted: str) -> NoReturn:
    raise ValueError(f"must be {wanted}, not {reprlib.repr(value)}")


def _as_it_is(value: Any) -> Any:
    return value


def _read_plain(kind: type[Any], value: Any) -> Any:
    if type(value) is not kind:
        _refuse(value, "None" if kind is NoneType else f"of the type {kind.__name__}")
    return value


def _read_float(value: Any) -> float:
    # JSON has one type for both kinds of numbers.
    if type(value) not in (int, float):
        _refuse(value, "of the type float")
    return float(value)


def _read_literal(choices: tuple[Any, ...], value: Any) -> Any:
    if not any(type(each) is type(value) and each == value for each in choices):
        _refuse(value, f"one of {choices}")
    return value


def _read_union(hint: Any, readers: Sequence[_Reader], value: Any) -> Any:
    for each in readers:
        try:
            return each(value)
        except ValueError:
            continue
    _refuse(value, f"of the type {hint}")


def _read_list(read: _Reader, make: Callable[[Any], Any], value: Any) -> Any:
    return make(_read_each(repeat(read), _listed(value, "a list")))


def _read_tuple(readers: Sequence[_Reader], value: Any) -> Any:
    wanted = f"a list of {len(readers)} values"
    values = _listed(value, wanted)
    if len(values) != len(readers):
        _refuse(value, wanted)
    return tuple(_read_each(readers, values))


def _listed(value: Any, wanted: str) -> Sequence[Any]:
    if type(value) not in _LISTS:
        _refuse(value, wanted)
    return cast("Sequence[Any]", value)


def _read_each(readers: Iterable[_Reader], values: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    try:
        for read, value in zip(readers, values, strict=False):
            found.append(read(value))
    except ValueError as exc:
        raise _inside(f"[{len(found)}]", exc) from None
    return found


def _read_dict(read: _Reader, value: Any) -> Any:
    if not isinstance(value, _OBJECT):
        _refuse(value, "an object")
    found: dict[str, Any] = {}
    name: str = ""
    try:
        for name, each in value.items():
            found[name] = read(each)
    except ValueError as exc:
        raise _inside(f"[{name!r}]", exc) from None
    return found


def _read_class(
    kind: Any, readers: Mapping[str, _Reader], needed: AbstractSet[str], value: Any
) -> Any:
    if not isinstance(value, _OBJECT):
        _refuse(value, f"an object with the fields of {kind.__qualname__}")
    if not needed <= value.keys():
        missing = next(name for name in readers if name in needed and name not in value)
        raise ValueError(f"must have the field {missing!r} of {kind.__qualname__}")
    found: dict[str, Any] = {}
    name = ""
    try:
        for name, read in readers.items():
            if name in value:
                found[name] = read(value[name])
    except ValueError as exc:
        raise _inside(f".{name}", exc) from None
    return kind(**found)


def _inside(place: str, problem: ValueError) -> ValueError:
    """Return what is wrong with a part of a value, saying which one it is."""
    text = str(problem)
    join = "" if text.startswith((".", "[")) else " "
    return ValueError(f"{place}{join}{text}")
