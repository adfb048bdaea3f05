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

WRONG_VALUES: dict[str, dict[str, Any]] = {
    "overlap": {"outgoing": ["a.*"], "incoming": ["*.b"]},
    "overlap in the rest": {"outgoing": ["a.b.c"], "incoming": ["x", "a.**"]},
    "no group": {"group": None},
    "empty group": {"group": ""},
    "spaced group": {"group": "a b"},
    "strange consumer": {"consumer": "a/b"},
    "empty source": {"outgoing": ["b"], "source": ""},
    "malformed outgoing": {"outgoing": ["a..b"]},
    "malformed incoming": {"incoming": ["**.b"]},
    "key of none": {"key": str},
    "limit": {"limit": 0},
    "limit of True": {"limit": True},
    "prefetch": {"prefetch": 2.0},
    "huge prefetch": {"prefetch": 10**12 + 1},
    "huge prefetch_bytes": {"prefetch_bytes": 10**30},
    "huge max_waiting": {"max_waiting": 10**30},
    "max_attempts": {"max_attempts": 0},
    "max_deliveries": {"max_deliveries": -1},
    "max_depth": {"max_depth": 0},
    "start with a typo": {"start": "newest"},
    "start with an empty position": {"start": ["1", ""]},
    "start without a zone": {"start": datetime(2030, 1, 1)},  # noqa: DTZ001
    "retry_delay": {"retry_delay": -0.1},
    "retry_delay of True": {"retry_delay": True},
    "retry_delay of False": {"retry_delay": False},
    "retry_delay of a Decimal": {"retry_delay": Decimal(0)},
    "retry_delay of a str": {"retry_delay": "0"},
    "lease": {"lease": 0},
    "endless lease": {"lease": float("inf")},
    "lease of a huge int": {"lease": 10**400},
    "grace": {"grace": float("nan")},
    "grace of False": {"grace": False},
    "grace of a Decimal": {"grace": Decimal(0)},
    "grace of a Fraction": {"grace": Fraction(0)},
    "store_timeout": {"store_timeout": "1"},
    "endless store_timeout": {"store_timeout": float("inf")},
}


async def asynchronous(data: object) -> str:
    """Be no key function."""
    return str(data)


class Asynchronous(NamedTuple):
    """Be no codec."""

    encode: Callable[[Any], object]
    decode: Callable[[Any], object]
    content_type: str = "text/plain"


WRONG_TYPES: dict[str, dict[str, Any]] = {
    "outgoing str": {"outgoing": "a"},
    "incoming int": {"incoming": 3},
    "pattern": {"incoming": [3]},
    "group": {"group": 3},
    "consumer": {"consumer": b"c"},
    "source": {"source": 3},
    "start": {"start": 3.0},
    "start of bytes": {"start": b"new"},
    "start of numbers": {"start": [1, 2]},
    "start of nothing": {"start": ()},
    "start of None": {"start": None},
    "key": {"outgoing": ["b"], "key": "id"},
    "async key": {"outgoing": ["b"], "key": asynchronous},
    "codec": {"codec": object()},
    "async encode": {"codec": Asynchronous(asynchronous, str)},
    "async decode": {"codec": Asynchronous(str, asynchronous)},
    "transport": {"transport": "redis://localhost"},
    "bus": {"bus": None},
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


@pytest.mark.parametrize("wrong", WRONG_VALUES.values(), ids=list(WRONG_VALUES))
def test_refuses_a_wrong_value(wrong: dict[str, Any]) -> None:
    """X8: Patterns that overlap and numbers out of range are refused before anything is opened."""
    assert refuse(ValueError, wrong)


@pytest.mark.parametrize("wrong", WRONG_TYPES.values(), ids=list(WRONG_TYPES))
def test_refuses_a_wrong_type(wrong: dict[str, Any]) -> None:
    """B3: What can't be a pattern, a name, a function, a codec or a transport is refused."""
    assert refuse(TypeError, wrong)


@pytest.mark.parametrize("what", ["retry_delay", "grace"])
def test_says_that_no_seconds_are_allowed(what: str) -> None:
    """X8: The message says which numbers are right, 0 among them."""
    reason = refuse(ValueError, {what: Decimal(0)})
    assert reason == f"{what} must be a number of seconds, 0 or more, not Decimal('0')"


@pytest.mark.parametrize("what", ["retry_delay", "grace"])
async def test_takes_no_seconds(what: str) -> None:
    """X8: 0 is in the range, as an int and as a float."""
    for none in (0, 0.0):
        options: dict[str, Any] = {what: none}
        async with open_bridge(EventBus(), MemoryTransport(), outgoing=["a"], **options) as bridge:
            assert bridge.statistics().held == 0


def test_says_where_a_group_may_begin() -> None:
    """Y5: Also where the group exists, and the transport would not look at it."""
    assert refuse(ValueError, {"start": "newest"}) == (
        "start must be 'oldest', 'new', a datetime, a position, or a position for each partition, "
        "not 'newest'"
    )


def test_names_the_patterns_that_overlap() -> None:
    """X8: The message shows both."""
    reason = refuse(ValueError, {"outgoing": ["x", "a.*"], "incoming": ["y", "*.b"]})
    assert "'a.*'" in reason
    assert "'*.b'" in reason


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
    """X8: What is not refused works."""
    await handle_with_most_of_all(MemoryTransport(max_length=MOST, max_event_bytes=MOST))


async def test_the_highest_counts_work_on_sqlite(path: Path) -> None:
    """X8: What is not refused works."""
    await handle_with_most_of_all(SqliteTransport(path, max_length=MOST, max_event_bytes=MOST))


async def test_the_highest_counts_work_on_redis(keys: Keys) -> None:
    """X8: What is not refused works."""
    await handle_with_most_of_all(redis_transport(keys, max_length=MOST, max_event_bytes=MOST))
