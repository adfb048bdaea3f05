"""The universal suite: slow workers, waiting, losses, sizes and patterns (X11 to X15)."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import anyio

from flexiflow._bus import EventBus
from flexiflow.extras.durable import EventTooLarge
from flexiflow.testing._examiner.kit import claim
from flexiflow.testing._transport.universal import GROUP, Noted, first_two, universal

if TYPE_CHECKING:
    from flexiflow.testing._transport.universal import Stage

_SHORT: Final = 0.1
"""A lease, in seconds, that a blocking handler outlasts."""
_LONG: Final = 1_000.0
"""How many seconds an event waits that is not to be tried again while a scenario plays."""
_RESTARTS: Final = 5
_NAMES: Final = ("n.old", "n.new")
_MOST_BYTES: Final = 1_024
_HELD_BYTES: Final = 4 * _MOST_BYTES


@universal("X11")
async def outlasts_a_lease(stage: Stage) -> None:
    """A handler blocks its loop for longer than its worker's lease; each event is handled once."""
    numbers = range(stage.some(5, 3))
    seen, noted = Counter[int](), Noted(len(numbers))

    def handle(data: int) -> None:
        seen[data] += 1
        if data == 0:
            time.sleep(1.5 * _SHORT)
        noted(data)

    await stage.publish(numbers)
    async with stage.worker(handle, lease=_SHORT, max_deliveries=1):
        await noted.complete()
    claim(set(seen.values()) == {1}, f"events were handled {sorted(seen.values())} times")
    await stage.check_settled()


@universal("X12")
async def holds_a_key_back_over_restarts(stage: Stage) -> None:
    """A failed event is tried once, and its key waits, while one worker after another comes."""
    seen = Counter[int]()
    tried, others = Noted(1), Noted(stage.some(20))

    def handle(data: int) -> None:
        seen[data] += 1
        if data == 0:
            tried(data)
            raise OSError(data)
        others(data)

    await stage.publish(range(2 + stage.some(20)), key=first_two)
    async with stage.worker(handle, retry_delay=_LONG):
        await tried.complete()
        await others.complete()
    for _ in range(_RESTARTS):
        async with stage.worker(handle, retry_delay=_LONG):
            pass
    claim(seen[0] == 1, f"{seen[0]} attempts were made, and only the first is due")
    claim(not seen[1], "the next event of its key was handled before it")
    standing = await stage.standing()
    told = (standing.pending, standing.waiting, standing.dead)
    claim(told == (0, 2, 0), f"two events wait, and the group stands at {standing}")


@universal("X12")
async def passes_what_fails(stage: Stage) -> None:
    """100 events fail, with a prefetch of 10; 50 others come behind them, and all are handled."""
    failing, healthy = range(stage.some(100, 20)), range(1_000, 1_000 + stage.some(50, 10))
    noted = Noted(len(healthy))

    def handle(data: int) -> None:
        if data in failing:
            raise OSError(data)
        noted(data)

    await stage.publish(failing)
    await stage.publish(healthy)
    async with stage.worker(handle, prefetch=10, retry_delay=_LONG):
        await noted.complete()
    noted.check(healthy)
    standing = await stage.standing()
    told = f"{len(failing)} events wait, and the group stands at {standing}"
    claim((standing.waiting, standing.dead) == (len(failing), 0), told)


@universal("X14", "max_event_bytes", max_event_bytes=_MOST_BYTES)
async def holds_so_many_bytes(stage: Stage) -> None:
    """A worker holds no more bytes than it may; a larger event is refused at `publish`."""
    count, free = stage.some(50, 20), anyio.Event()
    begun, noted = Noted(1), Noted(count)
    bus, size = EventBus(), _MOST_BYTES // 2

    async def handle(data: str) -> None:
        begun(data)
        await free.wait()
        noted(data)

    async with stage.bridge(bus, outgoing=["n.*"]):
        [failure] = await bus.publish("n.e", "." * _MOST_BYTES)
    claim(isinstance(failure.exception, EventTooLarge), f"{failure.exception!r} was raised")
    await stage.publish(str(number).ljust(size) for number in range(count))
    async with stage.worker(handle, prefetch_bytes=_HELD_BYTES) as bridge:
        await begun.complete()
        await anyio.sleep(_SHORT)
        held = bridge.statistics().held
        free.set()
        await noted.complete()
    most = _HELD_BYTES // size
    claim(held <= most, f"{held} events of more than {size} bytes were held, not {most} at most")
    await stage.check_settled()


@universal("X15")
async def rolls_to_more_patterns(stage: Stage) -> None:
    """A worker with more patterns joins beside another one; what only it takes is handled."""
    await _roll(stage)


@universal("X15", partitions=3)
async def rolls_over_partitions(stage: Stage) -> None:
    """The same, where each partition is leased to one of the two."""
    await _roll(stage)


async def _roll(stage: Stage) -> None:
    count = stage.some(100, 10)
    old, both, new = Noted(1), Noted(2 * count), Noted(count)
    bus = EventBus()
    await bus.subscribe("n.new", "worker", new)
    await bus.subscribe("n.*", "worker", both)
    await stage.publish([-1], lambda _: "n.old")
    async with stage.worker(old, "n.old", lease=1.0):
        await old.complete()
        async with stage.bridge(bus, incoming=_NAMES, group=GROUP, lease=1.0):
            await stage.publish(range(2 * count), _by_turns)
            await both.complete()
    new.check(range(1, 2 * count, 2))
    claim(old.seen == [-1], f"{len(old.seen) - 1} events were given to the one that stands by")
    await stage.check_settled()


@universal("X13", "empty")
async def goes_on_after_a_loss(stage: Stage) -> None:
    """A server comes back empty: all that is stored later is handled, the rest counts as missed."""
    lost, later = range(stage.some(20)), range(1_000, 1_000 + stage.some(20))
    begun, noted, free = Noted(1), Noted(len(later)), anyio.Event()

    async def handle(data: int) -> None:
        if data in lost:
            begun(data)
            await free.wait()
        else:
            noted(data)

    await stage.publish(lost)
    async with stage.worker(handle):
        await begun.complete()
        await stage.call_hook("empty")
        free.set()
        await stage.publish(later, store_timeout=30.0)
        await noted.complete()
    noted.check(later)
    missed = (await stage.standing()).missed
    claim(0 < missed <= len(lost), f"{missed} count as missed, where {len(lost)} were lost")


def _by_turns(number: int) -> str:
    return _NAMES[number % 2]
