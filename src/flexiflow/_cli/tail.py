"""`flexiflow tail`: show a transport's events as they are stored (L3)."""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING, Any, Final, cast

from flexiflow._cli.connecting import looked_up, use
from flexiflow._cli.display import Plain
from flexiflow._cli.encoding import encode
from flexiflow._cli.observing import any_of
from flexiflow._cli.text import show_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexiflow._cli.writer import Writer
    from flexiflow.extras.durable import Connection, Stored

_AT_ONCE: Final = 500
_SECONDS: Final = 1.0
_START: Final = "0"


def tail(url: str, patterns: Sequence[str], *, from_start: bool, has_positions: bool) -> int:
    """Write each event that matches as a line of JSON, until Ctrl-C or a closed pipe.

    Args:
        url: names the transport.
        patterns: patterns of event names; none for all events.
        from_start: whether to begin with the events that are stored already.
        has_positions: whether to write the partition and the position of each event.

    Returns:
        The exit status (L5).
    """
    tell = Plain(sys.stderr).tell
    is_wanted = any_of(patterns or ("**",))
    encode_stored = _encode_with_position if has_positions else _encode

    async def look_on(connection: Connection, writer: Writer) -> int:
        start = [_START] * connection.partitions
        at = connection.address
        begin = connection.tail(start if from_start else None, _AT_ONCE, 0)
        stored, after = await looked_up(at, begin)
        tell(f"ready: shows what is stored in {at}")
        while True:
            for each in stored:
                event = parse_event(each.body)
                if event is None:
                    where = f"partition {each.partition}, position {each.position}"
                    tell(f"not shown: what is stored at {where} is no event")
                elif is_wanted(event["type"]):
                    writer.add(f"{encode_stored(each, event)}\n")
            await writer.drain()
            stored, after = await looked_up(at, connection.tail(after, _AT_ONCE, _SECONDS))

    return use(url, look_on)


def _encode(_: Stored, event: dict[str, Any]) -> str:
    return encode(event)


def _encode_with_position(stored: Stored, event: dict[str, Any]) -> str:
    place = {"partition": stored.partition, "position": stored.position}
    return encode(place | {"event": event})


def parse_event(body: bytes) -> dict[str, Any] | None:
    """Return the CloudEvents object in a body; None if there is none with a non-empty `type`.

    A number that is too large for a float is returned as it was written, as a str.
    """
    try:
        found = json.loads(body, parse_float=_as_written)
    except (TypeError, ValueError, RecursionError):  # TypeError: the body is not text at all
        return None
    event = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    name = event.get("type")
    return event if isinstance(name, str) and name else None


def show_body(body: object) -> str:
    """Return the text of a body that holds no event."""
    return body.decode(errors="backslashreplace") if isinstance(body, bytes) else show_text(body)


def _as_written(text: str) -> float | str:
    number = float(text)
    return text if math.isinf(number) else number
