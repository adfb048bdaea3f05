"""How what a server keeps is written and read: entries, times, keys, and outcomes."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from flexiflow.extras.durable._outcomes import Buried, Followed, Postponed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flexiflow.extras.durable._outcomes import Outcome


def milliseconds(seconds: float) -> int:
    """Return seconds as milliseconds for the server, at least 1."""
    return max(int(seconds * 1000), 1)


class Fields(NamedTuple):
    """The fields of an entry of a log.

    Attributes:
        body: the event.
        group: as in `Record`.
        time: when it was stored, in seconds since 1970; None if that is not known.
    """

    body: bytes
    group: str | None
    time: float | None


def fields(entry: list[bytes]) -> Fields:
    """Return the fields of an entry."""
    found = dict(zip(entry[::2], entry[1::2], strict=True))
    return Fields(found[b"event"], text(found.get(b"group")), seconds(found.get(b"time")))


def seconds(microseconds: bytes | None) -> float | None:
    """Return a time as the server keeps it in seconds; None if it is not known."""
    if microseconds is None or not microseconds.isdigit() or int(microseconds) == 0:
        return None
    return int(microseconds) / 1_000_000


def text(value: bytes | None) -> str | None:
    """Decode a text, even an invalid one that other software has written."""
    return value.decode(errors="backslashreplace") if value is not None else None


def key_of(value: bytes) -> str:
    """Decode the key of a line."""
    return value.decode(errors="surrogatepass")


def _bytes_of(key: str) -> bytes:
    # A JSON text can hold lone surrogates, which UTF-8 can't.
    return key.encode(errors="surrogatepass")


def flat(outcome: Outcome) -> Iterator[bytes | str | int]:
    """Yield an outcome as `settle.lua` reads it: a letter, and its values."""
    if isinstance(outcome, Followed):
        yield "F"
        yield _bytes_of(outcome.key)
    elif isinstance(outcome, Postponed):
        yield "P" if outcome.key is not None else "Q"
        yield from outcome[:3]
        yield "" if outcome.delay is None else max(ceil(outcome.delay * 1000), 0)
        if outcome.key is not None:
            yield _bytes_of(outcome.key)
    else:
        yield type(outcome).__name__[0]
        yield from outcome[:3]
        if isinstance(outcome, Buried):
            # The text of an exception need not be encodable.
            for each in outcome.failure:
                yield each.encode(errors="backslashreplace")
