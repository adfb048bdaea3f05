"""Events on the wire: CloudEvents 1.0 in the JSON format (X7)."""

from __future__ import annotations

import reprlib
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from functools import partial
from itertools import count
from time import time_ns
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, Protocol, cast, final

from flexiflow._text import LONGEST
from flexiflow.extras.durable._bridge.failing import reason_of
from flexiflow.extras.durable._bridge.json_text import (
    from_json,
    is_key,
    name_to_text,
    payload_to_json,
    to_text,
)
from flexiflow.extras.durable._errors import NotEncodable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flexiflow.extras.durable._bridge.schemas import Schema

_tuple: Any = tuple
_make: Final = _tuple.__new__
"""Makes a `CloudEvent`, in half the time of calling the class."""
NOTHING: Final[Mapping[str, Any]] = {}
"""No attributes, or no schemas."""


ATTRIBUTES: Final = frozenset(
    (
        *("specversion", "id", "source", "type", "time", "subject", "datacontenttype"),
        *("dataschema", "data", "depth", "partitionkey"),
    )
)
"""The attributes that `Encoder` and `decode` use, or that CloudEvents gives a meaning."""


class Codec(Protocol):
    """Encodes and decodes payloads; an exception that it raises means that it can't (X7).

    Example:
        >>> from flexiflow.extras.durable import JSON, Codec
        >>> codec: Codec = JSON
        >>> print(codec.encode({"id": "A7"}))
        b'{"id":"A7"}'
    """

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
        return payload_to_json(data).encode()

    def decode(self, body: bytes) -> Any:
        """Decode a JSON value.

        Raises:
            ValueError: it is not valid JSON.
        """
        return from_json(body)


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
            f'{{"specversion":"1.0","source":{to_text(source)},'
            f'"datacontenttype":{to_text(codec.content_type)},"id":"'
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
        write_name = name_to_text if len(name) <= LONGEST else to_text
        more = "" if key is None else f',"partitionkey":{to_text(key)}'
        if carried:
            more += "".join([f',"{each}":{to_text(text)}' for each, text in carried.items()])
        return (
            f'{self._head}{self._producer}-{next(self._numbers)}","type":{write_name(name)},'
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
    return f'"data":{payload_to_json(data)}'


def _base64(codec: Codec, data: Any) -> str:
    return f'"data_base64":"{b64encode(codec.encode(data)).decode()}"'


def decode(body: bytes, codec: Codec) -> CloudEvent:
    """Decode an event.

    Raises:
        Exception: it is no CloudEvent 1.0 in JSON, or its payload can't be decoded.
    """
    event = from_json(body)
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
        and (key is None or is_key(key))
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
        (
            each
            for each in (*required, "time")
            if (each in required or attributes.get(each) is not None)
            and not (isinstance(attributes.get(each), str) and attributes[each])
        ),
        "partitionkey",
    )
    right = "str of text" if wrong == "partitionkey" else "str"
    raise ValueError(
        f"{wrong} must be a non-empty {right}, not {reprlib.repr(attributes.get(wrong))}"
    )
