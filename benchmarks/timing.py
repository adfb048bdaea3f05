"""Timing: rounds of ours and of theirs in turn, in one loop, without the garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from time import get_clock_info, perf_counter, process_time
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

import anyio

from benchmarks.measuring import LeftOut, Round

if TYPE_CHECKING:
    from collections.abc import Generator

    from benchmarks.measuring import Effort, Run

Side: TypeAlias = Callable[[int], Awaitable[object]]
"""Does a thing so many times."""

Probe: TypeAlias = Callable[[], Awaitable[float]]
"""Does a thing for one round, and says what each time cost."""

# Nothing that is timed waits for anything outside, so the processor's time is all there is to it,
# and what else runs on the machine takes none of that. Some systems count it in coarse steps.
_FINE: Final = 1e-6
now: Final = process_time if get_clock_info("process_time").resolution <= _FINE else perf_counter

# A calibration that saw so little of a round can't tell how many calls fill it.
_ENOUGH: Final = 0.25


async def _nothing() -> None:
    pass


@final
@dataclass(frozen=True, slots=True)
class Pair:
    """Two sides that are held against each other.

    Attributes:
        ours: FlexiFlow's.
        theirs: the limit's or the peer's.
        close: ends what either has left running.
    """

    ours: Side
    theirs: Side
    close: Callable[[], Awaitable[object]] = _nothing


Prepare: TypeAlias = Callable[[], Awaitable[Pair]]
"""Makes the two sides, inside the loop that they run in."""


def backends() -> list[str]:
    """Name the backends that are installed."""
    return [name for name in ("asyncio", "trio") if find_spec(name) is not None]


def load(module: str) -> Any:
    """Import what may be missing; untyped, so that types can be checked without it.

    Raises:
        LeftOut: it is missing, or can't be imported.
    """
    try:
        return import_module(module)
    except ImportError as exc:
        raise LeftOut(f"{module} can't be imported: {exc}") from exc


def paired(backend: str, prepare: Prepare) -> Run:
    """Make a run that times two sides, each for as many calls as fill a round."""

    async def main(effort: Effort) -> list[Round]:
        pair = await prepare()
        try:
            ours = await calibrated(pair.ours, effort.seconds)
            theirs = await calibrated(pair.theirs, effort.seconds)
            return await alternate(effort.rounds, ours, theirs)
        finally:
            await pair.close()

    return lambda effort: anyio.run(main, effort, backend=backend)


async def alternate(rounds: int, ours: Probe, theirs: Probe) -> list[Round]:
    """Take rounds of both in turn, so that what disturbs the machine disturbs both."""
    return [Round(await ours(), await theirs()) for _ in range(rounds)]


async def calibrated(side: Side, seconds: float, clock: Callable[[], float] = now) -> Probe:
    """Find out how many calls fill a round, and return what times that many."""
    with collector_off():
        calls = 1
        while (taken := await _shortest(side, calls, clock)) < seconds * _ENOUGH:
            calls *= 4
    calls = max(1, round(calls * seconds / taken)) if taken else calls

    async def probe() -> float:
        with collector_off():
            return await _elapsed(side, calls, clock) / calls

    return probe


async def _shortest(side: Side, calls: int, clock: Callable[[], float]) -> float:
    # Of two, so that one interruption does not make a round of far too few calls.
    return min([await _elapsed(side, calls, clock) for _ in range(2)])


async def _elapsed(side: Side, calls: int, clock: Callable[[], float]) -> float:
    begun = clock()
    await side(calls)
    return clock() - begun


@contextmanager
def collector_off() -> Generator[None]:
    """Collect garbage now, and then not before this is over."""
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
