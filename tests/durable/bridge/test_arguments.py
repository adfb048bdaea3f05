"""What `open_bridge` refuses, before anything is opened: X8 and others."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from flexiflow import EventBus
from flexiflow.extras.durable import MemoryTransport, SqliteTransport, Transport, open_bridge
from tests.durable.bridge.helpers import NAME, Faulty, Handler, consuming, until
from tests.durable.redis.desk import Keys
from tests.durable.redis.desk import transport as redis_transport

MOST = 10**12
COUNTS = (
    *("limit", "prefetch", "prefetch_bytes"),
    *("max_waiting", "max_attempts", "max_deliveries", "max_depth"),
)

Wrong = dict[str, tuple[dict[str, Any], str]]
"""The options that are refused, and the message, by what is wrong."""

COUNT = "must be an int, 1 to 1,000,000,000,000, not"
SECONDS = "must be a number of seconds, 0 or more, not"
FINITE = "must be a finite number of seconds, more than 0, not"
NAMED = "must be of letters, digits, '.', '_' and '-', not"
OVERLAP = "overlap: an event that comes in must not be one that goes out"
START = (
    "start must be 'oldest', 'new', a datetime, a position, or a position for each partition, not"
)

WRONG_VALUES: Wrong = {
    "overlap": (
        {"outgoing": ["x", "a.*"], "incoming": ["y", "*.b"]},
        f"outgoing 'a.*' and incoming '*.b' {OVERLAP}",
    ),
    "overlap in the rest": (
        {"outgoing": ["a.b.c"], "incoming": ["x", "a.**"]},
        f"outgoing 'a.b.c' and incoming 'a.**' {OVERLAP}",
    ),
    "no group": ({"group": None}, "incoming events need a group, whose workers share them"),
    "empty group": ({"group": ""}, f"group {NAMED} ''"),
    "spaced group": ({"group": "a b"}, f"group {NAMED} 'a b'"),
    "strange consumer": ({"consumer": "a/b"}, f"consumer {NAMED} 'a/b'"),
    "empty source": (
        {"outgoing": ["b"], "source": ""},
        "source must not be empty; None names the group",
    ),
    "malformed outgoing": (
        {"outgoing": ["a..b"]},
        (
            "malformed event name 'a..b': it must be non-empty segments joined by dots, like "
            "'order.placed'"
        ),
    ),
    "malformed incoming": (
        {"incoming": ["**.b"]},
        "malformed pattern '**.b': '**' may only be the last segment",
    ),
    "key of none": (
        {"key": str},
        "a key is of outgoing events, and there are none; those that come in have one",
    ),
    "limit": ({"limit": 0}, f"limit {COUNT} 0"),
    "limit of True": ({"limit": True}, f"limit {COUNT} True"),
    "prefetch": ({"prefetch": 2.0}, f"prefetch {COUNT} 2.0"),
    "huge prefetch": ({"prefetch": 10**12 + 1}, f"prefetch {COUNT} 1000000000001"),
    "huge prefetch_bytes": ({"prefetch_bytes": 10**30}, f"prefetch_bytes {COUNT} {10**30}"),
    "huge max_waiting": ({"max_waiting": 10**30}, f"max_waiting {COUNT} {10**30}"),
    "max_attempts": ({"max_attempts": 0}, f"max_attempts {COUNT} 0"),
    "max_deliveries": ({"max_deliveries": -1}, f"max_deliveries {COUNT} -1"),
    "max_depth": ({"max_depth": 0}, f"max_depth {COUNT} 0"),
    "start with a typo": ({"start": "newest"}, f"{START} 'newest'"),
    "start with an empty position": ({"start": ["1", ""]}, f"{START} ['1', '']"),
    "start without a zone": (
        {"start": datetime(2030, 1, 1)},  # noqa: DTZ001
        (
            "start must have a time zone, as datetime.now(UTC) has, and "
            "datetime.datetime(2030, 1, 1, 0, 0) has none"
        ),
    ),
    "retry_delay": ({"retry_delay": -0.1}, f"retry_delay {SECONDS} -0.1"),
    "retry_delay of True": ({"retry_delay": True}, f"retry_delay {SECONDS} True"),
    "retry_delay of False": ({"retry_delay": False}, f"retry_delay {SECONDS} False"),
    "retry_delay of a Decimal": (
        {"retry_delay": Decimal(0)},
        f"retry_delay {SECONDS} Decimal('0')",
    ),
    "retry_delay of a str": ({"retry_delay": "0"}, f"retry_delay {SECONDS} '0'"),
    "lease": ({"lease": 0}, f"lease {FINITE} 0"),
    "endless lease": ({"lease": float("inf")}, f"lease {FINITE} inf"),
    "lease of a huge int": (
        {"lease": 10**400},
        f"lease {FINITE} 100000000000000000...0000000000000000000",
    ),
    "grace": ({"grace": float("nan")}, f"grace {SECONDS} nan"),
    "grace of False": ({"grace": False}, f"grace {SECONDS} False"),
    "grace of a Decimal": ({"grace": Decimal(0)}, f"grace {SECONDS} Decimal('0')"),
    "grace of a Fraction": ({"grace": Fraction(0)}, f"grace {SECONDS} Fraction(0, 1)"),
    "store_timeout": ({"store_timeout": "1"}, f"store_timeout {FINITE} '1'"),
    "endless store_timeout": ({"store_timeout": float("inf")}, f"store_timeout {FINITE} inf"),
}


async def asynchronous(data: object) -> str:
    """Be no key function."""
    return str(data)


class Asynchronous(NamedTuple):
    """Be no codec."""

    encode: Callable[[Any], object]
    decode: Callable[[Any], object]
    content_type: str = "text/plain"


ASYNC = "codec must have plain functions, and some of Asynchronous(...='text/plain') are async"

WRONG_TYPES: Wrong = {
    "outgoing str": ({"outgoing": "a"}, "outgoing must be several patterns, as ['a'], not a str"),
    "incoming int": ({"incoming": 3}, "incoming must be several patterns, not 3"),
    "pattern": ({"incoming": [3]}, "an event name must be a str, not 3"),
    "group": ({"group": 3}, "group must be a str or None, not 3"),
    "consumer": ({"consumer": b"c"}, "consumer must be a str or None, not b'c'"),
    "source": ({"source": 3}, "source must be a str or None, not 3"),
    "start": ({"start": 3.0}, f"{START} 3.0"),
    "start of bytes": ({"start": b"new"}, f"{START} b'new'"),
    "start of numbers": ({"start": [1, 2]}, f"{START} [1, 2]"),
    "start of nothing": ({"start": ()}, f"{START} ()"),
    "start of None": ({"start": None}, f"{START} None"),
    "key": (
        {"outgoing": ["b"], "key": "id"},
        "key must be callable with 1 positional argument, not 'id'",
    ),
    "async key": (
        {"outgoing": ["b"], "key": asynchronous},
        "key must be a plain function, and this one is async",
    ),
    "codec": (
        {"codec": 7},
        "codec must have encode, decode and content_type, as JSON has, which 7 has not",
    ),
    "async encode": ({"codec": Asynchronous(asynchronous, str)}, ASYNC),
    "async decode": ({"codec": Asynchronous(str, asynchronous)}, ASYNC),
    "transport": (
        {"transport": "redis://localhost"},
        (
            "transport must have a method connect(), as SqliteTransport('events.db') has, which "
            "'redis://localhost' has not"
        ),
    ),
    "bus": ({"bus": None}, "bus must be an EventBus, not None"),
}


def refuse(exception: type[Exception], wrong: dict[str, Any]) -> str:
    """Open a bridge that is refused at once, and return why."""
    faulty = Faulty(MemoryTransport())
    options: dict[str, Any] = {"bus": EventBus(), "transport": faulty}
    options |= {"incoming": ["a"], "group": "g"} | wrong
    bus, transport = options.pop("bus"), options.pop("transport")
    with pytest.raises(exception) as caught:
        open_bridge(bus, transport, **options)
    assert not faulty.calls
    return str(caught.value)


@pytest.mark.parametrize(("wrong", "message"), WRONG_VALUES.values(), ids=list(WRONG_VALUES))
def test_refuses_a_wrong_value(wrong: dict[str, Any], message: str) -> None:
    """X8, Y5: Patterns that overlap and numbers out of range are refused before all is opened."""
    assert refuse(ValueError, wrong) == message


@pytest.mark.parametrize(("wrong", "message"), WRONG_TYPES.values(), ids=list(WRONG_TYPES))
def test_refuses_a_wrong_type(wrong: dict[str, Any], message: str) -> None:
    """B3: What can't be a pattern, a name, a function, a codec or a transport is refused."""
    assert refuse(TypeError, wrong) == message


