"""Typed payloads with versions: how they are written, and read again, also by later code (Y1)."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, final, get_origin
from urllib.parse import quote

from flexiflow._arguments import check_count
from flexiflow._callables import check_callable, is_coroutine_callable
from flexiflow._names import check_event_name, check_is_event
from flexiflow._text import show
from flexiflow.extras.durable._bridge.converting import dataclass_ends
from flexiflow.extras.durable._bridge.failing import reason_of
from flexiflow.extras.durable._bridge.models import msgspec_ends, pydantic_ends
from flexiflow.extras.durable._errors import NewerVersion, NotDecodable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flexiflow._names import Topic

T = TypeVar("T")
P = TypeVar("P")

_MAPPING: Final[type[Any]] = Mapping
_FIRST: Final = 1
_VERSION: Final = re.compile("[1-9][0-9]{0,12}")


@final
class Schema(Generic[T]):
    """How the payloads of one event are written, and read again (Y1).

    `encode` turns a payload into the form that is stored, with the version. `decode` turns the
    stored form into the payload that handlers get. If an earlier version is stored, the functions
    of `upcast` first turn it into the current one, step by step. A payload that was stored without
    a schema is of version 1.

    If a stored payload can't be upcast or decoded, the event becomes a dead letter at once, as it
    was stored. If its version is newer than this one, a worker with newer code may still come. So
    the event is tried again for as long as if a handler failed, by default for eleven minutes, and
    only then becomes a dead letter. If workers share a log and the event has no key, each attempt
    may go to another worker; else the event stays with its worker as long as that worker lives.

    Args:
        topic: the event's name, without wildcards.
        encode: returns a payload as what the bridge's codec takes; with JSON dicts, lists, str,
            int, float, bool and None. A plain function.
        decode: returns a payload, given what the codec has decoded. A plain function.
        version: the version that `encode` writes and `decode` reads, 1 or more.
        upcast: by version, a plain function that returns the next version of what was stored in
            that one. It depends on nothing but its argument.

    Attributes:
        name: the event's name.
        version: the version that is written.

    Raises:
        ValueError: a malformed name, or a pattern; a version out of its range; a step of `upcast`
            that leads to no version up to `version`, or after which one is missing.
        TypeError: an argument that can't be called, or is async.

    Example:
        >>> from dataclasses import dataclass
        >>> from flexiflow import Topic
        >>> from flexiflow.extras.durable import Schema
        >>> @dataclass(frozen=True)
        ... class Order:
        ...     id: str
        ...     cents: int
        >>> schema = Schema.of(Topic[Order]("order.placed"))
        >>> print(schema.name, schema.version, schema.encode(Order("A7", 4200)))
        order.placed 1 {'id': 'A7', 'cents': 4200}
    """

    __slots__ = ("_decode", "_encode", "_prefix", "_steps", "dataschema", "name", "version")

    def __init__(
        self,
        topic: Topic[T] | str,
        *,
        encode: Callable[[T], Any],
        decode: Callable[[Any], T],
        version: int = _FIRST,
        upcast: Mapping[int, Callable[[Any], Any]] | None = None,
    ) -> None:
        check_is_event(topic, "what is asked and answered stays in its process")
        self.name: str = check_event_name(topic)
        self.version: int = check_count("version", version)
        self._encode = _checked("encode", encode)
        self._decode = _checked("decode", decode)
        self._steps = _checked_steps({} if upcast is None else upcast, version)
        self._prefix = f"urn:flexiflow:{quote(self.name, errors='surrogatepass')}:"
        self.dataschema: str = f"{self._prefix}{version}"

    @classmethod
    def of(
        cls,
        topic: Topic[P] | str,
        kind: type[P] | None = None,
        *,
        version: int = _FIRST,
        upcast: Mapping[int, Callable[[Any], Any]] | None = None,
    ) -> Schema[P]:
        """Return the schema of an event whose payload is a dataclass, or of pydantic or msgspec.

        Dataclasses are written in the form of `dataclasses.asdict`. Both ways are strict: each
        field must have a value of its type; on reading it may be missing if it has a default. An
        object of a subclass is not written, since fields would be lost. Types of pydantic and
        msgspec are written and read by those libraries.

        Args:
            topic: the event's name; made as `Topic[Order]("order.placed")`, it knows the type of
                the payload, as its copies do; one that was pickled does not.
            kind: the type of the payload; None for that of the topic.
            version: as for the class.
            upcast: as for the class.

        Raises:
            ValueError: as the class does.
            TypeError: as the class does; the payload's type is not known, or is none of these; a
                field of the dataclass is of a type that does not come back from JSON, or the class
                can't be made of its fields by name; the installed pydantic is too old.
        """
        encode, decode = _ends_of(_kind_of(topic) if kind is None else kind)
        make: Any = cls
        made: Schema[P] = make(topic, encode=encode, decode=decode, version=version, upcast=upcast)
        return made

    def __repr__(self) -> str:
        """Show the event and the version."""
        return f"<Schema of {show(self.name)}, version {self.version}>"

    def encode(self, data: T) -> Any:
        """Return a payload as it is to be stored."""
        return self._encode(data)

    def decode(self, data: Any, dataschema: object) -> T:
        """Return a payload that was stored.

        Args:
            data: what was stored.
            dataschema: the attribute of the stored event, or None.

        Raises:
            NewerVersion: it is of a newer version.
            NotDecodable: it can't be upcast or decoded.
        """
        found = self._version_of(dataschema)
        if found > self.version:
            raise NewerVersion(self.name, found, self.version)
        for version in range(found, self.version):
            if version not in self._steps:
                raise NotDecodable(self.name, f"no upcast leads from version {version} to the next")
            try:
                data = self._steps[version](data)
            except Exception as exc:
                reason = f"upcasting from version {version} raised {reason_of(exc)}"
                raise NotDecodable(self.name, reason) from exc
        try:
            decoded: T = self._decode(data)
        except Exception as exc:
            raise NotDecodable(self.name, reason_of(exc)) from exc
        return decoded

    def _version_of(self, dataschema: object) -> int:
        if dataschema is None:
            return _FIRST
        if isinstance(dataschema, str) and dataschema.startswith(self._prefix):
            version = dataschema.removeprefix(self._prefix)
            if _VERSION.fullmatch(version):
                return int(version)
        raise NotDecodable(
            self.name,
            f"its dataschema must be {self._prefix!r} and a version, not "
            f"{reprlib.repr(dataschema)}",
        )


def check_schemas(schemas: Iterable[object]) -> dict[str, Schema[Any]]:
    """Return schemas by the names of their events.

    Raises:
        TypeError: one is no `Schema`, or `schemas` is no iterable.
        ValueError: two are of one event.
    """
    try:
        given = tuple(schemas)
    except TypeError:
        raise TypeError(
            f"schemas must be an iterable of Schema, not {reprlib.repr(schemas)}"
        ) from None
    found: dict[str, Schema[Any]] = {}
    for each in given:
        if not isinstance(each, Schema):
            raise TypeError(
                f"schemas must be an iterable of Schema, and one is {reprlib.repr(each)}"
            )
        if each.name in found:
            raise ValueError(f"two schemas are of {show(each.name)}, and an event has only one")
        found[each.name] = each
    return found


def _checked(what: str, function: Any) -> Any:
    check_callable(what, function, 1)
    if is_coroutine_callable(function):
        raise TypeError(f"{what} must be a plain function, and this one is async")
    return function


def _checked_steps(upcast: Any, version: int) -> dict[int, Any]:
    if not isinstance(upcast, _MAPPING):
        raise TypeError(
            f"upcast must be a mapping of versions to functions, not {reprlib.repr(upcast)}"
        )
    steps: dict[Any, Any] = dict(upcast)
    if steps and version == _FIRST:
        raise ValueError("upcast needs a version above 1, to which its functions lead")
    for step, function in steps.items():
        if type(step) is not int or not _FIRST <= step < version:
            raise ValueError(
                f"a key of upcast must be a version from 1 to {version - 1}, which its function "
                f"brings to the next one, not {reprlib.repr(step)}"
            )
        _checked(f"the upcast of version {step}", function)
    missing = [each for each in range(min(steps, default=version), version) if each not in steps]
    if missing:
        raise ValueError(
            f"upcast must have a function for version {missing[0]}, too: those before it lead there"
        )
    return steps


def _kind_of(topic: object) -> Any:
    # `Topic[Order](...)` notes this; a topic that is only annotated does not know its type.
    made_as: Any = getattr(topic, "__orig_class__", None)
    if made_as is None:
        raise TypeError(
            f"the type of the payload of {reprlib.repr(topic)} is not known: make the topic as "
            "Topic[Order]('order.placed'), or give the type after it"
        )
    return made_as.__args__[0]


def _ends_of(kind: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return the functions that write and read payloads of a type."""
    plain: Any = get_origin(kind) or kind
    is_class = isinstance(plain, type)
    # Classes of pydantic and msgspec may be dataclasses, too.
    if is_class and hasattr(plain, "__pydantic_core_schema__"):
        write, read = pydantic_ends(kind)
    elif is_class and hasattr(plain, "__struct_fields__"):
        write, read = msgspec_ends(kind)
    elif is_class and is_dataclass(kind):
        write, read = dataclass_ends(kind)
    else:
        raise TypeError(
            "the type of the payload must be a dataclass, or a class of pydantic or msgspec, not "
            f"{reprlib.repr(kind)}; for another type give Schema an encode and a decode"
        )

    def encode(data: Any) -> Any:
        if not isinstance(data, plain):
            raise TypeError(
                f"it must be of the type {plain.__qualname__}, not {reprlib.repr(data)}"
            )
        return write(data)

    return encode, read
