"""How dataclasses are written as JSON values, and read again (Y1).

A class is looked at once. For the type of each field there is a function of `values`, in one
direction or the other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import partial
from inspect import Parameter, signature
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Literal,
    Union,
    final,
    get_args,
    get_origin,
    get_type_hints,
)

from flexiflow.extras.durable._bridge.values import (
    as_it_is,
    read_class,
    read_dict,
    read_float,
    read_list,
    read_literal,
    read_plain,
    read_tuple,
    read_union,
    write_any,
    write_class,
)

if TYPE_CHECKING:
    from flexiflow.extras.durable._bridge.values import Function

_PLAIN: Final = (str, int, bool, NoneType)
_NAMED: Final = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
_ANY_NUMBER: Final = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def dataclass_ends(kind: Any) -> tuple[Function, Function]:
    """Return the functions that write and read payloads of a dataclass.

    What is written has the form of `dataclasses.asdict`. Fields may be of these types: `str`,
    `int`, `float`, `bool`, `None`, `Any`, literals, lists, tuples, dicts whose keys are str, other
    dataclasses, and unions of these. Both functions are strict, so that all that was written can be
    read. On reading, entries for which the class has no field are ignored.

    Raises:
        TypeError: a field is of another type, or the class can't be made of its fields.
    """
    place = kind.__qualname__
    return _Writers().of(kind, place), _Readers().of(kind, place)


class _Functions(ABC):
    """Makes functions, and keeps those of classes, which may refer to themselves."""

    any: Function = staticmethod(as_it_is)

    def of(self, hint: Any, place: str) -> Function:
        """Return the function for a type.

        Args:
            hint: the type.
            place: the field, for messages.
        """
        hint = _plain(hint)
        origin, arguments = get_origin(hint), get_args(hint)
        if hint in _PLAIN:
            return partial(read_plain, hint)
        if hint is float:
            return read_float
        if is_dataclass(hint):
            return self.of_class(hint)
        return self._of_form(hint, origin, arguments, place)

    @abstractmethod
    def of_class(self, kind: Any) -> Function:
        """Return the function for a dataclass."""

    def _of_form(self, hint: Any, origin: Any, arguments: tuple[Any, ...], place: str) -> Function:
        if origin is Literal:
            return partial(read_literal, arguments)
        if origin in (Union, UnionType):
            return self._of_union(hint, arguments, place)
        return self._of_container(hint, origin or hint, arguments, place)

    def _of_union(self, hint: Any, kinds: tuple[Any, ...], place: str) -> Function:
        kinds = tuple(map(_plain, kinds))
        forms = [form for form in map(_form_of, kinds) if form is not None]
        if len(forms) > len(set(forms)):
            raise TypeError(
                f"{place} is of the type {hint!r}, two of which look alike as JSON: give Schema an "
                "encode and a decode, or use a type of pydantic or msgspec"
            )
        # An int is read as a float only where there is no int among them.
        kinds = tuple(sorted(kinds, key=lambda kind: kind is float))
        return partial(read_union, hint, [self.of(each, place) for each in kinds])

    def _of_container(
        self, hint: Any, origin: Any, arguments: tuple[Any, ...], place: str
    ) -> Function:
        if origin in (Any, object):
            return self.any
        if origin in (list, Sequence):
            return partial(read_list, self.of((*arguments, Any)[0], place), list)
        if origin is tuple and (not arguments or arguments[1:] == (...,)):
            return partial(read_list, self.of((*arguments, Any)[0], place), tuple)
        if origin is tuple:
            return partial(read_tuple, [self.of(each, place) for each in arguments])
        if origin in (dict, Mapping) and (*arguments, str)[0] is str:
            return partial(read_dict, self.of((*arguments, Any, Any)[1], place))
        raise TypeError(
            f"{place} is of the type {hint!r}, which does not come back from JSON by itself: give "
            "Schema an encode and a decode, or use a type of pydantic or msgspec"
        )

    def of_field(self, kind: Any, name: str, hints: Mapping[str, Any]) -> Function:
        """Return the function for a field of a class."""
        return self.of(hints[name], f"{kind.__qualname__}.{name}")


@final
class _Readers(_Functions):
    """Makes the functions that read."""

    def __init__(self) -> None:
        self._of_classes: dict[Any, tuple[dict[str, Function], set[str]]] = {}

    def of_class(self, kind: Any) -> Function:
        """Return the function for a dataclass."""
        if kind not in self._of_classes:
            # Before its fields, which may be of the same class.
            readers, needed = self._of_classes[kind] = {}, set()
            hints = _hints_of(kind)
            for each in fields(kind):
                if each.init:
                    readers[each.name] = self.of_field(kind, each.name, hints)
                    if each.default is MISSING and each.default_factory is MISSING:
                        needed.add(each.name)
            _check_can_be_made(kind, readers)
        return partial(read_class, kind, *self._of_classes[kind])


@final
class _Writers(_Functions):
    """Makes the functions that write."""

    any = staticmethod(write_any)

    def __init__(self) -> None:
        self._of_classes: dict[Any, dict[str, Function]] = {}

    def of_class(self, kind: Any) -> Function:
        """Return the function for a dataclass."""
        if kind not in self._of_classes:
            writers = self._of_classes[kind] = {}
            hints = _hints_of(kind)
            for each in fields(kind):
                # What is never read may be of any type.
                writers[each.name] = (
                    self.of_field(kind, each.name, hints) if each.init else self.any
                )
        return partial(write_class, kind, self._of_classes[kind])


def _check_can_be_made(kind: Any, names: Mapping[str, object]) -> None:
    """Raise `TypeError` unless a class can be called with its fields by name, and no more."""
    parameters = signature(kind).parameters.values()
    takes_all = any(each.kind is Parameter.VAR_KEYWORD for each in parameters)
    named = [each.name for each in parameters if each.kind in _NAMED]
    needed = [
        each.name
        for each in parameters
        if each.kind not in _ANY_NUMBER and each.default is Parameter.empty
    ]
    wrong = [name for name in needed if name not in names]
    wrong += [name for name in names if not (takes_all or name in named)]
    if wrong:
        raise TypeError(
            f"{kind.__qualname__} can't be made of its fields by name, because of {wrong[0]!r}: "
            "give Schema an encode and a decode"
        )


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
