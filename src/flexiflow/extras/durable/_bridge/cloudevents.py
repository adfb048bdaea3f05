"""Events on the wire: CloudEvents 1.0 in the JSON format (X7)."""

from __future__ import annotations

import reprlib
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import count
from json import JSONDecoder, JSONEncoder
from math import isinf
from time import time_ns
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, Protocol, cast, final

from flexiflow._text import LONGEST
from flexiflow.extras.durable._bridge.failing import reason_of
from flexiflow.extras.durable._errors import NotEncodable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flexiflow.extras.durable._bridge.schemas import Schema

# Annotated as types of Any: their elements may be of any type.
_MAPPING: Final[type[Any]] = dict
_CONTAINERS: Final[tuple[type[Any], ...]] = (dict, list, tuple)
_TEXTS: Final[frozenset[type[Any]]] = frozenset([str])
_tuple: Any = tuple
_make: Final = _tuple.__new__
"""Makes a `CloudEvent`, in half the time of calling the class."""
NOTHING: Final[Mapping[str, Any]] = {}
"""No attributes, or no schemas."""

_PLAIN: Final[frozenset[type[Any]]] = frozenset([str, int, float, bool, type(None)])


ATTRIBUTES: Final = frozenset(
    (
        *("specversion", "id", "source", "type", "time", "subject", "datacontenttype"),
        *("dataschema", "data", "depth", "partitionkey"),
    )
)
"""The attributes that `Encoder` and `decode` use, or that CloudEvents gives a meaning."""


class Codec(Protocol):
    """Encodes and decodes payloads; an exception that it raises means that it can't (X7)."""

    @property
    def content_type(self) -> str:
        """The media type of encoded payloads, such as "application/cbor"; not a JSON type."""
        ...

    def encode(self, data: Any) -> bytes:
        """Encode a payload."""
        ...

    def decode(self, body: bytes) -> Any:
        """Decode a payload that `encode` has encoded."""
        ...


class CloudEvent(NamedTuple):
    """A decoded event.

    Attributes:
        id: its id, unique among the events of its source.
        source: the publisher's name.
        name: the event's name; CloudEvents calls it type.
        time: when it was published, in the form of RFC 3339, or None.
        key: its key, or None; events of one key are handled in order (X4).
        data: the payload, as the codec has decoded it.
        depth: how many stored events the chain has up to this one (Y2); 1 if the publisher did not
            say.
        attributes: all attributes of the event, without the payload.
    """

    id: str
    source: str
    name: str
    time: str | None
    key: str | None
    data: Any
    depth: int
    attributes: Mapping[str, Any]

    def texts(self) -> dict[str, str]:
        """Return the attributes that are text and not empty, by name."""
        return {name: each for name, each in self.attributes.items() if each and type(each) is str}


@final
class JsonCodec:
    """Encodes payloads as JSON values within the event's own JSON; strict in both directions."""

    @property
    def content_type(self) -> str:
        """The media type of JSON."""
        return "application/json"

    def encode(self, data: Any) -> bytes:
        """Encode a payload.

        Raises:
            ValueError: it holds NaN, an infinity, or a reference to itself.
            TypeError: it holds a value that JSON has no form for, or a key that is no str.
        """
        return _to_json(data).encode()

    def decode(self, body: bytes) -> Any:
        """Decode a JSON value.

        Raises:
            ValueError: it is not valid JSON.
        """
        return _from_json(body)


JSON: Final = JsonCodec()
"""Encodes payloads as JSON."""


