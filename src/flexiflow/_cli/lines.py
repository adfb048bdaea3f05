"""The input of `flexiflow run`: splitting bytes into lines, and parsing the lines (L2); no I/O."""

from __future__ import annotations

import math
from json import JSONDecodeError, JSONDecoder
from typing import Any, Final, NoReturn, NotRequired, TypedDict, cast, final

from flexiflow._cli.problems import Rejected
from flexiflow._cli.text import one_line, show_message
from flexiflow._names import check_component_name, check_event_name
from flexiflow.events import BUILT_IN

MAX_LINE: Final = 16 * 2**20
"""The longest line that is accepted, in bytes without its line feed (L2)."""

_BOM = b"\xef\xbb\xbf"

# The white space of JSON, without the line feed.
_JSON_SPACE = b" \t\r"

_SHAPES = ({"component", "message"}, {"event", "data"}, {"event"})


@final
class LineSplitter:
    """Splits chunks of bytes into lines, and never holds more than one line of the longest size.

    Args:
        limit: the longest line, in bytes without its line feed.
    """

    __slots__ = ("_held", "_limit", "_skipping", "_started")

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._held = bytearray()
        self._skipping = False
        self._started = False

    def feed(self, chunk: bytes) -> list[bytes | None]:
        """Return the lines that end in this chunk, with None in place of one that is too long."""
        first, *others = chunk.split(b"\n")
        self._hold(first)
        if not others:
            return []
        rest = others.pop()
        limit = self._limit
        lines = [self._complete(), *[line if len(line) <= limit else None for line in others]]
        self._hold(rest)
        return lines

    def finish(self) -> list[bytes | None]:
        """Return the last line, if it did not end with a line feed."""
        return [self._complete()] if self._held or self._skipping else []

    def _hold(self, part: bytes) -> None:
        if not self._skipping:
            self._held += part
        if len(self._held) > self._limit:
            self._held = bytearray()
            self._skipping = True

    def _complete(self) -> bytes | None:
        line = None if self._skipping else bytes(self._held)
        self._held = bytearray()
        self._skipping = False
        if line is not None and not self._started:
            line = line.removeprefix(_BOM)
        self._started = True
        return line


@final
class MessageLine(TypedDict):
    """A line that sends a component a message."""

    component: str
    message: dict[str, Any]


@final
class EventLine(TypedDict):
    """A line that publishes an event."""

    event: str
    data: NotRequired[Any]


def parse(line: bytes | None) -> MessageLine | EventLine | None:
    """Parse a line; return None if it is blank.

    `NaN` and `Infinity` are not JSON and are refused, and so is a number that would be read as one
    of them, like 1e999. Of a key that is given twice, the last one counts. Built-in events are
    refused: in the output they would look like events of the engine.

    Args:
        line: what `LineSplitter` returned for it.

    Raises:
        Rejected: the line is too long, not UTF-8, not JSON, not of one of the two shapes, or names
            a built-in event.
    """
    if line is None:
        raise Rejected(f"longer than {MAX_LINE >> 20} MiB")
    if not line or line.isspace():
        return None
    record = _decode(line)
    if not isinstance(record, dict):
        raise Rejected(f"it must be a JSON object, not {_json_kind(record)}")
    order = cast("MessageLine | EventLine", record)
    if order.keys() not in _SHAPES:
        given = ", ".join(map(repr, order)) or "none"
        raise Rejected(
            "its keys must be 'component' and 'message', or 'event' and, if wanted, 'data', "
            f"not {one_line(given)}"
        )
    try:
        if "component" in order:
            _check_message(order["message"])
            check_component_name(order["component"])
        elif check_event_name(order["event"]) in BUILT_IN:
            _refuse_own(order["event"])
    except (TypeError, ValueError) as exc:
        raise Rejected(show_message(exc)) from None
    return order


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no value of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"more than a float holds: {text}")
    return number


_read = JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite).raw_decode


def _decode(line: bytes) -> object:
    try:
        text = line.strip(_JSON_SPACE).decode()
        record, end = _read(text)
    except UnicodeDecodeError as exc:
        raise Rejected(f"not UTF-8: {exc.reason}") from None
    except JSONDecodeError as exc:
        raise Rejected(f"not JSON: {exc.msg.removesuffix(' at')} at column {exc.colno}") from None
    except RecursionError:
        raise Rejected("not JSON that can be read: it is nested too deeply") from None
    except ValueError as exc:  # a constant, or an int of more digits than Python reads
        raise Rejected(f"not JSON that can be read: {show_message(exc)}") from None
    if end != len(text):
        raise Rejected(f"not JSON: something follows the value at column {end + 1}")
    return record


def _refuse_own(name: str) -> NoReturn:
    raise Rejected(
        f"{name!r} is one of the engine's own events, which tell of what happened in it: "
        "publish an event of another name"
    )


def _check_message(message: object) -> None:
    if not isinstance(message, dict):
        raise Rejected(f"'message' must be an object, not {_json_kind(message)}")
    if not isinstance(cast("dict[str, Any]", message).get("type"), str):
        raise Rejected("'message' must have a string 'type', like {\"type\": \"confirm\"}")


_KINDS: dict[type, str] = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}


def _json_kind(value: object) -> str:
    if value is None:
        return "null"
    return _KINDS.get(type(value), "a number")