@pytest.mark.parametrize("what", ["retry_delay", "grace"])
async def test_takes_no_seconds(what: str) -> None:
    """X8: 0 is in the range, as an int and as a float."""
    for none in (0, 0.0):
        options: dict[str, Any] = {what: none}
        async with open_bridge(EventBus(), MemoryTransport(), outgoing=["a"], **options) as bridge:
            assert bridge.statistics().held == 0


@pytest.mark.parametrize(
    ("outgoing", "incoming"),
    [
        ("a.*", "a"),
        ("a.*", "a.b.c"),
        ("a.**", "a"),
        ("a.b", "a.c"),
        ("*.a", "*.b"),
        ("a.*", "b.**"),
    ],
)
async def test_takes_patterns_that_do_not_overlap(outgoing: str, incoming: str) -> None:
    """X8: No name matches both of these."""
    manager = open_bridge(
        EventBus(), MemoryTransport(), outgoing=[outgoing], incoming=[incoming], group="g.-_9"
    )
    async with manager as bridge:
        assert bridge.statistics().held == 0


async def handle_with_most_of_all(transport: Transport) -> None:
    """Have an event handled, after one failure, by a bridge whose counts are as high as can be."""
    handler = Handler(fails=1)
    async with consuming(transport, handler, **dict.fromkeys(COUNTS, MOST)) as bridge:
        bus = EventBus()
        async with open_bridge(bus, transport, outgoing=[NAME], prefetch_bytes=MOST):
            assert await bus.publish(NAME, 1) == ()
        await until(lambda: bridge.statistics().acknowledged == 1)
        assert await bridge.dead_letters(limit=MOST) == []
    assert handler.done == [1]


async def test_the_highest_counts_work_in_memory() -> None:
    """X8: counts that are accepted work."""
    await handle_with_most_of_all(MemoryTransport(max_length=MOST, max_event_bytes=MOST))


async def test_the_highest_counts_work_on_sqlite(path: Path) -> None:
    """X8: counts that are accepted work."""
    await handle_with_most_of_all(SqliteTransport(path, max_length=MOST, max_event_bytes=MOST))


async def test_the_highest_counts_work_on_redis(keys: Keys) -> None:
    """X8: counts that are accepted work."""
    await handle_with_most_of_all(redis_transport(keys, max_length=MOST, max_event_bytes=MOST))