@final
class Encoder:
    """Encodes the events of one producer.

    Args:
        source: the publisher's name.
        producer: what their ids begin with; unique to the producer.
        codec: encodes the payloads.
        schemas: the schemas of events that have one, by name (Y1).
    """

    __slots__ = ("_head", "_numbers", "_payload", "_producer", "_schemas", "_second")

    def __init__(
        self,
        source: str,
        producer: str,
        codec: Codec,
        schemas: Mapping[str, Schema[Any]] = NOTHING,
    ) -> None:
        self._schemas = schemas
        self._payload = _json if isinstance(codec, JsonCodec) else partial(_base64, codec)
        self._producer = producer
        self._numbers = count(1)
        self._second = -1, ""
        self._head = (
            f'{{"specversion":"1.0","source":{_to_text(source)},'
            f'"datacontenttype":{_to_text(codec.content_type)},"id":"'
        )

    def encode(
        self,
        name: str,
        data: Any,
        key: str | None,
        depth: int = 1,
        carried: Mapping[str, str] = NOTHING,
    ) -> bytes:
        """Encode an event.

        Args:
            name: the event's name.
            data: its payload.
            key: its key, or None.
            depth: how many events the chain has up to this one, 1 or more (Y2).
            carried: attributes that instruments have given it (Y2).

        Raises:
            NotEncodable: the payload can't be encoded.
        """
        schema = self._schemas.get(name)
        try:
            if schema is None:
                payload = self._payload(data)
            else:
                payload = self._payload(schema.encode(data))
                payload = f'"dataschema":"{schema.dataschema}",{payload}'
        except Exception as exc:
            raise NotEncodable(name, reason_of(exc)) from exc
        # The cache keeps no names that are unusually long.
        to_text = _name_to_text if len(name) <= LONGEST else _to_text
        more = "" if key is None else f',"partitionkey":{_to_text(key)}'
        if carried:
            more += "".join([f',"{each}":{_to_text(text)}' for each, text in carried.items()])
        return (
            f'{self._head}{self._producer}-{next(self._numbers)}","type":{to_text(name)},'
            f'"time":"{self._now()}","depth":{depth}{more},{payload}}}'
        ).encode()

    def _now(self) -> str:
        second, microseconds = divmod(time_ns() // 1000, 1_000_000)
        # All but the fraction is the same for a second, and is what takes the time. It is one
        # object with its text, since several threads may use an encoder.
        known, written = self._second
        if second != known:
            written = datetime.fromtimestamp(second, UTC).isoformat()[:-6]
            self._second = second, written
        return f"{written}.{microseconds:06}Z"


def _json(data: Any) -> str:
    return f'"data":{_to_json(data)}'


def _base64(codec: Codec, data: Any) -> str:
    return f'"data_base64":"{b64encode(codec.encode(data)).decode()}"'


def decode(body: bytes, codec: Codec) -> CloudEvent:
    """Decode an event.

    Raises:
        Exception: it is no CloudEvent 1.0 in JSON, or its payload can't be decoded.
    """
    event = _from_json(body)
    if not isinstance(event, dict):
        raise ValueError(f"an event must be a JSON object, not {reprlib.repr(event)}")  # noqa: TRY004  the value of what was received is wrong
    attributes = cast("dict[str, Any]", event)
    get = attributes.get
    if get("specversion") != "1.0":
        raise ValueError(f"specversion must be '1.0', not {reprlib.repr(get('specversion'))}")
    id_: Any = get("id")
    source: Any = get("source")
    name: Any = get("type")
    time: Any = get("time")
    key: Any = get("partitionkey")
    if not (
        type(id_) is type(source) is type(name) is str
        and id_
        and source
        and (time is None or type(time) is str)
        and (key is None or (type(key) is str and key))
    ):
        _refuse(attributes)
    depth: Any = get("depth")
    if type(depth) is not int or depth < 1:
        depth = 1
    data = attributes.pop("data", None)
    if "data_base64" in attributes:
        data = codec.decode(b64decode(attributes.pop("data_base64"), validate=True))
    decoded: CloudEvent = _make(CloudEvent, (id_, source, name, time, key, data, depth, attributes))
    return decoded


def _refuse(attributes: dict[str, Any]) -> NoReturn:
    """Raise `ValueError` for the first attribute that is wrong."""
    required = ("id", "source", "type")
    wrong = next(
        each
        for each in (*required, "time", "partitionkey")
        if (each in required or attributes.get(each) is not None)
        and not (isinstance(attributes.get(each), str) and attributes[each])
    )
    raise ValueError(f"{wrong} must be a non-empty str, not {reprlib.repr(attributes.get(wrong))}")


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if isinf(number):
        raise ValueError(f"{text} is more than a float holds")
    return number


_to_text: Final[Callable[[object], str]] = JSONEncoder(
    allow_nan=False, separators=(",", ":")
).encode
# A program has few names of events.
_name_to_text: Final = lru_cache(_to_text)
_decoder: Final = JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def _from_json(body: bytes) -> Any:
    text = body.decode()
    # This module writes no spaces around an event, and to look for some takes time.
    if text[:1] == "{":
        value, end = _decoder.raw_decode(text)
        if end == len(text):
            return value
    return _decoder.decode(text)


def _to_json(data: Any) -> str:
    text = _to_text(data)
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
