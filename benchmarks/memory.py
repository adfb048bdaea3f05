"""The memory that subscriptions and components hold, as tracemalloc counts it."""

from __future__ import annotations

import gc
import tracemalloc
from typing import TYPE_CHECKING, Final

import anyio

from benchmarks.handlers import EVENT, wait_once
from benchmarks.measuring import Measure, Round
from flexiflow import Component, Engine, EventBus, StateMachine, Transition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from benchmarks.measuring import Effort, Run

_NUMBER: Final = 100_000
_QUICK_NUMBER: Final = 5_000
_EVENTS: Final = 1_000_000
_QUICK_EVENTS: Final = 20_000


def measures() -> Iterator[Measure]:
    """Yield the measures of this module, which do not depend on a backend."""
    yield Measure(
        figure="memory of a subscription, 100 components, 100 names",
        against="",
        backend="",
        at_most=350,
        unit="bytes",
        run=_bytes_of(_subscriptions),
    )
    yield Measure(
        figure="memory of a registered component, one machine for all",
        against="",
        backend="",
        at_most=400,
        unit="bytes",
        run=_bytes_of(_components),
    )
    yield Measure(
        figure=f"what {_EVENTS:,} events add to a full buffer of 100, drop_oldest, nobody reads",
        against="",
        backend="",
        # In total, not for each event.
        at_most=2_000,
        unit="bytes",
        run=_stalled,
    )


def _bytes_of(make: Callable[[int], Awaitable[object]]) -> Run:
    def run(effort: Effort) -> list[Round]:
        number = _QUICK_NUMBER if effort.quick else _NUMBER
        # Memory does not vary from run to run, so one round is enough.
        return [Round(anyio.run(_held, make, number), 0.0)]

    return run


async def _held(make: Callable[[int], Awaitable[object]], number: int) -> float:
    """Return the bytes that each made object holds, including names."""
    gc.collect()
    tracemalloc.start()
    try:
        kept = await make(number)
        gc.collect()
        held, _peak = tracemalloc.get_traced_memory()
        del kept
    finally:
        tracemalloc.stop()
    return held / number


async def _subscriptions(number: int) -> EventBus:
    """Subscribe 100 components to 100 names."""
    bus = EventBus()
    owners = [f"component{place}" for place in range(100)]
    names = [f"order.event{place}" for place in range(100)]
    for place in range(number):
        await bus.subscribe(names[place % 100], owners[place // 100 % 100], wait_once)
    return bus


async def _components(number: int) -> Engine:
    """Register components that share a machine."""
    machine = StateMachine("new", [Transition("new", "confirm", "confirmed")])
    engine = Engine()
    for place in range(number):
        await engine.register(Component(f"order-{place}", machine=machine))
    return engine


def _stalled(effort: Effort) -> list[Round]:
    return [Round(anyio.run(_added, _QUICK_EVENTS if effort.quick else _EVENTS), 0.0)]


async def _added(number: int) -> float:
    """Return the growth of memory in bytes while events go through a full buffer."""
    bus = EventBus()
    async with bus.stream(EVENT, buffer=100, overflow="drop_oldest"):
        tracemalloc.start()
        try:
            # One-time allocations are made here.
            await _publish(bus, _QUICK_NUMBER)
            gc.collect()
            before, _peak = tracemalloc.get_traced_memory()
            await _publish(bus, number)
            gc.collect()
            after, _peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    return max(0, after - before)


async def _publish(bus: EventBus, number: int) -> None:
    for place in range(number):
        await bus.publish(EVENT, {"order": place})
