"""Many pending timers of states: their memory, and the time to set and to cancel one."""

from __future__ import annotations

import gc
import tracemalloc
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import anyio

from benchmarks.handlers import awaiting_one, idle_handlers
from benchmarks.measuring import Measure, Round
from benchmarks.timing import collector_off, now
from flexiflow import Component, Engine, State, StateMachine, Transition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.measuring import Effort

_NUMBER: Final = 100_000
_QUICK_NUMBER: Final = 5_000


class _Times(NamedTuple):
    """The seconds that each timer takes, and a bare awaited call."""

    set: float
    cancel: float
    call: float


def measures(backend: str) -> Iterator[Measure]:
    """Yield the measures of this module that depend on a backend."""
    acts: dict[str, Callable[[_Times], float]] = {
        "set": lambda times: times.set,
        "cancelled": lambda times: times.cancel,
    }
    for act, seconds in acts.items():
        yield Measure(
            figure=f"a timer of a state {act}, {_NUMBER:,} components",
            against="a bare awaited call",
            backend=backend,
            # 2.5 µs where a call takes 0.1 µs.
            at_most=25,
            run=partial(_timed, backend, seconds),
        )


def measures_of_any() -> Iterator[Measure]:
    """Yield the measure of this module that does not depend on a backend."""
    yield Measure(
        figure=f"memory of a pending timer of a state, {_NUMBER:,} components",
        against="",
        backend="",
        at_most=400,
        unit="bytes",
        run=_held,
    )


async def _components(effort: Effort) -> Engine:
    """Return an engine with components whose timers begin as soon as the engine runs."""
    machine = StateMachine(
        "new",
        [Transition("new", "expire", "expired")],
        states=[State("new", after=(3600, "expire"))],
    )
    engine = Engine()
    for place in range(_QUICK_NUMBER if effort.quick else _NUMBER):
        await engine.register(Component(f"order-{place}", machine=machine))
    return engine


def _held(effort: Effort) -> list[Round]:
    # Memory does not vary from run to run, so one round is enough.
    return [Round(anyio.run(_bytes, effort), 0.0)]


async def _bytes(effort: Effort) -> float:
    """Return the bytes that a timer holds, without its component."""
    engine = await _components(effort)
    gc.collect()
    tracemalloc.start()
    try:
        async with engine.running():
            gc.collect()
            held, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return held / len(engine.components)


def _timed(backend: str, seconds: Callable[[_Times], float], effort: Effort) -> list[Round]:
    times = anyio.run(_times, effort, backend=backend)
    return [Round(seconds(each), each.call) for each in times]


async def _times(effort: Effort) -> list[_Times]:
    engine = await _components(effort)
    call = awaiting_one(*idle_handlers(1))
    number = len(engine.components)
    times: list[_Times] = []
    for _ in range(effort.heavy_rounds):
        with collector_off():
            begun = now()
            async with engine.running():
                all_set = now()
                await call(number)
                called = now()
            ended = now()
        each = all_set - begun, ended - called, called - all_set
        times.append(_Times(*(passed / number for passed in each)))
    return times
