"""Transports from URLs, for command lines and configuration."""

from __future__ import annotations

import math
import reprlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from flexiflow._text import show
from flexiflow.extras.durable._redis.transport import RedisTransport
from flexiflow.extras.durable._sqlite.transport import SqliteTransport

if TYPE_CHECKING:
    from collections.abc import Callable
    from urllib.parse import SplitResult

    from flexiflow.extras.durable._transport import Transport


class _Kind(NamedTuple):
    """A kind of options.

    Attributes:
        read: returns the value of a text, or raises.
        what: what the text must be, for messages.
    """

    read: Callable[[str], object]
    what: str = ""


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):  # also of a number that no float holds, as 1e999
        raise OverflowError
    return number


def _octal(text: str) -> int:
    return int(text, 8)


_COUNT: Final = _Kind(int, "a whole number")
_NUMBER: Final = _Kind(_finite, "a number")
_TRUTH: Final = _Kind({"true": True, "false": False}.__getitem__, "true or false")
_MODE: Final = _Kind(_octal, "permissions in octal, as 600 is")

_BOTH: Final = {
    "partitions": _COUNT,
    "max_length": _COUNT,
    "idempotency_window": _NUMBER,
    "max_event_bytes": _COUNT,
}
_SQLITE: Final = {**_BOTH, "poll_interval": _NUMBER, "busy_timeout": _NUMBER, "mode": _MODE}
_REDIS: Final = {
    **_BOTH,
    "prefix": _Kind(str),
    "replicas": _COUNT,
    "connect_timeout": _NUMBER,
    "timeout": _NUMBER,
    "cluster": _TRUTH,
}


def transport_from_url(url: str) -> Transport:
    """Return the transport that a URL names; nothing is opened yet.

    Args:
        url: `sqlite:events.db`, `sqlite:///absolute/path.db`,
            `redis://[user:password@]host[:port][/database]`, or the same with `rediss` for TLS.
            The transport's options follow a question mark, by name and separated by `&`:
            `?partitions=4&max_length=100000`. Characters with a meaning in URLs, such as `?`, `#`
            and `%`, are written as `%3F`, `%23` and `%25`.

    Raises:
        TypeError: it is no str.
        ValueError: it names no transport, or an option is unknown or out of its range. The message
            never shows a password.
    """
    if not isinstance(url, str):
        raise TypeError(f"a transport's URL must be a str, not {type(url).__qualname__}")
    place = _split(url)
    if place.scheme == "sqlite":
        return SqliteTransport(_file(place, url), **_options(place.query, _SQLITE))
    if place.scheme in {"redis", "rediss"}:
        return RedisTransport(_server(place), **_options(place.query, _REDIS))
    raise ValueError(
        "a transport's URL must begin with 'sqlite:', 'redis://' or 'rediss://', as "
        f"'sqlite:events.db' does, and {_shown(url)!r} does not"
    )


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # the error's own message may show a part of a password
        raise ValueError(f"{_shown(url)!r} is no URL: its brackets don't match") from None


def _file(place: SplitResult, url: str) -> str:
    path = unquote(place.path)
    if place.netloc or place.fragment or not path:
        raise ValueError(
            "a transport's URL must be 'sqlite:events.db' or 'sqlite:///absolute/path.db', "
            f"not {_shown(url)!r}"
        )
    if "\0" in path:
        raise ValueError(
            "a transport's URL must name a file, and no file's name has a null character, as that "
            f"in {_shown(url)!r} has"
        )
    return path


def _server(place: SplitResult) -> str:
    if "@" in f"{place.path}{place.query}":  # the rest of a password that ended early
        raise ValueError(
            "in a transport's URL, / ? # and @ in a password are written as %2F, %3F, %23 and %40"
        )
    return place._replace(query="").geturl()


def _options(query: str, known: dict[str, _Kind]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise ValueError(
                f"a transport's URL has the option {reprlib.repr(name)}, which must be one of "
                f"{', '.join(known)}"
            )
        if name in options:
            raise ValueError(f"a transport's URL has the option {show(name)} twice")
        options[name] = _value(name, text, known[name])
    return options


def _value(name: str, text: str, kind: _Kind) -> object:
    try:
        return kind.read(text)
    except (KeyError, OverflowError, ValueError) as exc:
        what = "a finite number" if isinstance(exc, OverflowError) else kind.what
        raise ValueError(
            f"in a transport's URL, {name} must be {what}, not {reprlib.repr(text)}"
        ) from None


def _shown(url: str) -> str:
    """Return a URL without the parts that may hold a password: before an @, and after a `?`."""
    secret, at, rest = url.rpartition("@")
    scheme, separator, _ = secret.partition("://")
    hidden = f"{scheme}{separator}***@" if separator else "***@"
    return f"{hidden if at else ''}{rest.partition('?')[0]}"
