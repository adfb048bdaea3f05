"""The checks of the arguments of `open_bridge`, made before anything is opened."""

from __future__ import annotations

import re
import reprlib
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from flexiflow._arguments import check_count, check_finite, check_seconds
from flexiflow._bus import EventBus
from flexiflow._callables import check_callable, is_coroutine_callable
from flexiflow._names import check_subscribed_name
from flexiflow._text import show
from flexiflow.extras.durable._patterns import overlapping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from flexiflow.extras.durable._bridge.cloudevents import Codec
    from flexiflow.extras.durable._bridge.schemas import Schema
    from flexiflow.extras.durable._records import Start

_COUNTS: Final = (
    "limit",
    "prefetch",
    "prefetch_bytes",
    "max_waiting",
    "max_attempts",
    "max_deliveries",
    "max_depth",
)
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_DIGIT: Final = re.compile("[0-9]")


class Settings(NamedTuple):
    """The arguments of `open_bridge`, which describes them."""

    outgoing: tuple[str, ...]
    incoming: tuple[str, ...]
    group: str | None
    consumer: str | None
    source: str | None
    key: Callable[[Any], str | None] | None
    limit: int
    prefetch: int
    prefetch_bytes: int
    max_waiting: int
    max_attempts: int
    max_deliveries: int
    retry_delay: float
    lease: float
    grace: float
    store_timeout: float
    codec: Codec
    schemas: Mapping[str, Schema[Any]]
    max_depth: int
    start: Start


def check_ends(bus: object, transport: object) -> None:
    """Raise `TypeError` unless these are a bus and a transport."""
    if not isinstance(bus, EventBus):
        raise TypeError(f"bus must be an EventBus, not {reprlib.repr(bus)}")
    if not callable(getattr(transport, "connect", None)):
        raise TypeError(
            "transport must have a method connect(), as SqliteTransport('events.db') has, which "
            f"{reprlib.repr(transport)} has not"
        )


def check_settings(settings: Settings) -> None:
    """Check everything but the bus, the transport and the outbox.

    Raises:
        ValueError: as `open_bridge` does.
        TypeError: as `open_bridge` does.
    """
    _check_patterns(settings)
    _check_names(settings)
    for what in _COUNTS:
        check_count(what, getattr(settings, what))
    for what in ("lease", "store_timeout"):
        check_finite(what, getattr(settings, what))
    for what in ("retry_delay", "grace"):
        check_seconds(what, getattr(settings, what), zero=True)
    _check_functions(settings)


def check_prefetch(prefetch_bytes: int, max_event_bytes: int) -> None:
    """Check that a worker can hold the largest event (X14).

    Raises:
        ValueError: `prefetch_bytes` is less than `max_event_bytes`.
    """
    if prefetch_bytes < max_event_bytes:
        raise ValueError(
            f"prefetch_bytes={prefetch_bytes} is less than the transport's "
            f"max_event_bytes={max_event_bytes}: an event of that size could never be received"
        )


def moment_of(what: str, given: object) -> float:
    """Return a datetime in seconds since 1970.

    Args:
        what: the argument's name, for messages.
        given: what was given.

    Raises:
        ValueError: it has no time zone.
        TypeError: it is no datetime.
    """
    if not isinstance(given, datetime):
        raise TypeError(f"{what} must be a datetime, not {reprlib.repr(given)}")
    if given.utcoffset() is None:
        raise ValueError(
            f"{what} must have a time zone, as datetime.now(UTC) has, and {given!r} has none"
        )
    return given.timestamp()


def check_group(name: object) -> None:
    """Check the name of a group.

    Raises:
        ValueError: it has other characters than a group's name may have.
        TypeError: it is no str.
    """
    if not isinstance(name, str):
        raise TypeError(f"group must be a str, not {reprlib.repr(name)}")
    _check_characters("group", name)


def check_start(what: str, given: Any) -> Start:
    """Return where a group is to begin, as a transport takes it (Y5).

    Args:
        what: the argument's name, for messages.
        given: what was given.

    Raises:
        ValueError: a time without a time zone; a text without a digit, which is no position.
        TypeError: it is neither a str, nor a datetime, nor several str.
    """
    if isinstance(given, datetime):
        return moment_of(what, given)
    if isinstance(given, str) and given in ("oldest", "new"):
        return cast("Start", given)
    positions: tuple[Any, ...] = (given,) if isinstance(given, str) else _several(given)
    if not positions or not all(isinstance(each, str) for each in positions):
        raise TypeError(_no_start(what, given))
    # A transport would not look at it where there is a group already, as after the first deploy.
    if not all(map(_DIGIT.search, positions)):
        raise ValueError(_no_start(what, given))
    return positions


def _several(given: Any) -> tuple[Any, ...]:
    try:
        return tuple(given)
    except TypeError:
        return ()


def _no_start(what: str, given: object) -> str:
    return (
        f"{what} must be 'oldest', 'new', a datetime, a position, or a position for each "
        f"partition, not {reprlib.repr(given)}"
    )


def patterns_of(what: str, given: Iterable[object]) -> tuple[str, ...]:
    """Return the patterns, each once, if all are valid.

    Args:
        what: the argument's name, for messages.
        given: the patterns.

    Raises:
        ValueError: a pattern is malformed.
        TypeError: a pattern is no str, or `given` is a str or no iterable.
    """
    if isinstance(given, str):
        raise TypeError(f"{what} must be several patterns, as [{show(given)}], not a str")
    try:
        patterns = tuple(given)
    except TypeError:
        raise TypeError(f"{what} must be several patterns, not {reprlib.repr(given)}") from None
    return tuple(dict.fromkeys(map(check_subscribed_name, patterns)))


def _check_patterns(settings: Settings) -> None:
    outgoing, incoming = settings.outgoing, settings.incoming
    both = overlapping(outgoing, incoming)
    if both is not None:
        raise ValueError(
            f"outgoing {show(both[0])} and incoming {show(both[1])} overlap: an event that comes "
            "in must not be one that goes out"
        )
    if incoming and settings.group is None:
        raise ValueError("incoming events need a group, whose workers share them")
    if not outgoing and settings.key is not None:
        raise ValueError(
            "a key is of outgoing events, and there are none; those that come in have one"
        )


def _check_names(settings: Settings) -> None:
    for what in ("group", "consumer", "source"):
        name = getattr(settings, what)
        if name is not None and not isinstance(name, str):
            raise TypeError(f"{what} must be a str or None, not {reprlib.repr(name)}")
    for what in ("group", "consumer"):
        name = getattr(settings, what)
        if name is not None:
            _check_characters(what, name)
    if settings.source == "":
        raise ValueError("source must not be empty; None names the group")


def _check_characters(what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{what} must be of letters, digits, '.', '_' and '-', not {reprlib.repr(name)}"
        )


def _check_functions(settings: Settings) -> None:
    if settings.key is not None:
        check_callable("key", settings.key, 1)
        if is_coroutine_callable(settings.key):
            raise TypeError("key must be a plain function, and this one is async")
    check_codec(settings.codec)


def check_codec(codec: Any) -> None:
    """Check a codec.

    Raises:
        TypeError: it lacks something, or is async.
    """
    if not (
        callable(getattr(codec, "encode", None))
        and callable(getattr(codec, "decode", None))
        and isinstance(getattr(codec, "content_type", None), str)
    ):
        raise TypeError(
            "codec must have encode, decode and content_type, as JSON has, which "
            f"{reprlib.repr(codec)} has not"
        )
    if is_coroutine_callable(codec.encode) or is_coroutine_callable(codec.decode):
        raise TypeError(
            f"codec must have plain functions, and some of {reprlib.repr(codec)} are async"
        )
